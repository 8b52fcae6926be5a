from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.given_cams import report_other_classes
from datamodules.shown import report_unshown, require_shown
from fmawsss.files.storage import read_cams, write_cams
from fmawsss.records import Cams, ImageRecord


@dataclass
class Source:
    """A data set of these records."""

    records: list[ImageRecord]
    labelled: bool = False

    def read_split(self, split: str) -> list[ImageRecord]:
        return self.records


def write_masks(folder: Path, *values: int) -> list[ImageRecord]:
    records = []
    for index, value in enumerate(values):
        path = folder / f"{index}.png"
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(path)
        records.append(ImageRecord(str(index), folder / f"{index}.jpg", (index,), path))
    return records


@pytest.mark.parametrize("value", [0, 255])
def test_masks_that_show_no_class_are_told(tmp_path, caplog, value):
    records = write_masks(tmp_path, value, value)
    with pytest.raises(ValueError, match="none of the 2 seeds"):
        require_shown(records, tmp_path, 3)
    with caplog.at_level(logging.WARNING):
        report_unshown(records)
    assert "no mask of 2 shows any class" in caplog.text
    assert "0.png" in caplog.text


def test_one_mask_with_a_class_is_enough(tmp_path, caplog):
    records = write_masks(tmp_path, 1, 0, 255)
    require_shown(records, tmp_path, 3)
    report_unshown(records)
    assert not caplog.text


def test_seeds_of_another_data_set_are_refused(tmp_path):
    records = write_masks(tmp_path, 1, 3, 255)
    with pytest.raises(ValueError, match=r"1\.png holds the value 3, expected 0 to 2 or 255"):
        require_shown(records, tmp_path, 2)


def test_seeds_of_classes_that_are_not_labelled_are_told(tmp_path, caplog):
    records = write_masks(tmp_path, 1, 1, 255)  # of images with the classes 0, 1 and 2
    with caplog.at_level(logging.WARNING):
        require_shown(records, tmp_path, 3)
    assert "not among the labels, in 1 of 3 images that were looked at: 1;" in caplog.text


def write_image_cams(path: Path, classes: list[int], value: float = 1.0) -> None:
    write_cams(path, Cams(torch.full((1, 2, 2), value), torch.tensor(classes), None), "")


@pytest.mark.parametrize(("shift", "images"), [(0, 0), (1, 2)])
def test_cams_of_other_classes_are_told(tmp_path, caplog, shift, images):
    records = write_masks(tmp_path, 1, 1)
    for index in range(2):
        write_image_cams(tmp_path / f"{index}.npz", [index + shift])
    with caplog.at_level(logging.WARNING):
        report_other_classes(Source(records), "all", tmp_path)
    assert ("in 2 of 2 images" in caplog.text) == bool(images)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_cams_that_are_no_numbers_are_refused(tmp_path, value):
    write_image_cams(tmp_path / "a.npz", [0], value)
    with pytest.raises(ValueError, match=r"a\.npz holds CAMs.*no numbers"):
        read_cams(tmp_path / "a.npz")
