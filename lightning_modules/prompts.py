"""What the two prompt tasks share: learn contexts on a frozen CLIP, make seeds with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, ClassVar, NoReturn

import lightning as L
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from fmawsss.cam import Softmax
from fmawsss.class_distribution import compare_patches
from fmawsss.clip.encoder import FrozenClip, ImageTokens
from fmawsss.memory_keys import ACTIVATIONS, DescribePatches
from fmawsss.metrics import SegmentationMetrics
from fmawsss.precision import widen
from fmawsss.records import Batch, SeedPrediction
from fmawsss.scenes import Scene
from fmawsss.scores import BackgroundPower, resize_then_score
from fmawsss.seeding import CamSeeder, SeedMaker
from fmawsss.seeding_batches import begin_all, finish_all, make_seeds
from lightning_modules.accumulated import SegmentationMetric
from lightning_modules.learned import require_names, require_shape

PROMPTS_VERSION = 2  # of the checkpoint; in older ones `classes` are prompt names


class PromptModule(L.LightningModule, ABC):
    """Prompts on a frozen CLIP; all of them predict seeds.

    A subclass says what they learn from (`training_loss`), and what of that never changes, so that
    it may be kept (`encode`). `classes` are the names in tables and files, `prompt_names` those of
    the same classes in prompts.
    """

    learned_by: ClassVar[tuple[str, ...]]
    made_by: ClassVar[tuple[str, ...]] = ("CAM", "CAA", "SAMS")
    only_applied: ClassVar[tuple[str, ...]] = ("seeding",)  # learning does not see them
    beside: ClassVar[tuple[str, ...]] = ("describe_patches",)  # changes neither prompts nor seeds
    strict_loading = False  # checkpoints hold the contexts only

    def __init__(
        self,
        clip: FrozenClip,
        prompts: Callable[..., nn.Module],
        classes: Sequence[str],
        prompt_names: Sequence[str],
        background: Sequence[str],
        compute_cams: Callable[..., tuple[Tensor, Tensor]],
        softmax: Softmax,
        loss: Callable[..., Any],
        seeding: SeedMaker,
        val_powers: Sequence[float],
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler],
        describe_patches: Sequence[DescribePatches] = (ACTIVATIONS,),
    ) -> None:
        super().__init__()
        self.clip = clip
        self.prompts = prompts(clip=clip, names=prompt_names, background=background)
        self.classes = tuple(classes)
        self.prompt_names = tuple(prompt_names)
        self.background = tuple(background)
        self.softmax = softmax
        self.compute_cams = partial(compute_cams, clip, softmax=softmax)
        self.loss = loss
        self.seeding = seeding
        self.describe_patches = nn.ModuleList(describe_patches).requires_grad_(False)

        # Validation: plain CAM seeds for each background power
        self.seeders = {
            power: CamSeeder(resize_then_score, BackgroundPower(power), crf=None)
            for power in val_powers
        }
        rows = ("background", *classes)
        self.metrics = nn.ModuleList(SegmentationMetric(rows) for _ in val_powers)

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
        """Score plain CAM seeds for some background powers, which choose nothing (METHOD 8)."""
        assert batch.truths is not None
        cams, *_ = self._predict_cams(batch, attention_blocks=0)
        scenes = [
            Scene(own, None, classes, None, tuple(truth.shape), None)
            for own, classes, truth in zip(cams, batch.pairs.present, batch.truths, strict=True)
        ]

        # the seeds of all powers and images come over in one piece
        begun = [seed for seeder in self.seeders.values() for seed in begin_all(seeder, scenes)]
        seeds = iter(finish_all(begun))
        for metric in self.metrics:
            metric.update([next(seeds).labels for _ in scenes], batch.truths)

    def on_validation_epoch_end(self) -> None:
        """Log the mIoU of each power over the whole split."""
        self.scores: dict[float, SegmentationMetrics] = {}
        for power, metric in zip(self.seeders, self.metrics, strict=True):
            self.scores[power] = scores = metric.compute()
            self.log(f"val/miou_power_{power:g}", scores.miou, prog_bar=True)
            ious = {f"val/iou_power_{power:g}/{name}": iou for name, iou in scores.iou.items()}
            self.log_dict(ious)
            metric.reset()

    def on_predict_start(self) -> None:
        """Encode the prompts once for the whole run."""
        with torch.no_grad():
            self._text_features = self.prompts()

    def predict_step(self, batch: Batch, batch_index: int = 0) -> list[SeedPrediction]:
        """Turn images into seeds, in one pass: tokens → CAM → CAA → seeds."""
        cams, tokens, logits = self._predict_cams(batch, self.seeding.refine.attention_blocks)
        scenes = self._list_scenes(batch, tokens, cams)

        # Refine and seed all images, and read the device once for them
        probabilities = logits[:, : len(self.classes)].softmax(dim=1)
        compared = self.softmax(logits, batch.labels)[:, len(self.classes) :]
        whole = torch.cat(cams).isfinite().all()
        refined, seeds, beside = make_seeds(
            self.seeding, scenes, beside=[probabilities, compared, whole]
        )
        *known, whole = beside
        if not whole:
            raise_broken(cams, batch.names)
        return [
            SeedPrediction(
                batch.names[index], scene.classes, scene.cams, scene.attention, refined[index],
                seeds[index], probable, scene.superpixels,
                partial(self._describe, tokens, index, scene.image),
                dict(zip(self.background, rivals.tolist(), strict=True)),
            )
            for index, (scene, probable, rivals) in enumerate(zip(scenes, *known, strict=True))
        ]  # fmt: skip

    def _predict_cams(
        self, batch: Batch, attention_blocks: int
    ) -> tuple[list[Tensor], ImageTokens, Tensor]:
        """Compute the CAMs of each image, (P, h, w); tokens and logits come along."""
        assert self._text_features is not None, "encode the prompts first"
        tokens = self.clip.encode_images(batch.images, batch.padding, attention_blocks)
        logits, cams = self.compute_cams(
            tokens, self._text_features, batch.labels, pairs=batch.pairs
        )
        return list(cams.detach().split(batch.pairs.counts)), tokens, logits.detach()

    def _list_scenes(
        self, batch: Batch, tokens: ImageTokens, cams: Sequence[Float[Tensor, "_P h w"]]
    ) -> list[Scene]:
        """List what the seeds of each image are made of, its padding cut away."""
        grids = tokens.measure_grids() if batch.padding is not None else [tokens.grid] * len(batch)
        compare = cache(partial(self._compare, tokens))
        scenes = []
        for index, (rows, columns) in enumerate(grids):
            attention = None if tokens.attention is None else tokens.attention[index]
            if attention is not None and (rows, columns) != tokens.grid:
                cells = attention.unflatten(1, tokens.grid).unflatten(0, tokens.grid)
                attention = cells[:rows, :columns, :rows, :columns].reshape(rows * columns, -1)
            original = None if batch.originals is None else batch.originals[index]
            scenes.append(
                Scene(
                    cams[index][:, :rows, :columns],
                    attention,
                    batch.pairs.present[index],
                    None if batch.superpixels is None else batch.superpixels[index],
                    batch.sizes[index],
                    None if original is None else torch.from_numpy(original),
                    partial(_take_valid, compare, tokens.valid, index),
                )
            )
        return scenes

    def _compare(self, tokens: ImageTokens) -> Float[Tensor, "B N T"]:
        """Compare the patches of a batch with all prompts, for an affinity that asks."""
        assert self._text_features is not None, "encode the prompts first"
        with torch.no_grad():
            return compare_patches(self.clip.project_tokens(tokens)[:, 1:], self._text_features)

    def _describe(
        self, tokens: ImageTokens, index: int, image: UInt8[Tensor, "H W 3"] | None
    ) -> list[Float[Tensor, "N _D"]]:
        """Describe the patches of one image of the batch, for a region memory, in each way."""
        own = tokens.take(torch.tensor([index], device=tokens.valid.device))
        return [describe(self.clip, own, image) for describe in self.describe_patches]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what was learned: the contexts, never a copy of CLIP."""
        learned, state = self._list_learned(), checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: state[name] for name in state if name in learned}
        checkpoint["version"] = PROMPTS_VERSION
        checkpoint["classes"] = list(self.classes)
        checkpoint["prompt_names"] = list(self.prompt_names)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of other classes or without the contexts.

        Raises:
            ValueError: naming what differs.
        """
        # Names; before version 2 `classes` were prompt names
        if "version" in checkpoint:
            require_names(checkpoint["classes"], self.classes, "classes")
            require_names(checkpoint["prompt_names"], self.prompt_names, "prompt names")
        elif "classes" in checkpoint:
            require_names(checkpoint["classes"], self.prompt_names, "prompt names")

        # Contexts
        learned = self._list_learned()
        missing = learned - set(checkpoint["state_dict"])
        if missing:
            raise ValueError(
                f"the checkpoint lacks {sorted(missing)}: it was made by another task or other "
                "prompts"
            )
        for name in learned:
            require_shape(checkpoint["state_dict"][name].shape, self.get_parameter(name).shape)

    def _list_learned(self) -> set[str]:
        """List the names of the parameters that are learned."""
        return {name for name, parameter in self.named_parameters() if parameter.requires_grad}


def _take_valid(
    compute: Callable[[], Tensor], valid: Bool[Tensor, "B N"], index: int
) -> Float[Tensor, "_N T"]:
    """Compute something of the patches of a batch; return that of one image, without padding."""
    return compute()[index][valid[index]]


def raise_broken(cams: Sequence[Float[Tensor, "_P h w"]], names: Sequence[str]) -> NoReturn:
    """Raise ValueError naming the first image whose CAMs are no numbers."""
    name = next(name for name, found in zip(names, cams, strict=True) if not found.isfinite().all())
    raise ValueError(
        f"the CAMs of {name} are no numbers (NaN or infinity): the weights or the checkpoint are "
        "broken, or precision is too low; train again, or set precision=32-true"
    )
