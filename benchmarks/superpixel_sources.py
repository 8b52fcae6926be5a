"""What a photo costs with each source of superpixels: `python -m benchmarks.superpixel_sources`.

A photo of 768 x 1024, random weights of the real sizes, one thread, CPU time, each source in a
process of its own. As in `benchmarks.superpixels`, of a SAM one crop is encoded and one batch of 64
points answered, and counted as often as `masks=published` (5 crops, 2 048 points) and `masks=fast`
(1 crop, 256 points) have them; the classic one cuts the whole photo.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from segment_anything.modeling import Sam

from benchmarks.inputs import CONF
from benchmarks.measure import read_peak, reset_peak, run_alone
from benchmarks.superpixel_forms import prepare_sam, time_ours
from benchmarks.superpixel_inputs import QUICK, VIT_B, Sizes, build_sam, draw_image, smooth_masks
from fmawsss.sam.mobile import build_mobile_sam

PHOTO = (768, 1024)
VIT_H = replace(VIT_B, width=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31))
MASKS = {"published": (5, 2048), "fast": (1, 256)}  # crops, points
CLASSIC = "superpixels_classic"
logger = logging.getLogger(__name__)


def build_mobile(sizes: Sizes) -> Sam:
    """Build MobileSAM with random weights and smooth masks."""
    torch.manual_seed(0)
    return smooth_masks(build_mobile_sam())


SAMS: dict[str, tuple[Sizes, Callable[[Sizes], Sam]]] = {
    "vit_h": (VIT_H, build_sam),
    "vit_b": (VIT_B, build_sam),
    "mobile": (VIT_B, build_mobile),
}


def main() -> None:
    """Time each source in its process, and print a table of seconds per photo."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="tiny SAMs: the numbers mean nothing")
    parser.add_argument("--source", choices=[*SAMS, CLASSIC], help="time one and print JSON")
    options = parser.parse_args()
    if options.source:
        logger.info(json.dumps(measure_source(options.source, options.quick)))
        return
    found = {source: run_source(source, options.quick) for source in [*SAMS, CLASSIC]}
    for line in format_table(found):
        logger.info(line)


def run_source(source: str, quick: bool) -> dict[str, float]:
    """Measure one source in a fresh process."""
    words = ["--source", source, *(["--quick"] if quick else [])]
    return run_alone("benchmarks.superpixel_sources", *words)


def measure_source(source: str, quick: bool) -> dict[str, float]:
    """Time one source, and bring it to one photo."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    photo = QUICK.image if quick else PHOTO
    if source == CLASSIC:
        return measure_classic(photo)
    sizes, build = SAMS[source]
    sizes = replace(sizes, image=photo)
    start = prepare_sam(*((QUICK, build_sam) if quick else (sizes, build)))
    return measure_sam(QUICK if quick else sizes, start)


def measure_sam(sizes: Sizes, start: Any) -> dict[str, float]:
    """Time the stages of a SAM once each; count them as often as a photo has them."""
    held = reset_peak(torch.device("cpu"))
    seconds, _ = time_ours(sizes, start)
    return {
        "encoder": seconds["encoder"],
        **{name: count_photo(seconds, sizes.points, *of) for name, of in MASKS.items()},
        "memory": (read_peak(torch.device("cpu")) - held) / 1e9,
    }


def count_photo(seconds: Counter[str], batch: int, crops: int, points: int) -> float:
    """Count the seconds of a photo with so many crops and points."""
    once = seconds["encoder"] + seconds["prepare"]
    return crops * once + points / batch * (seconds["decoder"] + seconds["after"]) + seconds["end"]


def measure_classic(photo: tuple[int, int]) -> dict[str, float]:
    """Time the classic superpixels of a photo."""
    cut = instantiate(OmegaConf.load(CONF / "sam.yaml")[CLASSIC]).generate_batch
    held, start = reset_peak(torch.device("cpu")), time.process_time()
    cut([draw_image(photo)])
    seconds = time.process_time() - start
    return {"photo": seconds, "memory": (read_peak(torch.device("cpu")) - held) / 1e9}


def format_table(found: dict[str, dict[str, float]]) -> list[str]:
    """Write a row for each source."""
    lines = ["| sam= | image encoder | masks=published | masks=fast | memory beside the weights |"]
    lines.append("|---|---|---|---|---|")
    for source, of in found.items():
        cells = [of.get(name) for name in ("encoder", "published", "fast")]
        if source == CLASSIC:
            cells = [None, of["photo"], of["photo"]]
        told = " | ".join("" if cell is None else f"{cell:.3g} s" for cell in cells)
        lines.append(f"| `{source}` | {told} | {of['memory']:.2f} GB |")
    return lines


if __name__ == "__main__":
    main()
