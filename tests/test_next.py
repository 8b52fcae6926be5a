"""Which photos to correct next, and which labels: chosen, written, marked, read back."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from front_door import run
from test_corrections import NAME, House, house  # noqa: F401 (a fixture)
from test_region_memory import BARE, copied  # noqa: F401 (a fixture)

import infer
from datamodules.label_corrections import correct_labels
from datamodules.labels import LabelFaults
from fmawsss.choice import choose_diverse, describe_image
from fmawsss.files.journals import read_lines
from fmawsss.files.products import ProductMismatch
from stages.reports.doubts import DoubtTable, read_marks
from stages.reports.image_ranks import suspect_labels
from stages.reports.report import StageNote


def test_each_choice_is_the_most_uncertain_of_what_looks_otherwise():
    torch.manual_seed(0)
    descriptions, uncertainty = torch.randn(9, 5), torch.rand(9, dtype=torch.float64)
    found = choose_diverse(descriptions, uncertainty, [4], 20)
    directions = F.normalize(descriptions - descriptions.mean(dim=0), dim=1)
    seen = [4]
    for choice in found:
        worth = {}
        for number in set(range(9)) - set(seen):
            nearest = max(float(directions[number] @ directions[other]) for other in seen)
            worth[number] = float(uncertainty[number]) * max(1 - nearest, 0) ** 0.5
        assert choice.image == max(worth, key=worth.__getitem__)
        seen.append(choice.image)
    assert sorted(seen) == list(range(9))


def test_an_image_is_described_by_its_unsure_superpixels():
    keys = F.normalize(torch.randn(3, 4), dim=1)
    scores = torch.tensor([[0.5, 1.0, 3.0], [0.5, 0.0, 1.0]])
    expected = 0.501 * keys[0] + 0.001 * keys[1] + 0.251 * keys[2]
    torch.testing.assert_close(describe_image(keys, scores), F.normalize(expected, dim=0))
    assert not describe_image(keys[:0], scores[:, :0]).any()


def read_next(house: House) -> list[dict[str, str]]:  # noqa: F811
    with (house.work / "next.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_photos_to_correct_are_listed_and_written_alone(house):  # noqa: F811
    house.infer("task=memory", "memory.least=1")
    house.infer("task=next", "count=2", "save_as=[labelstudio,coco,cvat]")
    rows = read_next(house)
    lines = read_lines(house.work / "seeds" / "coarse_memory")
    for row in rows:
        regions = lines[row["image"]]["regions"]["memory"]
        sure = sum(share * confidence for _, share, confidence in regions)
        assert float(row["uncertainty"]) == pytest.approx(1 - sure, abs=1e-3)
    names = [row["image"] for row in rows]
    assert len(names) == 2

    # for other tools
    folder = house.work / "exports" / "next"
    assert sorted(path.stem for path in (folder / "images").iterdir()) == sorted(names)
    tasks = json.loads((folder / "labelstudio" / "tasks.json").read_text())
    assert [task["data"]["image"].rpartition("=")[2][:-4] for task in tasks] == names
    with zipfile.ZipFile(folder / "cvat.zip") as archive:
        listed = archive.read("ImageSets/Segmentation/default.txt").decode().split()
    assert listed == names

    # what comes back is not asked for again
    house.infer("task=corrections", f"corrected={folder / 'cvat.zip'}")
    house.infer("task=next", "count=9")
    assert len(read_next(house)) == 4
    assert not {row["image"] for row in read_next(house)} & set(names)


def test_photos_without_masks_say_what_to_run(house):  # noqa: F811
    with pytest.raises(FileNotFoundError, match=r"no masks to correct: make them with"):
        house.infer("task=next")
    house.infer("task=memory", "memory.least=1")
    with pytest.raises(FileNotFoundError, match="callbacks=regions"):
        house.infer("task=next", f"job.regions={house.work}/nothing")
    with pytest.raises(ValueError, match="count=0"):
        house.infer("task=next", "count=0")


LINE = {
    "name": "a",
    "labels": [0],
    "regions": {"sams": [[0, 0.5, 0.9], [2, 0.5, 0.8]]},
    "probable": [[0, 0.1], [1, 0.9]],
}
STAGE = StageNote("cls", Path("seeds"), "train", 1, ("background", "cat", "dog"))


def test_doubtful_labels_are_a_table_whose_marks_stay(tmp_path):
    path = tmp_path / "doubtful_labels.csv"
    table = DoubtTable()
    table.enter(STAGE, suspect_labels(LINE, STAGE.classes))
    table.write(path)
    text = path.read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert [(row["image"], row["class"], row["label"]) for row in rows] == [
        ("a", "cat", "listed"),
        ("a", "dog", "missing"),
    ]
    path.write_text(text.replace('pixel of it",', 'pixel of it",yes'))
    assert read_marks(path) == {("a", "cat", "listed"): "yes"}
    DoubtTable().write(path)
    assert read_marks(path) == {("a", "cat", "listed"): "yes"}
    DoubtTable().write(tmp_path / "none.csv")
    assert not (tmp_path / "none.csv").exists()


def write_marks(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["image,class,label,strength,evidence,correct", *rows]) + "\n")
    return path


def test_marked_labels_are_changed_and_others_stay(tmp_path):
    rows = ["a.jpg,cat,listed,,,yes", "a,dog,missing,,,X", "b,cat,listed,,,no", "c,cat,missing,,,y"]
    path = write_marks(tmp_path / "a.csv", *rows)
    found = correct_labels({"a": (0,), "b": (0,)}, path, ["c"], {"cat": 0, "dog": 1})
    assert found == {"a": (1,), "b": (0,)}


def test_rows_that_mean_nothing_are_refused_together(tmp_path):
    rows = ["nobody,cat,listed,,,yes", "a,cow,missing,,,yes", "a,cat,listed,,,perhaps"]
    path = write_marks(tmp_path / "a.csv", *rows, "a,cat,gone,,,yes")
    with pytest.raises(LabelFaults) as raised:
        correct_labels({"a": (0,)}, path, [], {"cat": 0})
    reasons = ["'nobody' is no image", "no class of this data set", "expected yes or no", "missing"]
    for fault, reason in zip(raised.value.faults, reasons, strict=True):
        assert reason in fault
    with pytest.raises(FileNotFoundError, match="doubtful_labels"):
        correct_labels({}, tmp_path / "none.csv", [], {})


def test_corrected_labels_are_other_labels(house):  # noqa: F811
    table = house.work / "doubtful_labels.csv"
    marked = write_marks(table, f"{NAME},moon,missing,,,yes", f"{NAME},heart,missing,,,yes")
    run(infer.main, house.monkeypatch, "task=report", f"run={house.work}")
    assert f"{NAME},moon,missing,0.000,,yes" in table.read_text()  # the report leaves it marked
    with pytest.raises(ProductMismatch, match="other images or labels"):
        house.infer("task=cls", f"dataset.label_corrections={marked}")
    own = ["prompts=handwritten", f"dataset.label_corrections={marked}"]
    places = [f"paths.data={house.folder}/data", f"paths.outputs={house.folder}/new"]
    superpixels = f"data.superpixels={house.work}/superpixels"
    run(infer.main, house.monkeypatch, "task=cls", *own, superpixels, *BARE, *places)
    lines = read_lines(house.folder / "new" / "shapes" / "seeds" / "handwritten")
    lines = lines or read_lines(house.folder / "new" / "shapes" / "seeds" / "coarse")
    assert {6, 7} <= set(lines[NAME]["labels"])
