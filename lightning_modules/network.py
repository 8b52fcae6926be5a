"""The segmentation network: learns from seeds, predicts masks for any image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from fmawsss.networks.checkpoints import describe_classes
from fmawsss.networks.inference import SINGLE_SCALE, Answer, Inference
from fmawsss.networks.plain_data import shorten_places
from fmawsss.networks.targets import PixelTargets, trust_corrected
from fmawsss.records import Batch, MaskPrediction
from fmawsss.transfer import fetch
from lightning_modules.accumulated import SegmentationMetric
from lightning_modules.sharing import share_count


class NetworkModule(L.LightningModule):
    """Train a segmentation network on seeds of any origin; pixels of value 255 take no part.

    carried: settings that the checkpoint brings along, to be applied without a config.
    config: all settings, for people to read in the checkpoint, without places of this machine.
    """

    learned_by: ClassVar[tuple[str, ...]] = ("network training",)
    made_by: ClassVar[tuple[str, ...]] = ("network inference",)

    def __init__(
        self,
        network: Callable[..., nn.Module],
        weights: Callable[[nn.Module], None] | None,
        classes: Sequence[str],
        targets: Callable[..., PixelTargets],
        loss: Callable[..., Tensor],
        parameters: Callable[[nn.Module], list[dict[str, Any]]],
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler],
        inference: Inference,
        seed: int,
        carried: Mapping[str, Any],
        config: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.network = network(classes=len(classes) + 1)
        if weights is not None:  # those of its encoder, before anything is learned
            weights(self.network)
        self.classes = tuple(classes)
        self.targets = targets
        self.loss = loss
        self.parameter_groups = parameters
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.inference = inference
        self.seed = seed
        self.carried = dict(carried)
        self.config = shorten_places(config)
        self.metric = SegmentationMetric(("background", *classes))

    def compile_parts(self) -> None:
        """Compile what takes most of the time: the network."""
        self.network.compile()

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Compare what the network answers with the seeds."""
        assert batch.seeds is not None
        # Dropped paths and sampled points differ from step to step, and are the same after a resume
        part = batch_index % self.trainer.accumulate_grad_batches
        place = (self.seed, self.global_step, part, self.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))

        # The loss
        more = {} if batch.clearance is None else {"clearance": batch.clearance}
        targets = self.targets(batch.seeds, batch.confidence, **more)
        targets = trust_corrected(targets, batch.seeds, batch.trusted)
        loss = self.loss(self.network(batch.images), targets, partial(share_count, self.trainer))
        self.log(
            "train/loss", loss.detach(), prog_bar=True, batch_size=len(batch.names), sync_dist=True
        )
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> list[MaskPrediction]:
        """Count the confusion of every image at its own size, and return its mask."""
        assert batch.truths is not None
        answers = SINGLE_SCALE(self.network, batch.images, batch.sizes)
        predictions = fetch_answers(batch, answers)
        self.metric.update([prediction.mask for prediction in predictions], batch.truths)
        return predictions

    def on_validation_epoch_end(self) -> None:
        """Log mIoU and the IoU of each class over the whole split."""
        scores = self.metric.compute()
        self.log("val/miou", scores.miou, prog_bar=True)
        self.log_dict({f"val/iou/{name}": value for name, value in scores.iou.items()})
        self.scores = scores
        self.metric.reset()

    def predict_step(self, batch: Batch, batch_index: int = 0) -> list[MaskPrediction]:
        """Predict masks at the images' own sizes."""
        answers = self.inference(self.network, batch.images, batch.sizes, batch.originals)
        return fetch_answers(batch, answers)

    def configure_optimizers(self) -> Any:
        """Optimise the whole network, one scheduler step per optimiser step."""
        optimizer = self.optimizer(self.parameter_groups(self.network))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.scheduler(optimizer), "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add classes and carried settings: the checkpoint alone says what its masks mean."""
        checkpoint.update(describe_classes(self.classes))
        checkpoint.update(carried=self.carried, config=self.config)


def fetch_answers(batch: Batch, answers: Sequence[Answer]) -> list[MaskPrediction]:
    """Bring the network's answers to the CPU in one piece, and give them the names of their images.

    Raises ValueError for one that is no number.
    """
    found = iter(fetch([values for a in answers for values in (a.mask, a.confidence)]))
    predictions = [MaskPrediction(name, next(found), next(found)) for name in batch.names]
    for prediction in predictions:
        if not prediction.confidence.isfinite().all():
            raise ValueError(
                f"what the network answers to {prediction.name} is no number (NaN or infinity): "
                "its weights are broken, or precision is too low; train again, or set "
                "precision=32-true"
            )
    return predictions
