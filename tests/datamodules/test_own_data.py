"""A data set from outside the project: a class in a user's own file, named by `_target_`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from fake_trees import draw_image, make_training, make_whole, write_jpeg, write_mask
from hydra.utils import instantiate

from datamodules.base import SegmentationDataModule

OWN_FILE = """
import json
from pathlib import Path

from datamodules.base import SegmentationDataModule
from fmawsss.records import ImageRecord

FOLDER = Path(__file__).parent


class MyDataModule(SegmentationDataModule):
    def read_split(self, split: str) -> list[ImageRecord]:
        rows = json.loads((FOLDER / f"{split}.json").read_text())
        return [
            ImageRecord(name, FOLDER / f"{name}.jpg", tuple(labels), FOLDER / f"{name}.png")
            for name, labels in rows.items()
        ]
"""
LABELS = {"a": [0], "b": [1], "c": [0, 1]}


@pytest.fixture
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three images beside a module of the user's own, which stands on the path."""
    (tmp_path / "own_data_of_this_test.py").write_text(OWN_FILE)
    (tmp_path / "mine.json").write_text(json.dumps(LABELS))
    for number, name in enumerate(LABELS):
        image = draw_image(number, (32, 48))
        write_jpeg(tmp_path / f"{name}.jpg", image)
        write_mask(tmp_path / f"{name}.png", image[..., 0] % 3)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_data_of_this_test", raising=False)
    return tmp_path


def build_own(**views: object) -> SegmentationDataModule:
    """Build the user's class as a config does that names it."""
    settings = {"classes": ["cat", "dog"], "labels": None, "splits": {"train": "mine"}}
    target = {"_target_": "own_data_of_this_test.MyDataModule", "_partial_": True}
    return instantiate({**target, **settings}, _convert_="all")(labelled=True, **views)


def test_a_class_that_only_reads_its_splits_gives_batches(own_file: Path) -> None:
    data = build_own(
        training=make_training("mine", batch_size=3),
        validation=make_whole("mine"),
        whole=make_whole("mine", truths=True, batch_size=2),
    )
    for purpose in ("fit", "validate", "predict"):
        data.setup(purpose)

    batch = next(iter(data.train_dataloader()))
    assert batch.images.shape == (3, 3, 32, 48)
    shown = {
        name: row.nonzero().flatten().tolist()
        for name, row in zip(batch.names, batch.labels, strict=True)
    }
    assert shown == LABELS
    assert len(list(data.val_dataloader())) == 3
    assert [batch.names for batch in data.predict_dataloader()] == [["a", "b"], ["c"]]
    assert data.list_truths()["b"] == own_file / "b.png"
    assert (data.prompt_names, data.splits) == (("cat", "dog"), {"train": "mine"})


def test_faults_of_such_data_are_named(own_file: Path) -> None:
    data = build_own(whole=make_whole("mine"))
    (own_file / "b.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 3 images of split 'mine'.*b\.jpg"):
        data.setup("predict")
