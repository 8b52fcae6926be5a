"""Corrections through the front door: taken back, trusted by memory and network, told where bad."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from front_door import run
from test_region_memory import BARE, copied, read_masks  # noqa: F401 (a fixture)

import infer
import train
from datamodules.batches import lay_corrected
from fmawsss.files.corrected import TrustedMasks, count_corrected, open_corrected
from fmawsss.files.journals import read_lines
from fmawsss.files.png import read_mask, write_palette_png
from fmawsss.files.products import ProductMismatch, read_record
from fmawsss.files.regions import find_values, read_regions
from fmawsss.files.storage import read_superpixels
from fmawsss.tiny.shapes import CLASS_NAMES
from fmawsss.viz import make_palette
from lightning_modules.corrected_regions import CorrectedRegions
from stages.corrections.table import read_rows

NAME = "train_00001"


class House:
    """A folder of results, and commands on it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        self.work = folder / "outputs" / "shapes"
        self.corrected = self.work / "corrected"
        self.truths = folder / "data" / "shapes-0" / "SegmentationClass"

    def infer(self, *words: str) -> None:
        """Run a command that applies."""
        run(infer.main, self.monkeypatch, *words, *BARE, *self.places("outputs"))

    def places(self, outputs: str) -> list[str]:
        """Say where data and results lie."""
        return [f"paths.data={self.folder}/data", f"paths.outputs={self.folder}/{outputs}"]

    def draw(self, *names: str, change: int = 0) -> Path:
        """Draw true masks into a folder, as a person would; `change` makes other ones of them."""
        drawn = self.folder / f"drawn{change}"
        for name in names:
            mask = np.roll(read_mask(self.truths / f"{name}.png"), change, axis=0)
            write_palette_png(drawn / f"{name}.png", mask, make_palette(256))
        return drawn

    def take(self, *names: str, words: tuple[str, ...] = ()) -> None:
        """Take true masks as corrections."""
        self.infer("task=corrections", f"corrected={self.draw(*names)}", *words)


@pytest.fixture
def house(copied, monkeypatch) -> House:  # noqa: F811
    """A finished pipeline whose memory was not asked yet."""
    return House(copied, monkeypatch)


def list_content(folder: Path) -> dict[str, bytes]:
    files = [*folder.parent.glob(f"{folder.name}.*"), *folder.rglob("*.png")]
    return {str(path): path.read_bytes() for path in files if path.suffix != ".jsonl"}


def test_corrections_are_taken_once_and_their_table_says_all(house):
    house.take(NAME)
    np.testing.assert_array_equal(
        read_mask(house.corrected / f"{NAME}.png"), read_mask(house.truths / f"{NAME}.png")
    )
    (row,) = read_rows(house.work / "corrected.csv").values()
    pixels = dict(zip(row.classes.split(";"), map(int, row.pixels.split(";")), strict=True))
    mask = read_mask(house.truths / f"{NAME}.png")
    assert pixels == {
        ("background", *CLASS_NAMES)[value]: count
        for value, count in enumerate(np.bincount(mask.ravel(), minlength=255)[:255])
        if count
    }
    assert count_corrected(house.corrected) == 1

    # once more changes nothing, others join
    before = list_content(house.corrected)
    house.take(NAME)
    assert list_content(house.corrected) == before
    house.take("train_00002")
    assert count_corrected(house.corrected) == 2


def test_another_mask_of_a_corrected_image_is_refused_unless_it_wins(house, capsys):
    house.take(NAME, "train_00002")
    drawn = house.draw(NAME, "train_00003", change=2)
    house.infer("task=corrections", f"corrected={drawn}")
    assert "corrected otherwise before, by drawn0" in capsys.readouterr().out
    first = read_mask(house.truths / f"{NAME}.png")
    np.testing.assert_array_equal(read_mask(house.corrected / f"{NAME}.png"), first)
    house.infer("task=corrections", f"corrected={drawn}", "corrected_wins=last")
    np.testing.assert_array_equal(
        read_mask(house.corrected / f"{NAME}.png"), np.roll(first, 2, axis=0)
    )
    assert count_corrected(house.corrected) == 3


def test_a_run_that_was_killed_between_two_files_goes_on(house):
    house.take(NAME)
    before = list_content(house.corrected)
    (house.work / "corrected.json").unlink()  # it goes first, and comes back last
    (house.work / "corrected.csv").unlink()
    (house.work / "corrected.files.jsonl").unlink()
    with pytest.raises(ValueError, match=r"no folder of trusted masks.*task=corrections"):
        house.infer("task=memory", "memory.least=1", f"corrected={house.corrected}")
    house.take(NAME)
    assert list_content(house.corrected) == before


def test_a_mask_that_was_painted_over_is_not_lost(house):
    house.take(NAME)
    painted = np.zeros((112, 112), np.uint8)
    write_palette_png(house.corrected / f"{NAME}.png", painted, make_palette(256))
    with pytest.raises(ValueError, match="Move them to a folder of their own"):
        house.take(NAME)
    (house.corrected / f"{NAME}.png").unlink()
    write_palette_png(house.corrected / "other.png", np.zeros((2, 2), np.uint8), make_palette(256))
    with pytest.raises(ValueError, match="1 masks that nobody took: other"):
        house.take(NAME)
    (house.corrected / "other.png").unlink()
    (house.folder / "drawn0" / f"{NAME}.png").unlink()
    house.take("train_00002")  # whose mask was removed is corrected no longer
    assert count_corrected(house.corrected) == 1


def test_nothing_that_can_be_taken_is_an_error(house):
    (house.folder / "empty").mkdir()
    with pytest.raises(ValueError, match="expected what CVAT"):
        house.infer("task=corrections", f"corrected={house.folder}/empty")
    drawn = house.draw(NAME)
    (drawn / f"{NAME}.png").rename(drawn / "nobody.png")
    with pytest.raises(ValueError, match=r"nothing of .* was taken: 1 images were refused"):
        house.infer("task=corrections", f"corrected={drawn}")
    with pytest.raises(ValueError, match="corrected=FILE"):
        house.infer("task=corrections")
    with pytest.raises(ValueError, match="expected one of background, untouched"):
        house.infer("task=corrections", "corrected=a.zip", "corrected_outside=nothing")


def test_the_memory_holds_exact_values_of_corrected_images_and_seeds_show_them(house):
    house.take(NAME)
    words = ["task=memory", "memory.least=1", f"corrected={house.corrected}"]
    house.infer(*words, "callbacks=seed_confidence")
    truth = read_mask(house.truths / f"{NAME}.png")
    known = truth != 255
    seeds = house.work / "seeds" / "coarse_memory"
    np.testing.assert_array_equal(read_mask(seeds / f"{NAME}.png")[known], truth[known])
    confidence = read_mask(house.work / "seeds" / "coarse_memory_confidence" / f"{NAME}.png")
    assert (confidence[known] == 255).all()
    lines = {line["name"]: line for line in read_lines(seeds).values()}
    assert lines[NAME]["corrected"] == round(float(known.mean()), 4)
    assert sum("corrected" in line for line in lines.values()) == 1

    # the values, pixel by pixel
    regions = read_regions(house.work / "regions" / "coarse" / f"{NAME}.npz")
    superpixels = read_superpixels(house.work / "superpixels" / f"{NAME}.npz")
    corrected = CorrectedRegions(TrustedMasks(house.corrected), house.work / "superpixels")
    values, labels = corrected.value(NAME, regions, 8)
    own = find_values(regions, 8)
    for number, mask in enumerate(superpixels.masks().numpy()):
        expected = np.mean(
            [np.eye(9)[v] if v != 255 else own[number].numpy() for v in truth[mask]], axis=0
        )
        np.testing.assert_allclose(values[number], expected, atol=1e-5)
    assert set((labels.nonzero().flatten() + 1).tolist()) >= set(truth[known].tolist()) - {0}


def test_a_mask_with_a_class_that_no_label_names_is_told_once(house, capsys):
    house.take(NAME)
    house.infer("task=memory", "memory.least=1", f"corrected={house.corrected}")
    assert "that their labels lack" not in capsys.readouterr().out
    drawn = house.draw("train_00002")
    mask = read_mask(drawn / "train_00002.png")
    absent = next(value for value in range(1, 9) if value not in mask)
    mask[:20, :20] = absent
    write_palette_png(drawn / "train_00002.png", mask, make_palette(256))
    house.infer("task=corrections", f"corrected={drawn}")
    words = ["task=memory", "memory.least=1", f"corrected={house.corrected}", "overwrite=true"]
    house.infer(*words)
    told = re.findall(
        r"masks of (\d+) images show a class that their labels lack, .*: (\w+);",
        capsys.readouterr().out,
    )
    assert told == [("1", "train_00002")]
    assert absent in read_mask(house.work / "seeds" / "coarse_memory" / "train_00002.png")


def test_a_product_knows_its_corrections(house):
    house.infer("task=memory", "memory.least=1")
    plain = read_record(house.work / "seeds" / "coarse_memory")
    assert "corrected" not in plain["upstream"]
    house.take(NAME)
    words = ["task=memory", "memory.least=1", f"corrected={house.corrected}"]
    with pytest.raises(ProductMismatch, match="made from corrected"):
        house.infer(*words)
    house.infer(*words, "overwrite=true")
    upstream = read_record(house.work / "seeds" / "coarse_memory")["upstream"]
    assert upstream["corrected"] == read_record(house.corrected)["fingerprint"]
    house.take("train_00002")
    with pytest.raises(ProductMismatch, match="made from corrected"):
        house.infer(*words)


def test_a_network_learns_from_corrections(house):
    house.take(NAME)
    seeds = house.work / "seeds" / "coarse"
    places = house.places("learned")
    words = ["task=network", f"seeds={seeds}", "loop.max_steps=1", "save_every=1"]
    corrected = f"corrected={house.corrected}"
    run(train.main, house.monkeypatch, *words, corrected, *BARE, *places)
    record = read_record(house.folder / "learned" / "shapes" / "network.ckpt")
    assert record["upstream"]["corrected"] == read_record(house.corrected)["fingerprint"]
    weights = [
        torch.load(house.folder / place / "shapes" / "network.ckpt", weights_only=True)
        for place in ("learned", "plain")
        if place == "learned"
        or run(train.main, house.monkeypatch, *words, *BARE, *house.places("plain")) is None
    ]
    first, second = (checkpoint["state_dict"] for checkpoint in weights)
    assert any(not torch.equal(first[key], second[key]) for key in first)


def test_a_seed_is_laid_over_where_it_is_corrected(tmp_path):
    seed = np.array([[1, 2, 0]], np.uint8)
    write_palette_png(tmp_path / "a.png", np.array([[255, 0, 2]], np.uint8), make_palette(256))
    found, trusted = lay_corrected(seed, tmp_path / "a.png", 2)
    assert found.tolist() == [[1, 0, 2]]
    assert trusted.tolist() == [[0, 1, 1]]
    found, trusted = lay_corrected(seed, tmp_path / "none.png", 2)
    assert found.tolist() == seed.tolist()
    assert not trusted.any()


def test_corrections_of_other_classes_are_refused(house):
    house.take(NAME)
    with pytest.raises(ValueError, match="was made for the classes circle"):
        open_corrected(house.corrected, ["cat"])
    archive = house.folder / "a.zip"
    shutil.make_archive(str(archive.with_suffix("")), "zip", house.folder / "drawn0")
    with pytest.raises(ValueError, match="is a file, expected a folder"):
        house.infer("task=memory", f"corrected={archive}")


def test_a_task_that_trusts_nothing_refuses_corrections(house):
    with pytest.raises(ValueError, match="corrected=x has no part in task=superpixels"):
        house.infer("task=superpixels", "corrected=x")
    with pytest.raises(ValueError, match="corrected=x has no part in task=check"):
        house.infer("task=check", "corrected=x")


def test_corrected_images_say_how_much_the_background_counts(house, capsys):
    house.take(*(f"train_{number:05d}" for number in range(6)))
    house.infer("task=memory", "memory.least=1", f"corrected={house.corrected}")
    told = r"3 corrected images: the background counts ([\d.]+)-fold"
    said = re.search(told, capsys.readouterr().out)
    lines = read_lines(house.work / "seeds" / "coarse_memory").values()
    assert {line.get("background", 1.0) for line in lines} == {float(said[1])}
