"""Make the tiny CLIP and SAM from nothing: `python -m fmawsss.tiny.pretrain`.

On a CPU both train at the same time, half of the cores each, within an hour on two idle cores; on a
GPU one by one. The patches of the CLIP are told their class from the generator's masks: it is a
stand-in for a foundation model, so that the method above it can be run, tested and understood
anywhere.
"""

import argparse
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import torch

from fmawsss.tiny.models import CLIP_FILE
from fmawsss.tiny.pretrain_clip import pretrain_clip
from fmawsss.tiny.pretrain_sam import pretrain_sam

Pretraining = Callable[[Path, int, float, torch.device], dict[str, float]]
TRAININGS: dict[str, Pretraining] = {"clip": pretrain_clip, "sam": pretrain_sam}
# Large pages, and large blocks kept instead of given back to the system after every step
MALLOC_SETTINGS = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:"
    "glibc.malloc.trim_threshold=8589934592"
)
logger = logging.getLogger(__name__)


def main() -> None:
    """Read the command line and train."""
    options = read_options()
    os.environ.setdefault("GLIBC_TUNABLES", MALLOC_SETTINGS)
    names = [options.only] if options.only else list(TRAININGS)

    # A process for each, on the CPU side by side
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // len(names))
    arguments = (options.out, options.seed, options.scale, options.device, threads)
    processes = [
        context.Process(target=train, args=(name, *arguments), name=name) for name in names
    ]
    for process in processes:
        process.start()
        if options.device.type != "cpu":
            process.join()

    # All are done
    for process in processes:
        process.join()
    failed = [process.name for process in processes if process.exitcode]
    if failed:
        sys.exit(f"training failed for {', '.join(failed)}: the messages above say why")


def read_options() -> argparse.Namespace:
    """Read the command line."""
    summary = __doc__.split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m fmawsss.tiny.pretrain", description=summary)

    # What may be said
    add = parser.add_argument
    add("--out", type=Path, default=CLIP_FILE.parent, help="folder of both files")
    add("--seed", type=int, default=0)
    add("--scale", type=float, default=1.0, help="multiplies the steps; 0.002 only tries it out")
    add("--only", choices=tuple(TRAININGS), help="train one of the two")
    add("--device", type=torch.device, default=torch.device("cpu"), help="cpu or cuda")
    return parser.parse_args()


def train(
    name: str, out: Path, seed: int, scale: float, device: torch.device, threads: int
) -> None:
    """Train one model in this process, on the CPU with so many threads, and tell how good it is."""
    # This process
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True
    )
    cv2.setNumThreads(1)
    if device.type == "cpu":
        torch.set_num_threads(threads)

    # The training
    started = time.monotonic()
    metrics = TRAININGS[name](out / f"{name}.safetensors", seed, scale, device)
    text = "  ".join(f"{key} {value:.4f}" for key, value in metrics.items())
    logger.info("%s written after %.1f min: %s", name, (time.monotonic() - started) / 60, text)


if __name__ == "__main__":
    main()
