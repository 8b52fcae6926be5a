from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch
from fake_trees import build_voc_tree, make_training, make_voc, make_whole, stand_in_for_trainer

from datamodules.encoded import EncodedData
from datamodules.transforms import NoJitter, RandomView
from datamodules.voc import VocDataModule
from fmawsss.files.features import LABELS, FeatureStore, open_store

RANDOM = RandomView(NoJitter(), (40, 60), 32, 32)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_voc_tree(tmp_path_factory.mktemp("encoded") / "VOC2012")


def make_data(tree: Path) -> VocDataModule:
    training = make_training(augment=RANDOM, views=3, batch_size=4, micro_batches=2)
    data = make_voc(tree, training=training, validation=make_whole("val"))
    data.setup("fit")
    return data


def fill_store(data: VocDataModule, folder: Path) -> FeatureStore:
    """Keep every fixed view as it is, as an encoder that changes nothing would."""
    views = data.describe_views()
    rows, first = len(views.records) * views.views, views.read_view(0)
    sample = {"image": first.image[None], LABELS: first.labels[None]}
    store = open_store(folder, "views", rows, sample, "float32", 1.0)
    for batch in data.view_loader(range(rows)):
        store.write(batch.views, {"image": batch.images, LABELS: batch.labels})
    return store


@pytest.mark.parametrize(("rank", "world_size", "step"), [(0, 1, 0), (1, 2, 0), (0, 1, 3)])
def test_features_come_in_the_order_of_their_views(
    tree: Path, tmp_path: Path, rank: int, world_size: int, step: int
) -> None:
    data, source = make_data(tree), make_data(tree)
    encoded = EncodedData(data, fill_store(data, tmp_path))
    for module in (encoded, source):
        module.trainer = stand_in_for_trainer(rank, world_size, step)
    pairs = zip(encoded.train_dataloader(), source.train_dataloader(), strict=False)
    for features, images in islice(pairs, 7):
        assert features.names == images.names
        assert features.images is None
        assert torch.equal(features.encoded["image"], images.images)
        assert torch.equal(features.labels, images.labels)


def test_validation_is_that_of_the_data(tree: Path, tmp_path: Path) -> None:
    data = make_data(tree)
    encoded = EncodedData(data, fill_store(data, tmp_path))
    encoded.prepare_data()
    encoded.setup("validate")
    for left, right in zip(encoded.val_dataloader(), data.val_dataloader(), strict=True):
        assert left.names == right.names
        assert torch.equal(left.images, right.images)
        assert torch.equal(left.truths[0], right.truths[0])


def test_missing_views_are_loaded_in_their_whole_batches(tree: Path) -> None:
    data = make_data(tree)
    assert [batch.views for batch in data.view_loader([5, 6])] == [[4, 5, 6, 7]]
    assert [batch.views for batch in data.view_loader([0, 9], 1, 2)] == [[8, 9, 10, 11]]
