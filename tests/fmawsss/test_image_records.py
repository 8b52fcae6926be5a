"""What is known of an image of a split, and how little of it is held."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from fmawsss.records import ImageRecord

PLACES = [
    ("a", "/data/images/a.jpg"),
    ("b/c", "/data/images/b/c.v2.png"),
    ("cat/cat", "/cat/cat/cat.jpg"),
    ("j", "x/j.jpg"),  # the ending holds the name, too
    ("jpg", "jpg/jpg.jpg"),
    ("film/000012", "frames/000012.jpg"),  # the path does not hold the name
    ("größe & [1]", "größe & [1].JPG"),
    ("up", "up/more.png"),
]


@pytest.mark.parametrize(("name", "path"), PLACES)
def test_paths_come_back_as_they_were(name: str, path: str) -> None:
    record = ImageRecord(name, Path(path), (1, 2), f"masks/{path}")
    assert record.image_file == str(Path(path))
    assert record.image == Path(path)
    assert record.truth_file == f"masks/{path}"
    assert copy.copy(record) == record  # as on the way to a loader process
    assert record.without_truth() == ImageRecord(name, path, (1, 2))
    assert record.without_truth().truth is None


def test_images_of_a_folder_share_what_their_names_do_not_say() -> None:
    first, second = (ImageRecord(name, f"data/{name}.jpg", None, f"m/{name}.png") for name in "xy")
    assert first.image_place is second.image_place
    assert first.truth_place is second.truth_place
    assert first != second
