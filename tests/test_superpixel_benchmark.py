"""The superpixel benchmark runs, and both of its forms keep the same number of masks."""

from __future__ import annotations

from PIL import Image

from benchmarks import real_photos
from benchmarks.superpixel_sources import CLASSIC, run_source
from benchmarks.superpixel_sources import format_table as format_sources
from benchmarks.superpixels import AIMS, format_table, run_form


def test_both_forms_make_the_same_masks():
    plain, ours = (run_form(form, quick=True) for form in ("plain", "ours"))
    assert plain["masks of the batch"] == ours["masks of the batch"] > 0
    table = "\n".join(format_table(plain, ours))
    assert all(f"| {part} | " in table for part in AIMS)


def test_each_source_has_a_row():
    found = {source: run_source(source, quick=True) for source in ("mobile", CLASSIC)}
    table = format_sources(found)
    assert [line.split(" | ")[0] for line in table[2:]] == ["| `mobile`", f"| `{CLASSIC}`"]
    assert found["mobile"]["published"] > found["mobile"]["fast"] > found["mobile"]["encoder"] > 0


def test_real_photos_are_drawn(tmp_path):
    real_photos.main(["--photos", "cat", "--out", str(tmp_path / "photos.webp")])
    with Image.open(tmp_path / "photos.webp") as picture:
        assert picture.width > 4 * real_photos.SIDE
