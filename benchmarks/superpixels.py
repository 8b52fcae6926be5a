"""How fast superpixels are made: `python -m benchmarks.superpixels`.

SAM of ViT-B's size with random weights, the published settings without level offsets, an image of
375 x 500, one thread, CPU time. The plain form is `SamAutomaticMaskGenerator` and a rock-sand-water
filter that compares decoded masks. A whole image of it takes a quarter of an hour: of either form
one crop is encoded and one batch of 64 points answered, and counted as often as an image has them
(5 crops, 2 048 points); small regions, filter and run lengths are timed on 300 made-up masks. The
random weights are set so that half of the masks pass the predicted IoU, and half of all are stable.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys

import torch

from benchmarks.measure import read_peak, reset_peak, run_alone
from benchmarks.superpixel_forms import FORMS, count_crops, prepare_sam
from benchmarks.superpixel_inputs import QUICK, VIT_B, Sizes

POINTS = 32**2 + 4 * 16**2
AIMS = {"after the decoder": 10, "after the encoder": 2, "total": 1.5, "peak memory": 3}
logger = logging.getLogger(__name__)


def main() -> None:
    """Time both forms, each in its process, and print a table of seconds per image and ratios."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="a tiny SAM, in seconds: the numbers mean nothing"
    )
    parser.add_argument("--form", choices=sorted(FORMS), help="time one form and print JSON")
    options = parser.parse_args()
    sizes = QUICK if options.quick else VIT_B
    if options.form:
        logger.info(json.dumps(measure_form(options.form, sizes)))
        return
    plain, ours = (run_form(form, options.quick) for form in ("plain", "ours"))
    for line in format_table(plain, ours):
        logger.info(line)


def run_form(form: str, quick: bool) -> dict[str, float]:
    """Measure one form in a fresh process, so that its peak of memory is its own."""
    return run_alone("benchmarks.superpixels", "--form", form, *(["--quick"] if quick else []))


def measure_form(form: str, sizes: Sizes) -> dict[str, float]:
    """Time the stages of one form and bring them to one image."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    start, cpu = prepare_sam(sizes), torch.device("cpu")
    held = reset_peak(cpu)
    seconds, found = FORMS[form](sizes, start)
    peak = read_peak(cpu) - held
    crops, batches = count_crops(sizes.image), POINTS / sizes.points
    parts = {
        "encoder": crops * seconds["encoder"],
        "decoder": crops * seconds["prepare"] + batches * seconds["decoder"],
        "after the decoder": batches * seconds["after"] + seconds["end"],
    }
    parts["after the encoder"] = parts["decoder"] + parts["after the decoder"]
    parts["total"] = parts["encoder"] + parts["after the encoder"]
    parts["peak memory"] = peak / 1e9
    return {**parts, "masks of the batch": found}


def format_table(plain: dict[str, float], ours: dict[str, float]) -> list[str]:
    """Write seconds (memory in GB) of both forms, how many times less ours takes, and the aim."""
    lines = ["| one image | segment_anything | ours | times less | aim |", "|---|---|---|---|---|"]
    for part in plain:
        ratio = "" if part.startswith("masks") else f"{plain[part] / max(ours[part], 1e-9):.1f}"
        unit = "" if part.startswith("masks") else " GB" if part == "peak memory" else " s"
        lines.append(
            f"| {part} | {plain[part]:.4g}{unit} | {ours[part]:.4g}{unit} | {ratio} | "
            f"{AIMS.get(part, '')} |"
        )
    return lines


if __name__ == "__main__":
    main()
