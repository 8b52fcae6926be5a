"""The segmentation network: learns from seeds, predicts masks for any image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from datamodules.sample import Batch
from fmawsss.checkpoints import describe_classes
from fmawsss.inference import SINGLE_SCALE, Inference
from fmawsss.metrics import SegmentationMetric


@dataclass(frozen=True)
class MaskPrediction:
    """The mask of one image at its own size (0 background, else class index + 1), and the probability of each."""

    name: str
    mask: UInt8[Tensor, "H W"]
    confidence: Float[Tensor, "H W"]

    def masks(self) -> dict[str, UInt8[Tensor, "H W"]]:
        """Return the mask to score."""
        return {"network": self.mask}


class NetworkModule(L.LightningModule):
    """Train a segmentation network on seeds of any origin; pixels of value 255 take no part."""

    def __init__(
        self,
        network: Callable[..., nn.Module],
        classes: Sequence[str],
        loss: Callable[[Tensor, Tensor], Tensor],
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler],
        inference: Inference,
    ) -> None:
        super().__init__()
        self.network = network(classes=len(classes) + 1)
        self.classes = tuple(classes)
        self.loss = loss
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.inference = inference
        self.carried: dict[str, Any] = {}  # settings that a checkpoint brings along, to be applied without a config
        self.config: dict[str, Any] = {}  # all settings, for people to read
        self.metric = SegmentationMetric(("background", *classes))

    def compile_parts(self) -> None:
        """Compile what takes most of the time: the network."""
        self.network.compile()

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Compare the network's logits with the seeds."""
        assert batch.seeds is not None
        loss = self.loss(self.network(batch.images), batch.seeds.long())
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch.names))
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Count the confusion of every image at its own size."""
        assert batch.truths is not None
        answers = SINGLE_SCALE(self.network, batch.images, batch.sizes)
        for answer, truth in zip(answers, batch.truths, strict=True):
            self.metric.update(answer.mask, truth)

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
        return [MaskPrediction(n, a.mask, a.confidence) for n, a in zip(batch.names, answers, strict=True)]

    def configure_optimizers(self) -> Any:
        """Optimise the whole network, one scheduler step per optimiser step."""
        optimizer = self.optimizer([p for p in self.parameters() if p.requires_grad])
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.scheduler(optimizer), "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the classes and the carried settings, so that the checkpoint alone says what its masks mean."""
        checkpoint.update(describe_classes(self.classes), carried=self.carried, config=self.config)
