"""Training from what a frozen encoder made of fixed views: no training image is read again."""

from __future__ import annotations

import lightning as L
from torch.utils.data import DataLoader

from datamodules.base import SegmentationDataModule
from datamodules.batches import EncodedBatches
from datamodules.loading import find_place, make_loader
from datamodules.sampler import EndlessMicroBatches
from fmawsss.files.features import FeatureStore
from fmawsss.records import Batch


class EncodedData(L.LightningDataModule):
    """Train from a store of features of `data`'s fixed views, and validate as `data` does."""

    def __init__(self, data: SegmentationDataModule, store: FeatureStore) -> None:
        super().__init__()
        self.data = data
        self.store = store
        # an image or two to validate on, and many processes
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def prepare_data(self) -> None:
        """Prepare the images to validate on."""
        self.data.prepare_data()

    def setup(self, stage: str) -> None:
        """Read the splits and check what they need."""
        self.data.setup(stage)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Load micro-batches without end, from the optimiser step that the trainer stands at."""
        place = find_place(self.trainer)
        views = self.data.describe_views(place.rank, place.world_size)
        order = EndlessMicroBatches(place.step, views.plan.micro_batches)
        return make_loader(EncodedBatches(views, self.store), self.data.loading, place.pin, order)

    def val_dataloader(self) -> DataLoader[Batch] | list:
        """Load the images to validate on; these are read."""
        place = find_place(self.trainer)
        return self.data.validation_loader(place.rank, place.world_size, place.pin)
