"""A data set as Lightning's trainers ask for it, of images or of what an encoder made of them."""

from __future__ import annotations

import lightning as L
from torch.utils.data import DataLoader

from datamodules.base import SegmentationDataModule
from datamodules.batches import EncodedBatches
from datamodules.loading import Place, make_loader
from datamodules.sampler import EndlessMicroBatches
from fmawsss.files.features import FeatureStore
from fmawsss.records import Batch


class OnTrainer(L.LightningDataModule):
    """Serve each process of a trainer its share of `data`.

    store: features of `data`'s fixed views, to train from in place of images, which are not read.
    """

    def __init__(self, data: SegmentationDataModule, store: FeatureStore | None = None) -> None:
        super().__init__()
        self.data = data
        self.store = store
        # an image or two to validate on, and many processes
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def prepare_data(self) -> None:
        """Make what the data set makes of its files, once."""
        self.data.prepare_data()

    def setup(self, stage: str) -> None:
        """Read the splits and check what they need."""
        self.data.setup(stage)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Load micro-batches without end, from the optimiser step that the trainer stands at."""
        place = find_place(self.trainer)
        if self.store is None:
            return self.data.train_dataloader(place)
        views = self.data.describe_views(place.rank, place.world_size)
        order = EndlessMicroBatches(place.step, views.plan.micro_batches)
        return make_loader(EncodedBatches(views, self.store), self.data.loading, place.pin, order)

    def val_dataloader(self) -> DataLoader[Batch] | list:
        """Load the images to validate on; these are always read."""
        return self.data.val_dataloader(find_place(self.trainer))

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Load all images that a stage is applied to."""
        return self.data.predict_dataloader(find_place(self.trainer))


def find_place(trainer: L.Trainer | None) -> Place:
    """Ask a trainer where it stands; without one, everything is read by this process.

    Raises ValueError when Lightning would deal images to the processes that are dealt already.
    """
    if trainer is None:
        return Place()
    # Lightning keeps this setting of the trainer in a private place only.
    deals = trainer._accelerator_connector.use_distributed_sampler
    if trainer.world_size > 1 and deals:
        raise ValueError(
            "images are already dealt to the processes; set trainer.use_distributed_sampler=false"
        )
    pin = trainer.strategy.root_device.type == "cuda"
    return Place(trainer.global_rank, trainer.world_size, trainer.global_step, pin)
