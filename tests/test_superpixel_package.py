"""Superpixels travel as one archive, and are those of a machine that never cut them."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from package_tools import CUT, SIZES, Elsewhere, export, keep, rewrite

from fmawsss.files.fingerprints import fingerprint
from fmawsss.files.png import read_mask
from fmawsss.files.products import ProductMismatch


@pytest.fixture(scope="module")
def packed(finished: Path, tmp_path_factory) -> Path:
    """The superpixels of the finished pipeline, written by the door."""
    folder = tmp_path_factory.mktemp("superpixels") / "mine"
    export(folder, finished / "data", finished / "outputs")
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    return Elsewhere(tmp_path / "elsewhere", monkeypatch)


def test_the_card_says_what_they_are(packed: Path, finished: Path) -> None:
    card = (packed / "README.md").read_text()
    for told in ("6 images", "`tiny_sam`", "`shapes`", "`weights`", "terms of the images"):
        assert told in card
    assert str(finished) not in card
    assert sorted(path.name for path in packed.iterdir()) == ["README.md", "superpixels.tar"]


def test_another_machine_takes_them_for_its_own(
    packed: Path, finished: Path, elsewhere: Elsewhere, capsys
) -> None:
    elsewhere.unpack(packed)
    before = elsewhere.list_files()
    elsewhere.infer("task=superpixels", f"masks.points_per_side={CUT}", *SIZES, "report=none")
    assert "is complete for train, skipped" in capsys.readouterr().out
    assert elsewhere.list_files() == before

    # seeds of them are those of the machine that cut them
    words = [f"ckpt={finished}/outputs/shapes/cls.ckpt", "learn=all", "logger=none", "report=none"]
    elsewhere.infer("task=cls", *words, *SIZES)
    masks = sorted((elsewhere.work / "seeds/coarse").glob("*.png"))
    assert len(masks) == 6
    for mask in masks:
        cut = finished / "outputs/shapes/seeds/coarse" / mask.name
        np.testing.assert_array_equal(read_mask(mask), read_mask(cut))


def test_the_same_superpixels_are_the_same_bytes(
    packed: Path, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    elsewhere.unpack(packed)
    export(tmp_path / "again", elsewhere.folder / "data", elsewhere.folder / "outputs")
    for name in ("superpixels.tar", "README.md"):
        assert (tmp_path / "again" / name).read_bytes() == (packed / name).read_bytes()


def test_the_same_command_changes_nothing_and_makes_good(
    packed: Path, elsewhere: Elsewhere, capsys
) -> None:
    elsewhere.unpack(packed)
    before = elsewhere.list_files()
    elsewhere.unpack(packed)
    assert "0 of them newly" in capsys.readouterr().out
    assert elsewhere.list_files() == before
    (elsewhere.superpixels / "train_00002.npz").write_bytes(b"")
    (elsewhere.superpixels / "train_00003.npz").unlink()
    elsewhere.unpack(packed / "superpixels.tar")
    after = elsewhere.list_files()
    for name in ("train_00002.npz", "train_00003.npz", "superpixels.json"):
        assert after[name] == before[name]


def test_a_repository_of_the_hub_is_fetched(
    packed: Path, elsewhere: Elsewhere, monkeypatch
) -> None:
    asked = []

    def fetch(name: str, file: str, revision: str | None = None, repo_type: str = "") -> str:
        asked.append((name, file, repo_type))
        return str(packed / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    elsewhere.unpack("me/superpixels")
    assert asked == [("me/superpixels", "superpixels.tar", "dataset")]
    assert len(list(elsewhere.superpixels.glob("*.npz"))) == 6


def test_an_image_that_the_package_lacks_is_told_and_cut(
    packed: Path, elsewhere: Elsewhere, tmp_path: Path, capsys
) -> None:
    fewer = rewrite(packed, tmp_path, keep, lambda lines: lines[1:])
    elsewhere.unpack(fewer)
    assert "1 images have no superpixels: train_00000" in capsys.readouterr().out
    record = json.loads((elsewhere.work / "superpixels.json").read_text())
    assert not record["parts"]["train"]["complete"]
    before = elsewhere.list_files()
    elsewhere.infer("task=superpixels", f"masks.points_per_side={CUT}", *SIZES, "report=none")
    after = elsewhere.list_files()
    with tarfile.open(packed / "superpixels.tar") as archive:
        assert after["train_00000.npz"] == archive.extractfile("train_00000.npz").read()
    assert all(after[name] == before[name] for name in before if name.endswith(".npz"))


def test_superpixels_of_other_images_are_refused(
    packed: Path, elsewhere: Elsewhere, capsys
) -> None:
    with pytest.raises(ValueError, match=r"none of which is among the 6 here.*6 have the name"):
        elsewhere.unpack(packed, "dataset.draw_seed=77")
    assert not elsewhere.superpixels.exists()

    # of one that was painted over, these alone
    elsewhere.unpack(packed)
    shutil.rmtree(elsewhere.folder / "outputs")
    images = sorted(elsewhere.folder.glob("data/*/JPEGImages/train_*"))
    shutil.copy(images[1], images[0])
    elsewhere.unpack(packed)
    assert "1 images have other files here" in capsys.readouterr().out
    assert len(list(elsewhere.superpixels.glob("*.npz"))) == 5


def test_superpixels_that_somebody_edited_stay(packed: Path, elsewhere: Elsewhere) -> None:
    elsewhere.unpack(packed)
    shutil.copy(
        elsewhere.superpixels / "train_00001.npz", elsewhere.superpixels / "train_00002.npz"
    )
    before = elsewhere.list_files()
    with pytest.raises(ProductMismatch, match=r"was changed since it was made.*train_00002"):
        elsewhere.unpack(packed)
    assert elsewhere.list_files() == before


def test_superpixels_of_other_settings_stay(packed: Path, elsewhere: Elsewhere) -> None:
    elsewhere.infer("task=superpixels", "masks.points_per_side=3", *SIZES, "report=none")
    before = elsewhere.list_files()
    with pytest.raises(ProductMismatch, match=r"applying\.generator\.points_per_side"):
        elsewhere.unpack(packed)
    assert elsewhere.list_files() == before


def test_fingerprints_of_records_are_those_of_their_settings(finished: Path) -> None:
    record = json.loads((finished / "outputs/shapes/superpixels.json").read_text())
    assert fingerprint({"settings": record["settings"], "upstream": {}}) == record["fingerprint"]
