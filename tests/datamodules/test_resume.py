from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from fake_trees import (
    VOC_IMAGES,
    build_voc_tree,
    make_training,
    make_voc,
    make_whole,
    stand_in_for_trainer,
)

from datamodules.base import SegmentationDataModule
from datamodules.coco import CocoDataModule
from datamodules.folder import FolderDataModule
from datamodules.loading import Loading
from datamodules.transforms import NoJitter, RandomView
from datamodules.voc import VocDataModule
from fmawsss.records import Batch


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return build_voc_tree(tmp_path / "VOC2012")


RANDOM = RandomView(NoJitter(), (40, 60), 32, 32)


def place(
    module: SegmentationDataModule, rank: int = 0, world_size: int = 1, step: int = 0
) -> SegmentationDataModule:
    """Attach a trainer to a data module: a process among several, at a step."""
    module.trainer = stand_in_for_trainer(rank, world_size, step)
    return module


def read_batches(tree: Path, count: int, **changes: Any) -> list[Batch]:
    where = {key: changes.pop(key) for key in ("rank", "world_size", "step") if key in changes}
    loading = Loading(workers=changes.pop("workers", 0))
    training = make_training(augment=RANDOM, seeds=tree / "SegmentationClassAug", **changes)
    module = make_voc(tree, training=training, loading=loading)
    module.setup("fit")
    return list(islice(place(module, **where).train_dataloader(), count))


def assert_same(left: list[Batch], right: list[Batch]) -> None:
    assert [batch.names for batch in left] == [batch.names for batch in right]
    for a, b in zip(left, right, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.seeds, b.seeds)
        assert torch.equal(a.labels, b.labels)


def test_a_training_batch(tree: Path) -> None:
    (batch,) = read_batches(tree, 1, batch_size=4)
    assert batch.images.shape == (4, 3, 32, 32)
    assert batch.images.dtype == torch.float32
    assert batch.labels.shape == (4, 3)
    assert batch.seeds.dtype == torch.uint8
    assert [VOC_IMAGES[name] for name in batch.names] == [
        tuple(row.nonzero().flatten().tolist()) for row in batch.labels
    ]
    assert batch.truths is batch.superpixels is batch.originals is batch.padding is None
    assert sorted(batch.names) == sorted(set(VOC_IMAGES) - {"2008_000015"})


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_a_resumed_run_sees_what_an_unbroken_one_sees(tree: Path, micro_batches: int) -> None:
    settings = {"batch_size": 2, "micro_batches": micro_batches}
    unbroken = read_batches(tree, 4 * micro_batches, **settings)
    resumed = read_batches(tree, 2 * micro_batches, step=2, **settings)
    assert_same(unbroken[2 * micro_batches :], resumed)


def test_any_number_of_workers_sees_the_same(tree: Path) -> None:
    alone = read_batches(tree, 5)
    assert_same(alone, read_batches(tree, 5, workers=2))
    assert_same(alone[3:], read_batches(tree, 2, workers=1, step=3))


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_two_processes_see_together_what_one_sees(tree: Path, micro_batches: int) -> None:
    settings = {"batch_size": 4, "micro_batches": micro_batches}
    alone = read_batches(tree, 3 * micro_batches, **settings)
    shares = [
        read_batches(tree, 3 * micro_batches, rank=rank, world_size=2, **settings)
        for rank in (0, 1)
    ]
    for whole, *parts in zip(alone, *shares, strict=True):
        assert torch.equal(whole.images, torch.cat([part.images for part in parts]))


class Recorder(L.LightningModule):
    """Learns nothing of use and remembers the images it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[list[str]] = []

    def training_step(self, batch: Batch) -> torch.Tensor:
        self.seen.append(batch.names)
        return self.weight.sum()

    def validation_step(self, batch: Batch) -> None:
        self.validated = batch

    def predict_step(self, batch: Batch) -> list[str]:
        return batch.names

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train(tree: Path, folder: Path, steps: int, resume: Path | None = None) -> Recorder:
    training = make_training(batch_size=2, micro_batches=2)
    data = make_voc(tree, training=training, validation=make_whole("val"))
    recorder = Recorder()
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=steps,
        accumulate_grad_batches=2,
        val_check_interval=2,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(recorder, data, ckpt_path=resume)
    trainer.save_checkpoint(folder / f"{steps}.ckpt")
    return recorder


# Lightning 2.6 asks torch's trees in a way that torch 2.15 deprecates.
TREES = pytest.mark.filterwarnings(
    "ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"
)


@TREES
@pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers")
def test_lightning_resumes_in_the_middle(tree: Path, tmp_path: Path) -> None:
    unbroken = train(tree, tmp_path, 5)
    train(tree, tmp_path, 2)
    resumed = train(tree, tmp_path, 5, tmp_path / "2.ckpt")
    assert len(unbroken.seen) == 10
    assert resumed.seen == unbroken.seen[4:]
    assert unbroken.validated.truths[0].shape == (36, 50)


@TREES
@pytest.mark.filterwarnings("ignore:The 'predict_dataloader' does not have many workers")
@pytest.mark.parametrize("module", [VocDataModule, CocoDataModule, FolderDataModule])
def test_data_sets_are_lightnings_own(module: type) -> None:
    assert issubclass(module, L.LightningDataModule)


def test_lightning_predicts_every_image_once(tree: Path, tmp_path: Path) -> None:
    data = make_voc(tree, whole=make_whole("trainaug,val", batch_size=2))
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path
    )
    assert sorted(name for names in trainer.predict(Recorder(), data) for name in names) == sorted(
        VOC_IMAGES
    )


def test_processes_share_prediction(tree: Path) -> None:
    module = make_voc(tree, whole=make_whole())
    shares = [
        [name for b in place(module, rank, 2).predict_dataloader() for name in b.names]
        for rank in (0, 1)
    ]
    assert sorted(shares[0] + shares[1]) == sorted(VOC_IMAGES)
    assert abs(len(shares[0]) - len(shares[1])) == 1


def test_lightnings_own_sampler_is_refused(tree: Path) -> None:
    module = place(make_voc(tree, whole=make_whole()), world_size=2)
    module.trainer._accelerator_connector.use_distributed_sampler = True
    with pytest.raises(ValueError, match=r"trainer\.use_distributed_sampler=false"):
        module.predict_dataloader()
