"""How much memory a training step takes: said before the first one, with what makes it less."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
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
ROOM = 1.3  # over what one image was measured to save: points drawn anew, gaps of the allocator
STRIPES = 4  # labels of the blank seed that a step is measured with
GB = 2**30


def tell_memory(stage: Stage, training: Training) -> None:
    """Tell what a training step of a network takes, and warn where that is not free."""
    if rank_zero_only.rank != 0 or not isinstance(stage.module, NetworkModule):
        return  # a frozen encoder keeps nothing for a backward pass
    plan = training.data.describe_views().plan
    images, _, height, width = describe_step(training)
    device = stage.run.device
    place = f"stages.{stage.name}." if len(stage.run.stages) > 1 else ""
    micro = f"{place}data.micro_batches (now {plan.micro_batches})"
    needed = find_step_memory(stage, training)
    if needed is None:
        logger.info(
            "%s: what a step takes is not known; if it is too much, more %s", stage.name, micro
        )
        return

    # Told, or a warning with what makes it less
    free = find_free_memory(device)
    takes = f"{stage.name}: a training step of {images} images of {height}x{width} takes about "
    takes += f"{needed / GB:.1f} GB"
    if free is None or needed < free:
        logger.info("%s", takes)
        return
    logger.warning(
        "%s, %.1f GB are free: more %s take fewer images at a time, for the same step; or choose a "
        "smaller crop, or larger patches",
        takes, free / GB, micro,
    )  # fmt: skip


def describe_step(training: Training) -> tuple[int, int, int, int]:
    """Describe the images that a training step sees at a time, (B, 3, H, W)."""
    views = training.data.describe_views()
    height, width = views.find_size()
    return views.plan.batch_size // views.plan.micro_batches, 3, height, width


def find_step_memory(stage: Stage, training: Training) -> int | None:
    """Find the bytes of a training step of a network on its device; None where nothing tells."""
    if not isinstance(stage.module, NetworkModule):
        return None
    device = stage.run.device
    precision = str(training.loop.get("precision", stage.run.precision))
    mixed = precision == "bf16-mixed" or (precision == "16-mixed" and device.type != "cpu")
    return find_needed(stage.module, describe_step(training), device, mixed)


def find_needed(
    module: NetworkModule, shape: tuple[int, ...], device: torch.device, mixed: bool
) -> int | None:
    """Estimate the bytes of a step, or measure them; None for a network that allows neither."""
    try:
        return estimate_step(module.network, shape, device, mixed)
    except Exception as error:  # it may ask tensors without content for numbers
        logger.debug("a step cannot be followed without content (%s)", error)
    try:
        return measure_step(module, shape, mixed)
    except Exception as error:  # it may be made for other images
        logger.debug("a step cannot be measured (%s)", error)
        return None


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
    # The forward pass of a copy without content
    kept: list[Tensor] = []
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        state = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        copies = {name: mode.from_tensor(tensor).to(device) for name, tensor in state.items()}
        with keep_saved(kept), torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            torch.func.functional_call(network, copies, torch.empty(shape, device=device))
    return sum_step(network, kept, copies.values(), 1)


def measure_step(module: NetworkModule, shape: tuple[int, ...], mixed: bool) -> int:
    """Measure what one blank image of a batch takes on the CPU, and count the others like it.

    Its seed shows the background and three classes, side by side.
    """
    images, _, height, width = shape
    stripes = torch.arange(width) * STRIPES // width
    seeds = stripes.clamp(max=len(module.classes)).to(torch.uint8).expand(1, height, width)
    sure = torch.full_like(seeds, 255)

    # The forward pass and the loss
    network, kept = module.network, list[Tensor]()
    buffers = {
        name: buffer.clone() for name, buffer in network.named_buffers()
    }  # may be counted in
    hooks, cast = keep_saved(kept), torch.autocast("cpu", torch.bfloat16, enabled=mixed)
    with torch.random.fork_rng([]), cast, hooks:
        answer = torch.func.functional_call(network, buffers, torch.zeros(1, *shape[1:]))
        module.loss(answer, module.targets(seeds, sure))
    weights = [*network.parameters(), *buffers.values()]
    return sum_step(network, kept, weights, images * ROOM)


def keep_saved(kept: list[Tensor]) -> AbstractContextManager[None]:
    """Keep what a forward pass saves, alive, so that no other storage takes its place."""

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    hooks: AbstractContextManager[None] = torch.autograd.graph.saved_tensors_hooks(keep, pass_on)
    return hooks


def pass_on(tensor: Tensor) -> Tensor:
    """Give back what was saved."""
    return tensor


def sum_step(
    network: nn.Module, kept: Sequence[Tensor], weights: Iterable[Tensor], times: float
) -> int:
    """Add up a step: what the forward pass saved, each storage once and `times`, and weights."""
    saved = {place_storage(tensor): tensor.untyped_storage().nbytes() for tensor in kept}
    for tensor in weights:
        saved.pop(place_storage(tensor), None)
    learned = sum(p.nbytes for p in network.parameters() if p.requires_grad)
    passed = sum(saved.values()) + TRANSIENT * max(saved.values(), default=0)
    return COPIES * learned + round(times * passed)


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
