"""Seeds of many images at once (METHOD 5 to 7): what `SeedMaker.make` makes one by one.

Images whose CAMs have one shape share every operation: `torch.vmap` runs the formula of one image
for all of them, to the same last bit on a CPU. A device is read twice a batch: for the CAMs whose
contours OpenCV traces, and for all that the CPU then finishes, when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from fmawsss.affinity import Affinity, AffinityRefiner, check_attention, strip_partial
from fmawsss.pooling import add_runs, average_runs, pool_mean, pool_sum, sum_runs
from fmawsss.scenes import Scene, SceneAffinity, cut_blocks, gather_equal, map_images
from fmawsss.scores import BackgroundPower, resize_maps, score_cams
from fmawsss.seeding import (
    CamSeeder,
    Seed,
    Seeder,
    SeedMaker,
    SuperpixelSeeder,
    label_channels,
)
from fmawsss.superpixels import Superpixels, require_superpixels
from fmawsss.transfer import fetch

SETTLE = {pool_mean: average_runs, pool_sum: add_runs}  # how the CPU ends what `sum_runs` began


@dataclass(frozen=True, eq=False)
class Begun:
    """A seed as a device leaves it: `finish` makes it of `tensors`, once they are on the CPU."""

    tensors: Sequence[Tensor]
    finish: Callable[..., Seed]


class Seeds(Mapping[str, Seed]):
    """The seeds of one image by kind, each painted when it is first asked for."""

    def __init__(self, painters: Mapping[str, Callable[[], Seed]]) -> None:
        self.painters = painters
        self.painted: dict[str, Seed] = {}

    def __getitem__(self, kind: str) -> Seed:
        if kind not in self.painted:
            self.painted[kind] = self.painters[kind]()
        return self.painted[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self.painters)

    def __len__(self) -> int:
        return len(self.painters)


def make_seeds(
    maker: SeedMaker, scenes: Sequence[Scene], beside: Sequence[Tensor] = ()
) -> tuple[list[Tensor], list[Seeds], list[Tensor]]:
    """Return refined CAMs, seeds of each image, and, on the CPU, what stands `beside` them."""
    # on the device
    refined = refine_all(maker.refine, scenes)
    finer = [replace(scene, cams=cams) for scene, cams in zip(scenes, refined, strict=True)]
    begun = {
        "cam": begin_all(maker.cam, [replace(scene, superpixels=None) for scene in scenes]),
        "caa": begin_all(maker.caa, [replace(scene, superpixels=None) for scene in finer]),
    }
    if any(scene.superpixels is not None for scene in scenes):
        begun["sams"] = begin_all(maker.sams, finer)

    # over in one piece
    asked = [tensor for seeds in begun.values() for seed in seeds for tensor in seed.tensors]
    found = fetch([*asked, *beside])
    arrived = iter(found)
    painters: list[dict[str, Callable[[], Seed]]] = [{} for _ in scenes]
    for kind, seeds in begun.items():
        for own, seed in zip(painters, seeds, strict=True):
            own[kind] = partial(seed.finish, *(next(arrived) for _ in seed.tensors))
    return refined, [Seeds(own) for own in painters], list(arrived)


def refine_all(
    refine: Affinity | SceneAffinity, scenes: Sequence[Scene]
) -> list[Float[Tensor, "P h w"]]:
    """Refine the CAMs of each image, those of one grid together."""
    if isinstance(refine, SceneAffinity):
        return refine.refine_scenes(scenes)
    if not isinstance(refine, AffinityRefiner):
        images = [None if s.image is None else s.image.to(s.cams.device) for s in scenes]
        return [refine(s.cams, s.attention, i) for s, i in zip(scenes, images, strict=True)]

    # the boxes of all pairs, with one look at the device for each grid
    attention = [check_attention(scene.cams, scene.attention) for scene in scenes]
    boxes: dict[int, Tensor] = {}
    for numbers in gather_equal([scene.cams.shape[1:] for scene in scenes]):
        cams = [scenes[number].cams for number in numbers]
        marked = refine.mask_boxes(score_cams(torch.cat(cams)), refine.threshold)
        boxes |= zip(numbers, marked.split([len(own) for own in cams]), strict=True)

    # the formula, for all images with as many pairs
    refined: dict[int, Tensor] = {}
    for numbers in gather_equal([scene.cams.shape for scene in scenes]):
        for block in cut_blocks(numbers, attention[numbers[0]].numel()):
            parts = zip(*((scenes[n].cams, boxes[n], attention[n]) for n in block), strict=True)
            refined |= zip(block, map_images(refine.spread, *parts), strict=True)
    return [refined[number] for number in range(len(scenes))]


def begin_all(seeder: Seeder, scenes: Sequence[Scene]) -> list[Begun]:
    """Begin the seed of each image on the device, those of one shape and size together."""
    begin = choose_begin(seeder)
    begun: dict[int, Begun] = {}
    for numbers in gather_equal([(scene.cams.shape, scene.size) for scene in scenes]):
        height, width = scenes[numbers[0]].size
        for block in cut_blocks(numbers, len(scenes[numbers[0]].cams) * height * width):
            begun |= zip(block, begin([scenes[number] for number in block]), strict=True)
    return [begun[number] for number in range(len(scenes))]


def finish_all(begun: Sequence[Begun]) -> list[Seed]:
    """Bring what a device left to the CPU in one piece, and make the seeds of it."""
    found = iter(fetch([tensor for seed in begun for tensor in seed.tensors]))
    return [seed.finish(*(next(found) for _ in seed.tensors)) for seed in begun]


def choose_begin(seeder: Seeder) -> Callable[[list[Scene]], list[Begun]]:
    """Choose how images of one shape and size are begun: together, where we know how."""
    if type(seeder) is CamSeeder and seeder.crf is None:
        return partial(begin_pixels, seeder)
    if type(seeder) is SuperpixelSeeder and strip_partial(seeder.pool) in SETTLE:
        return partial(begin_superpixels, seeder)
    return partial(begin_apart, seeder)


def begin_apart(seeder: Seeder, scenes: Sequence[Scene]) -> list[Begun]:
    """Make the seed of each image by itself."""
    begun = []
    for scene in scenes:
        seed = seeder(scene.cams, scene.classes, scene.superpixels, scene.size, scene.image)
        begun.append(Begun((seed.labels, seed.confidence), partial(_replace_maps, seed)))
    return begun


def begin_pixels(seeder: CamSeeder, scenes: Sequence[Scene]) -> list[Begun]:
    """Choose the best of background and present classes for every pixel of each image."""
    if not len(scenes[0].classes):
        return begin_apart(seeder, scenes)

    # the scores of all images (B, Q, H, W)
    oppose = seeder.background or BackgroundPower(seeder.background_power)
    size = scenes[0].size
    scores = map_images(lambda cams: oppose(seeder.score(cams, size)), [s.cams for s in scenes])

    # the best of them, as `choose_labels` does
    labels = torch.stack([label_channels(scores.shape[1], scene.classes) for scene in scenes])
    best = scores.argmax(1, keepdim=True)
    confidence = scores.gather(1, best)[:, 0]
    chosen = labels.to(scores.device, non_blocking=True).gather(1, best.flatten(1))
    found = zip(chosen.view_as(confidence), confidence, strict=True)
    return [Begun(maps, partial(Seed, fell_back=False)) for maps in found]


def begin_superpixels(seeder: SuperpixelSeeder, scenes: Sequence[Scene]) -> list[Begun]:
    """Sum what the CPU then pools on superpixels and paints."""
    size = scenes[0].size
    found = [require_superpixels(scene.superpixels, size) for scene in scenes]
    if seeder.fill is not None or not len(scenes[0].classes) or not all(map(len, found)):
        return begin_apart(seeder, scenes)
    sums = sum_runs(
        map_images(lambda cams: seeder.prepare(resize_maps(cams, size)), [s.cams for s in scenes]),
        found,
    )
    return [
        Begun(own, partial(_paint, seeder, scene.classes, superpixels))
        for own, scene, superpixels in zip(sums, scenes, found, strict=True)
    ]


def _replace_maps(seed: Seed, labels: Tensor, confidence: Tensor) -> Seed:
    return replace(seed, labels=labels, confidence=confidence)


def _paint(
    seeder: SuperpixelSeeder, classes: Tensor, superpixels: Superpixels, *sums: Tensor
) -> Seed:
    pooled = SETTLE[strip_partial(seeder.pool)](sums, superpixels)
    return seeder.paint(pooled, classes, superpixels, pooled.device, None)
