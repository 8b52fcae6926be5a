"""How much memory CLIP takes for the largest image: said, or refused, before any training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import prod
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_only

from datamodules.file_checks import measure_images
from datamodules.folder import FolderDataModule
from fmawsss.clip.blocks import ATTENTION_BYTES
from fmawsss.clip.encoder import FrozenClip
from fmawsss.records import ImageRecord
from fmawsss.resizing import Size, fit_longest
from lightning_modules.prompts import PromptModule
from stages.stage import Stage
from stages.step_memory import GB, find_free_memory, read_kilobytes

logger = logging.getLogger(__name__)

FLOAT = 4  # bytes
LAYERS = 25  # maps of all tokens that are alive together, in widths of the encoder
MATRICES = 6  # between all patches, in a refinement


def find_image_memory(stage: Stage) -> tuple[str, int] | None:
    """Say what the largest image of a folder is seen as, and how many bytes that takes.

    These are bytes of the process, with all that is loaded. None where no encoder looks at images
    as a whole, and for images of the sizes that the recipes were made for.
    """
    clip, data = getattr(stage.module, "clip", None), stage.output.data
    if not isinstance(clip, FrozenClip) or not isinstance(data, FolderDataModule):
        return None

    # what the encoder sees of it
    view = data.whole
    assert view is not None
    name, size = find_largest(data.read_records(view.split))
    copy = size if view.longest is None else fit_longest(size, view.longest)
    seen = view.resize.find_size(copy)
    opened = isinstance(stage.module, PromptModule)
    needed = view.batch_size * estimate_image(clip, seen, opened)
    shown = f"{name} ({size[1]}x{size[0]}), is seen as {seen[1]}x{seen[0]}"
    return shown, needed + held_memory(stage.run.device)


def tell_image_memory(stage: Stage) -> None:
    """Tell what the largest image of a folder takes, of an encoder that looks at it as a whole.

    Raises:
        ValueError: when that is more than the machine has.
    """
    found = find_image_memory(stage) if rank_zero_only.rank == 0 else None
    if found is None:
        return
    shown, needed = found
    device = stage.run.device

    # told, or refused with what makes it less
    place = f"stages.{stage.name}." if len(stage.run.stages) > 1 else ""
    told = f"{stage.name}: the largest image, {shown} and takes about {needed / GB:.1f} GB with "
    told += "all that is loaded"
    remedy = f"a smaller {place}data.resize.longest takes less, with its fourth power"
    total, free = find_memory(device), find_free_memory(device)
    if total is not None and needed > total:
        raise ValueError(f"{told}, the machine has {total / GB:.1f}: {remedy}")
    if free is not None and needed > free + held_memory(device):
        logger.warning("%s, %.1f GB are free: %s", told, free / GB, remedy)
    else:
        logger.info("%s", told)


def find_largest(records: Sequence[ImageRecord]) -> tuple[str, Size]:
    """Name the image with most pixels, and its height and width."""
    sizes = measure_images([record.image for record in records])
    found = zip((record.name for record in records), sizes, strict=True)
    return max(found, key=lambda image: prod(image[1]))


def estimate_image(clip: FrozenClip, size: Size, opened: bool) -> int:
    """Estimate the bytes that one image takes in the encoder, beside the weights.

    opened: whether its last block is kept for CAMs, and attention for their refinement.
    """
    tokens = (size[0] // clip.patch_size) * (size[1] // clip.patch_size) + 1
    heads = clip.clip.visual.transformer.resblocks[-1].attn.num_heads
    layers = LAYERS * tokens * clip.width * FLOAT
    matrix = tokens**2 * FLOAT
    if not opened:
        return layers + min(heads * matrix, ATTENTION_BYTES) + matrix
    encode = layers + min(heads * matrix, ATTENTION_BYTES) + 3 * matrix
    written = matrix  # of the image before, which a thread writes meanwhile
    return written + max(encode, layers + (2 * heads + 1) * matrix, layers + MATRICES * matrix)


def held_memory(device: torch.device) -> int:
    """Return what this process holds already, on the CPU as far as Linux tells it."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated()
    return read_kilobytes(Path("/proc/self/status"), "VmRSS:") or 0


def find_memory(device: torch.device) -> int | None:
    """Return the memory of a device, or of a container on it; None where nothing tells it."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info()[1]
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else ""
    told = [
        read_kilobytes(Path("/proc/meminfo"), "MemTotal:"),
        int(text) if text.isdigit() else None,
    ]
    return min((number for number in told if number is not None), default=None)
