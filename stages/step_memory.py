"""How much memory a training step takes: said before the first one, with what makes it less."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef

from lightning_modules.network import NetworkModule
from stages.stage import Stage, Training

logger = logging.getLogger(__name__)

COPIES = 4  # of the weights: themselves, their gradients, two moments of Adam
TRANSIENT = 2  # the backward pass holds so many more of the largest tensor
GB = 2**30


def tell_memory(stage: Stage, training: Training) -> None:
    """Tell what a training step of a network takes, and warn where that is not free."""
    if rank_zero_only.rank != 0 or not isinstance(stage.module, NetworkModule):
        return  # a frozen encoder keeps nothing for a backward pass
    views = training.data.describe_views()
    height, width = views.find_size()
    images = views.plan.batch_size // views.plan.micro_batches

    # On the device that will be trained on, as far as that is known
    accelerator = stage.run.trainer.keywords.get("accelerator", "cpu")
    device = torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")
    mixed = "mixed" in str(training.loop.get("precision", stage.run.precision))
    try:
        needed = estimate_step(stage.module.network, (images, 3, height, width), device, mixed)
    except Exception as error:  # a network may do what tensors without content cannot follow
        logger.debug("%s: the memory of a step is not known (%s)", stage.name, error)
        return

    # Told, or a warning with what makes it less
    free = find_free_memory(device)
    takes = f"{stage.name}: a training step of {images} images of {height}x{width} takes about "
    takes += f"{needed / GB:.1f} GB"
    if free is None or needed < free:
        logger.info("%s", takes)
        return
    place = f"stages.{stage.name}." if len(stage.run.stages) > 1 else ""
    logger.warning(
        "%s, %.1f GB are free: more %sdata.micro_batches (now %d) take fewer images at a time, for "
        "the same step; or choose a smaller crop, or larger patches",
        takes, free / GB, place, views.plan.micro_batches,
    )  # fmt: skip


def estimate_step(
    network: nn.Module, shape: tuple[int, ...], device: torch.device, mixed: bool
) -> int:
    """Estimate the bytes that a training step of a network takes, without computing anything.

    These are the weights with what an optimiser keeps of them, what the forward pass saves for the
    backward pass, and what that needs in between. Tensors without content go through the network;
    `torch.device("meta")` would do, but networks choose their kernels by the device.

    shape: of the images of a step (B, 3, H, W).
    mixed: whether the step runs in mixed precision.
    """
    kept: list[Tensor] = []  # alive, so that no other storage takes its place

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    # The forward pass of a copy without content
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        state = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        copies = {name: mode.from_tensor(tensor).to(device) for name, tensor in state.items()}
        with hooks, torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            torch.func.functional_call(network, copies, torch.empty(shape, device=device))

    # What it saved, each storage once, beside the weights
    saved = {place_storage(tensor): tensor.untyped_storage().nbytes() for tensor in kept}
    for copy in copies.values():
        saved.pop(place_storage(copy), None)
    learned = sum(p.nbytes for p in network.parameters() if p.requires_grad)
    return COPIES * learned + sum(saved.values()) + TRANSIENT * max(saved.values(), default=0)


def place_storage(tensor: Tensor) -> int:
    """Tell the storage of a tensor from others that are alive."""
    return int(StorageWeakRef(tensor.untyped_storage()).cdata)


def find_free_memory(device: torch.device) -> int | None:
    """Return the free memory of a device in bytes; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info()[0]
    told = [read_available(Path("/proc/meminfo")), read_limit(Path("/sys/fs/cgroup"))]
    known = [number for number in told if number is not None]
    return min(known, default=None)


def read_available(path: Path) -> int | None:
    """Read what Linux calls available: free, or in caches that it gives back."""
    return read_kilobytes(path, "MemAvailable:")


def read_kilobytes(path: Path, key: str) -> int | None:
    """Read a number of bytes from a table of Linux."""
    lines = path.read_text().splitlines() if path.is_file() else []
    found = [line.split()[1] for line in lines if line.startswith(key)]
    return int(found[0]) * 1024 if found else None


def read_limit(folder: Path) -> int | None:
    """Read what a container may still take (cgroup v2); None without a limit."""
    limit, used = folder / "memory.max", folder / "memory.current"
    if not limit.is_file() or not used.is_file() or not limit.read_text().strip().isdigit():
        return None
    return int(limit.read_text()) - int(used.read_text())
