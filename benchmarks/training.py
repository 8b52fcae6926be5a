"""Training steps and sweeps of them, each as ours and as the plain formulation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from tempfile import TemporaryDirectory

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks import plain
from benchmarks.comparison import (
    Comparison,
    Results,
    Side,
    encode_text_plainly,
    run_bare_encoder,
)
from benchmarks.inputs import Recipe, Setting, build_recipe, make_training_batch
from fmawsss.cam import compute_logits
from fmawsss.files.features import LABELS, SEEDS, open_store
from fmawsss.records import Batch
from lightning_modules.prompts import PromptModule

SETTINGS = 10  # of a sweep


def compare_cls_steps(dataset: str, setting: Setting) -> Comparison:
    """Compare classification steps; as released, plain also makes CAMs with a graph, times 0."""
    recipe, batch = prepare_training("cls", dataset, setting)

    def classify_with_cams() -> Tensor:
        inputs = plain.enter_last_block(recipe.module.clip.clip.visual, batch.images)
        texts = encode_text_plainly(recipe)
        logits, cams = compute_cams_at_once(recipe, inputs, texts, batch)
        unused = plain.cam_activation_loss(cams, batch.seeds, batch.labels)
        return plain.contrastive_loss(logits[:, : batch.labels.shape[1]], batch.labels) + 0 * unused

    return compare_steps(
        f"cls step, {dataset.upper()}", recipe, batch, classify_with_cams, speed=8.0
    )


def compute_cams_at_once(
    recipe: Recipe,
    inputs: Float[Tensor, "B L D"],
    text_features: Float[Tensor, "T E"],
    batch: Batch,
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "P h w"]]:
    """Return logits and CAMs as the released code makes them, on the patch grid of the images."""
    clip, labels = recipe.module.clip.clip, batch.labels
    logits, cams = plain.compute_cams_at_once(clip, inputs, text_features, labels)
    return logits, cams.unflatten(1, (batch.images.shape[2] // 16, batch.images.shape[3] // 16))


def compare_logit_steps(setting: Setting) -> Comparison:
    """Compare classification steps with plain ones that make no CAMs either."""
    recipe, batch = prepare_training("cls", "voc", setting)

    def classify() -> Tensor:
        clip = recipe.module.clip.clip
        features, texts = plain.run_encoder(clip.visual, batch.images), encode_text_plainly(recipe)
        logits = compute_logits(features, texts, clip.logit_scale.exp())
        return plain.contrastive_loss(logits[:, : batch.labels.shape[1]], batch.labels)

    return compare_steps("cls step, VOC, plain without CAMs", recipe, batch, classify, speed=None)


def compare_seg_steps(dataset: str, setting: Setting) -> Comparison:
    """Compare segmentation steps."""
    recipe, batch = prepare_training("seg", dataset, setting)

    def segment() -> Tensor:
        inputs = plain.enter_last_block(recipe.module.clip.clip.visual, batch.images)
        _, cams = compute_cams_at_once(recipe, inputs, encode_text_plainly(recipe), batch)
        return plain.cam_activation_loss(cams, batch.seeds, batch.labels)

    return compare_steps(f"seg step, {dataset.upper()}", recipe, batch, segment, speed=5.0)


def compare_sweeps(task: str, setting: Setting) -> Comparison:
    """Compare a step of ten settings on views encoded once and kept on disk with ten plain steps.

    Where every view is seen once by every setting, this is the ratio of whole sweeps. Both sides
    are ours: the second one encodes the views for every setting.
    """
    recipe, batch = prepare_training(task, "voc", setting)
    module, known = recipe.module, {LABELS: batch.labels, SEEDS: batch.seeds}
    views = list(range(len(batch)))
    first = module.encode(batch) | known
    with TemporaryDirectory() as folder:  # the files, once mapped, outlive their names
        store = open_store(folder, task, len(views), first, "float32", max_gb=10.0)
        store.write(views, first)
    encoded = replace(batch, images=None)

    def look() -> Tensor:
        read = store.read(views)
        kept = {name: read[name].to(setting.device) for name in read.keys() - known.keys()}
        return module.training_loss(replace(encoded, encoded=kept))["loss"]

    cached = build_step(module, look)
    uncached = build_step(module, lambda: module.training_loss(batch)["loss"])

    def sweep() -> Results:
        store.write(views, module.encode(batch) | known)
        return [cached() for _ in range(SETTINGS)][-1]

    return Comparison(
        f"sweep of {SETTINGS}, {task}, {len(batch)} crops: cached, uncached",
        sweep,
        lambda: [uncached() for _ in range(SETTINGS)][-1],
        bare=lambda: run_bare_encoder(module.clip.clip, batch.images),
        speed=2.5,
    )


def prepare_training(task: str, dataset: str, setting: Setting) -> tuple[Recipe, Batch]:
    """Build a recipe and one of its micro-batches."""
    recipe = build_recipe(task, dataset, setting)
    images = max(setting.batch // recipe.micro_batches, 2)
    batch = make_training_batch(images, setting.sizes.crop, len(recipe.module.classes))
    return recipe, batch.to(setting.device)


def compare_steps(
    label: str, recipe: Recipe, batch: Batch, plain_loss: Callable[[], Tensor], speed: float | None
) -> Comparison:
    """Compare forward, backward and optimiser; aims hold for whole batches alone."""
    module = recipe.module
    whole = speed is not None and recipe.micro_batches == 1
    return Comparison(
        f"{label}, {len(batch)} crops",
        ours=build_step(module, lambda: module.training_loss(batch)["loss"]),
        plain=build_step(module, plain_loss),
        bare=lambda: run_bare_encoder(module.clip.clip, batch.images),
        speed=speed if whole else None,
        memory=0.25 if whole else None,
    )


def build_step(module: PromptModule, compute_loss: Callable[[], Tensor]) -> Side:
    """Make a training step that starts from the same contexts whenever it is called."""
    context, start = module.prompts.context, module.prompts.context.detach().clone()
    configured = module.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]

    def step() -> Results:
        with torch.no_grad():
            context.copy_(start)
        loss = compute_loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        return {"loss": loss.detach(), "gradient": context.grad.clone()}

    return step
