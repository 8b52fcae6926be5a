"""The parts of the method, each as ours and as the plain formulation, on the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks import plain, plain_seeds
from benchmarks.comparison import (
    Comparison,
    Results,
    compute_cams_plainly,
    encode_text_plainly,
    run_bare_encoder,
)
from benchmarks.inputs import (
    Setting,
    build_recipe,
    make_attention,
    make_cams,
    make_seeding_batch,
    make_superpixels,
    make_training_batch,
)
from benchmarks.masks import compare_masks
from benchmarks.superpixel_inputs import VIT_B, VIT_H
from benchmarks.training import (
    compare_cls_steps,
    compare_logit_steps,
    compare_seg_steps,
    compare_sweeps,
)
from fmawsss.affinity import AffinityRefiner


def compare_encoders(setting: Setting) -> Comparison:
    """Compare images to features."""
    clip = build_recipe("cls", "voc", setting).module.clip
    images = make_training_batch(setting.batch, setting.sizes.crop, classes=20).images.to(
        setting.device
    )

    @torch.no_grad()
    def encode() -> Results:
        return {"features": clip.pool_images(clip.encode_images(images, None, attention_blocks=0))}

    return Comparison(
        f"image encoder, {setting.batch} crops", encode, lambda: run_bare_encoder(clip.clip, images)
    )


def compare_text(task: str, dataset: str, setting: Setting) -> Comparison:
    """Compare prompts to text features, forward only."""
    recipe = build_recipe(task, dataset, setting)
    where = "first" if recipe.names_first else "last"
    return Comparison(
        f"text encoder, {len(recipe.names)} prompts, name {where}",
        ours=torch.no_grad()(lambda: {"features": recipe.module.prompts()}),
        plain=torch.no_grad()(lambda: {"features": encode_text_plainly(recipe)}),
    )


def compare_cams(setting: Setting) -> Comparison:
    """Compare CAMs, forward only, from the input of the last block on."""
    recipe = build_recipe("cls", "voc", setting)
    module = recipe.module
    batch = make_training_batch(setting.batch, setting.sizes.crop, len(module.classes))
    batch = batch.to(setting.device)
    tokens = module.clip.encode_images(batch.images, None, attention_blocks=0)
    with torch.no_grad():
        texts = module.prompts()

    @torch.no_grad()
    def ours() -> Results:
        return {"cams": module.compute_cams(tokens, texts, batch.labels)[1]}

    def plainly() -> Results:
        with torch.no_grad():
            return {"cams": compute_cams_plainly(recipe, tokens.inputs, texts, batch)[1]}

    return Comparison(f"CAMs of {setting.batch} crops, last block only", ours, plainly)


def compare_affinity(grid: tuple[int, int], setting: Setting) -> Comparison:
    """Compare refinements of two CAMs, by the mean attention or by that of all blocks (plain)."""
    refiner = build_recipe("cls", "voc", setting).module.seeding.refine
    cams = make_cams(2, grid).to(setting.device)
    stored = make_attention(grid[0] * grid[1], blocks=12).to(setting.device)
    attention = stored[-refiner.attention_blocks :, 1:, 1:].mean(dim=0)
    return Comparison(
        f"CAA, {grid[0] * grid[1]} patches, 2 classes",
        ours=lambda: {"refined": refiner(cams, attention)},
        plain=lambda: {"refined": refine_plainly(refiner, cams, stored)},
        speed=10.0,
    )


def compare_seeding(setting: Setting) -> Comparison:
    """Compare SAMS on two CAMs."""
    seeder = build_recipe("cls", "voc", setting).module.seeding.sams
    size, classes = setting.sizes.image, torch.tensor([3, 11], device=setting.device)
    superpixels = make_superpixels(setting.sizes.superpixels, size)
    cams, power = make_cams(2, setting.sizes.grids[0]).to(setting.device), seeder.background_power
    return Comparison(
        f"SAMS, {len(superpixels)} superpixels, 2 classes",
        ours=lambda: {"labels": seeder(cams, classes, superpixels, size).labels},
        plain=lambda: {"labels": plain_seeds.paint_seed(cams, classes, superpixels, power)[0]},
        speed=20.0,
        memory=0.25,
    )


def compare_prediction(dataset: str, present: Sequence[int], setting: Setting) -> Comparison:
    """Compare the seeding of images with so many classes; plain encodes the prompts every time."""
    recipe = build_recipe("cls", dataset, setting)
    module, clip = recipe.module, recipe.module.clip.clip
    batch = make_seeding_batch(present, setting.sizes, len(module.classes)).to(setting.device)
    module.on_predict_start()

    @torch.no_grad()
    def ours() -> Results:
        found = module.predict_step(batch)
        # two masks may be equally sure but for rounding: what is on top cannot be compared
        sure = [own.seeds["sams"].confidence for own in found]
        cams, refined = [own.cams for own in found], [own.refined for own in found]
        return {"cams": torch.cat(cams), "refined": torch.cat(refined), "sure": torch.stack(sure)}

    @torch.no_grad()
    def plainly() -> Results:
        inputs, attention = plain.store_attention(clip.visual, batch.images)
        _, cams = compute_cams_plainly(recipe, inputs, encode_text_plainly(recipe), batch)
        power = module.seeding.sams.background_power
        refined, sure = [], []
        for image, own in enumerate(cams.split(list(present))):
            classes = batch.labels[image].nonzero().flatten()
            refined.append(refine_plainly(module.seeding.refine, own, attention[:, image]))
            found = plain_seeds.paint_seed(refined[-1], classes, batch.superpixels[image], power)
            sure.append(found[1])
        return {"cams": cams, "refined": torch.cat(refined), "sure": torch.stack(sure)}

    alone = len(present) == 1
    return Comparison(
        f"prediction, {dataset.upper()}, {name_images(present)}",
        ours,
        plainly,
        bare=lambda: run_bare_encoder(clip, batch.images),
        speed=2.3,
        per_bare=round(1.25 + 0.12 * (present[0] - 1), 2) if alone else None,
        memory=0.25 if dataset == "voc" and present == (2,) else None,
    )


def name_images(present: Sequence[int]) -> str:
    """Name images by how many there are, one image by its classes."""
    if len(present) > 1:
        return f"{len(present)} images at once"
    return f"{present[0]} {'class' if present[0] == 1 else 'classes'}"


def refine_plainly(
    refiner: AffinityRefiner, cams: Float[Tensor, "P h w"], attention: Float[Tensor, "blocks L L"]
) -> Float[Tensor, "P h w"]:
    """Refine with the settings of a recipe."""
    settings = refiner.iterations, refiner.threshold, refiner.power
    return plain_seeds.refine(cams, refiner.values(cams), attention, *settings)


ON_A_CARD = ("masks_vit_b", "masks_vit_h")  # a processor takes minutes for one image
PARTS: Mapping[str, Callable[[Setting], Comparison]] = {
    "masks_vit_b": partial(compare_masks, "ViT-B", VIT_B),
    "masks_vit_h": partial(compare_masks, "ViT-H", VIT_H),
    "image": compare_encoders,
    "text_voc_cls": partial(compare_text, "cls", "voc"),
    "text_voc_seg": partial(compare_text, "seg", "voc"),
    "text_coco": partial(compare_text, "cls", "coco"),
    "cams": compare_cams,
    "cls": partial(compare_cls_steps, "voc"),
    "logits": compare_logit_steps,
    "seg": partial(compare_seg_steps, "voc"),
    "sweep_cls": partial(compare_sweeps, "cls"),
    "sweep_seg": partial(compare_sweeps, "seg"),
    "cls_coco": partial(compare_cls_steps, "coco"),
    "seg_coco": partial(compare_seg_steps, "coco"),
    "caa_768": lambda setting: compare_affinity(setting.sizes.grids[0], setting),
    "caa_1600": lambda setting: compare_affinity(setting.sizes.grids[1], setting),
    "sams": compare_seeding,
    "predict_1": partial(compare_prediction, "voc", (1,)),
    "predict_2": partial(compare_prediction, "voc", (2,)),
    "predict_3": partial(compare_prediction, "voc", (3,)),
    "predict_batch": partial(compare_prediction, "voc", (1, 2, 1, 3, 1, 2, 1, 1)),
    "predict_coco": partial(compare_prediction, "coco", (2,)),
}
