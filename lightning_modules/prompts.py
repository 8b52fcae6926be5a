"""Shared base of the two prompt tasks: learn contexts on a frozen CLIP, turn images into seeds with
them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import lightning as L
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from fmawsss.affinity import AffinityRefiner, NoRefinement
from fmawsss.cam import Softmax
from fmawsss.clip.encoder import FrozenClip, ImageTokens
from fmawsss.metrics import SegmentationMetric, SegmentationScores
from fmawsss.precision import widen
from fmawsss.records import Batch
from fmawsss.scores import BackgroundPower, resize_then_score
from fmawsss.seeding import CamSeeder, Seed, Seeder
from fmawsss.superpixels import Superpixels


@dataclass(frozen=True)
class SeedPrediction:
    """What one image gives: CAMs, refined CAMs, and seeds by the step that made them (`cam`, `caa`,
    `sams`).
    """

    name: str
    classes: Int[Tensor, "P"]
    cams: Float[Tensor, "P h w"]
    attention: Float[Tensor, "N N"] | None
    refined: Float[Tensor, "P h w"]
    seeds: dict[str, Seed]
    probabilities: Float[Tensor, "C"] | None = (
        None  # of each class against the others, labelled or not
    )

    def masks(self) -> dict[str, UInt8[Tensor, "H W"]]:
        """Return the label maps to score, by the step that made them."""
        return {kind: seed.labels for kind, seed in self.seeds.items()}


@dataclass(frozen=True)
class SeedMaker:
    """CAM → CAA → seeds (METHOD 5-7). The seed `sams` is the product; `cam` and `caa` show what
    each step adds.
    """

    refine: AffinityRefiner | NoRefinement
    cam: Seeder
    caa: Seeder
    sams: Seeder

    def make(
        self,
        cams: Float[Tensor, "P h w"],
        attention: Float[Tensor, "N N"] | None,
        classes: Int[Tensor, "P"],
        superpixels: Superpixels | None,
        size: tuple[int, int],
        image: UInt8[Tensor, "H W 3"] | None = None,
    ) -> tuple[Float[Tensor, "P h w"], dict[str, Seed]]:
        """Refine the CAMs of one image and seed from them at `size` (H, W); without superpixels
        there is no `sams`.

        Only a CRF looks at the image itself.
        """
        refined = self.refine(cams, attention)
        seeds = {
            "cam": self.cam(cams, classes, None, size, image),
            "caa": self.caa(refined, classes, None, size, image),
        }
        if superpixels is not None:
            seeds["sams"] = self.sams(refined, classes, superpixels, size, image)
        return refined, seeds


class PromptModule(L.LightningModule, ABC):
    """Prompts on a frozen CLIP; all of them predict seeds.

    A subclass says what they learn from (`training_loss`), and what of that never changes, so that
    it may be kept (`encode`).
    """

    strict_loading = False  # checkpoints hold the contexts only

    def __init__(
        self,
        clip: FrozenClip,
        prompts: Callable[..., nn.Module],
        classes: Sequence[str],
        background: Sequence[str],
        compute_cams: Callable[..., tuple[Tensor, Tensor]],
        softmax: Softmax,
        loss: Callable[..., Any],
        seeding: SeedMaker,
        val_powers: Sequence[float],
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler],
    ) -> None:
        super().__init__()
        self.clip = clip
        self.prompts = prompts(clip=clip, names=classes, background=background)
        self.classes = tuple(classes)
        self.compute_cams = partial(compute_cams, clip, softmax=softmax)
        self.loss = loss
        self.seeding = seeding
        self.seeders = {
            power: CamSeeder(resize_then_score, BackgroundPower(power), crf=None)
            for power in val_powers
        }
        self.metrics = nn.ModuleList(
            SegmentationMetric(("background", *classes)) for _ in val_powers
        )
        self.optimizer = optimizer
        self.scheduler = scheduler
        self._text_features: Tensor | None = None

    @abstractmethod
    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """Return what training needs of the frozen image encoder, by name."""

    @abstractmethod
    def training_loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Return the losses of a batch by name; `loss` is the one to minimise."""

    def compile_parts(self) -> None:
        """Compile what takes most of the time: the frozen image encoder."""
        self.clip.encode_images = torch.compile(self.clip.encode_images)

    def look(self, batch: Batch) -> dict[str, Tensor]:
        """Return what `encode` gives, or what it gave before and a cache kept."""
        if batch.encoded is None:
            return self.encode(batch)
        return {k: widen(v) if v.is_floating_point() else v for k, v in batch.encoded.items()}

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Compute and log the losses."""
        losses = self.training_loss(batch)
        for name, value in losses.items():
            self.log(
                f"train/{name}",
                value.detach(),
                prog_bar=name == "loss",
                batch_size=len(batch.names),
                sync_dist=True,
            )
        return losses["loss"]

    def configure_optimizers(self) -> Any:
        """Optimise the contexts, one scheduler step per optimiser step."""
        optimizer = self.optimizer([p for p in self.parameters() if p.requires_grad])
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.scheduler(optimizer), "interval": "step"},
        }

    def on_validation_epoch_start(self) -> None:
        """Encode the prompts as they are now."""
        self.on_predict_start()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Score plain CAM seeds for a grid of background powers; nothing is chosen by them (METHOD
        8).
        """
        assert batch.truths is not None
        cams, *_ = self._predict_cams(batch, attention_blocks=0)
        for image, truth in enumerate(batch.truths):
            classes = batch.labels[image].nonzero().flatten()
            for seeder, metric in zip(self.seeders.values(), self.metrics, strict=True):
                metric.update(seeder(cams[image], classes, None, tuple(truth.shape)).labels, truth)

    def on_validation_epoch_end(self) -> None:
        """Log the mIoU of each power over the whole split."""
        self.scores: dict[float, SegmentationScores] = {}
        for power, metric in zip(self.seeders, self.metrics, strict=True):
            self.scores[power] = scores = metric.compute()
            self.log(f"val/miou_power_{power:g}", scores.miou, prog_bar=True)
            self.log_dict(
                {f"val/iou_power_{power:g}/{name}": iou for name, iou in scores.iou.items()}
            )
            metric.reset()

    def on_predict_start(self) -> None:
        """Encode the prompts once for the whole run."""
        with torch.no_grad():
            self._text_features = self.prompts()

    def predict_step(self, batch: Batch, batch_index: int = 0) -> list[SeedPrediction]:
        """Turn images into seeds, in one pass: tokens → CAM → CAA → seeds."""
        cams, tokens, logits = self._predict_cams(batch, self.seeding.refine.attention_blocks)
        probabilities = logits[:, : len(self.classes)].softmax(dim=1)
        return [
            self._predict_image(batch, index, tokens, *parts)
            for index, parts in enumerate(zip(cams, probabilities, strict=True))
        ]

    def _predict_cams(
        self, batch: Batch, attention_blocks: int
    ) -> tuple[list[Tensor], ImageTokens, Tensor]:
        """Compute the CAMs of the present classes of each image, (P, h, w) each; tokens and logits
        come along.
        """
        assert self._text_features is not None, "encode the prompts first"
        tokens = self.clip.encode_images(batch.images, batch.padding, attention_blocks)
        logits, cams = self.compute_cams(tokens, self._text_features, batch.labels)
        return list(cams.detach().split(batch.labels.sum(dim=1).tolist())), tokens, logits.detach()

    def _predict_image(
        self,
        batch: Batch,
        index: int,
        tokens: ImageTokens,
        cams: Float[Tensor, "P h w"],
        probabilities: Float[Tensor, "C"],
    ) -> SeedPrediction:
        """Make the seeds of one image of the batch, its padding cut away."""
        height, width = tokens.grid
        valid = tokens.valid[index].view(height, width)
        rows, columns = int(valid.any(dim=1).sum()), int(valid.any(dim=0).sum())
        attention = tokens.attention
        if attention is not None:
            keep = tokens.valid[index]
            attention = attention[index][keep][:, keep]
        classes = batch.labels[index].nonzero().flatten()
        superpixels = batch.superpixels[index] if batch.superpixels is not None else None
        cams = cams[:, :rows, :columns]
        image = torch.from_numpy(batch.originals[index]) if batch.originals is not None else None
        refined, seeds = self.seeding.make(
            cams, attention, classes, superpixels, batch.sizes[index], image
        )
        return SeedPrediction(
            batch.names[index], classes, cams, attention, refined, seeds, probabilities
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what was learned: the contexts, never a copy of CLIP."""
        learned = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        checkpoint["state_dict"] = {
            k: v for k, v in checkpoint["state_dict"].items() if k in learned
        }
        checkpoint["classes"] = list(self.classes)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of other classes or without the contexts.

        Raises:
            ValueError: naming what differs.
        """
        if list(checkpoint.get("classes", self.classes)) != list(self.classes):
            raise ValueError(
                f"the checkpoint was trained for classes {checkpoint['classes']}, this run has "
                f"{list(self.classes)}; "
                "use the data set that it was trained on, or train again"
            )
        learned = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        missing = learned - set(checkpoint["state_dict"])
        if missing:
            raise ValueError(
                f"the checkpoint lacks {sorted(missing)}: it was made by another task or other "
                "prompts"
            )
        for name in learned:
            require_shape(checkpoint["state_dict"][name].shape, self.get_parameter(name).shape)


def require_shape(found: Sequence[int], expected: Sequence[int]) -> None:
    """Raise ValueError naming the settings that differ unless a checkpoint's contexts have the
    shape of these.
    """
    if tuple(found) == tuple(expected):
        return
    settings = (
        "prompts=shared"
        if found[0] == 1
        else "prompts=per_class (and the same classes and background)",
        f"prompts.contexts.length={found[1]}",
        "clip",
    )
    remedies = [
        s for s, ours, theirs in zip(settings, expected, found, strict=False) if ours != theirs
    ]
    raise ValueError(
        f"the checkpoint holds contexts of shape {tuple(found)} (contexts, length, width), these "
        "prompts are of "
        f"{tuple(expected)}; choose what it was trained with: {', '.join(remedies)}"
    )
