"""`python -m benchmarks.memory` at small sizes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import benchmarks.memory
from fmawsss.files.regions import write_regions
from fmawsss.memory import ImageRegions

SMALL = ["--images", "40", "--measured", "8", "--width", "8"]


def read_rows(text: str) -> list[dict[str, str]]:
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def test_each_data_set_is_measured(capsys):
    benchmarks.memory.main(SMALL)
    rows = read_rows(capsys.readouterr().out)
    assert [row["like"] for row in rows] == ["voc", "coco"]
    for row in rows:
        assert 40 * 47 * 0.8 < int(row["superpixels"]) < 40 * 49 * 1.2
        assert all(float(row[way].removesuffix(" ms")) > 0 for way in ("plain", "together"))
        assert row["images that ask it"] == "0 %"


def test_images_above_the_limit_ask_the_index(capsys):
    pytest.importorskip("faiss")
    benchmarks.memory.main([*SMALL, "--like", "voc", "--exact-up-to", "0"])
    (row,) = read_rows(capsys.readouterr().out)
    assert row["images that ask it"] == "100 %"
    assert float(row["index"].removesuffix(" ms")) > 0


def test_the_index_is_compared_with_the_exact_search(tmp_path, capsys):
    pytest.importorskip("faiss")
    generator = torch.Generator().manual_seed(0)
    for number in range(30):
        keys = F.normalize(torch.randn(9, 8, generator=generator), dim=1)
        regions = ImageRegions(
            keys, torch.rand(2, 9), torch.tensor([number % 2]), torch.zeros(3).byte(), torch.ones(3)
        )
        write_regions(tmp_path / "regions" / f"{number}.npz", regions, "")
    folders = ["--regions", str(tmp_path / "regions"), "--folder", str(tmp_path)]
    benchmarks.memory.main(folders)
    said = capsys.readouterr().out
    assert said.startswith("270 superpixels in 30 images: the index finds ")
    assert 0.5 < float(said.split()[-4]) <= 1
