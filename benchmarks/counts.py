"""Count what a part asks of a device: operations, host reads, copies (`--count`).

On a GPU each dispatched operation is at least one launch, and each host read waits until the
device has done all that was asked before. Both can be counted on any device. This file needs
nothing of ours but the parts, so that it counts those of another checkout as well.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

KINDS = ("operations", "host reads", "copies")
READS = {
    "item", "tolist", "cpu", "numpy", "nonzero", "argwhere", "masked_select", "unique", "equal",
    "unique_consecutive", "allclose", "__bool__", "__int__", "__float__", "__index__", "__array__",
}  # fmt: skip
COPIES = {"copy_", "_to_copy", "clone"}
PER_IMAGE = ("predict_1", "predict_2", "predict_3", "predict_coco")
PER_BATCH = ("predict_batch",)
PER_STEP = ("cls", "seg", "cls_coco", "seg_coco")


class HostReads(TorchFunctionMode):
    """Count the calls that wait for the device, also where the tensor lies on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Count a call and make it."""
        name = getattr(func, "__name__", "")
        by_mask = name in ("__getitem__", "__setitem__") and holds_mask(args[1])
        if name in READS or by_mask or (name == "where" and len(args) == 1):
            self.found["mask" if by_mask else name] += 1
        return func(*args, **(kwargs or {}))


class Operations(TorchDispatchMode):
    """Count the operations that reach a device, backward passes included."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Count an operation and run it; views cost nothing on a device."""
        if not func.is_view:
            self.found[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


class Flops(TorchDispatchMode):
    """Count the floating-point operations of products, convolutions and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and count what it computes."""
        found = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=found)
        return found


def holds_mask(index: Any) -> bool:
    """Tell whether an index selects by a Boolean tensor, whose result has a size to be read."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, Tensor) and part.dtype == torch.bool for part in parts)


def count_calls(side: Callable[[], Any]) -> dict[str, Counter[str]]:
    """Count the operations, host reads and copies of a call, by name; the first one warms up."""
    side()
    with HostReads() as reads, Operations() as operations:
        side()
    copies = {name: operations.found[name] for name in COPIES if name in operations.found}
    return dict(zip(KINDS, (operations.found, reads.found, Counter(copies)), strict=True))


def count_parts(names: Sequence[str], quick: bool, device: str) -> dict[str, dict[str, int]]:
    """Count those parts of the method that this checkout has."""
    from benchmarks.inputs import PAPER, QUICK, Setting
    from benchmarks.parts import PARTS

    setting = Setting(QUICK if quick else PAPER, 16, torch.device(device), 1)
    known = [name for name in names if name in PARTS]
    found = {name: count_calls(PARTS[name](setting).ours) for name in known}
    return {name: {kind: counts[kind].total() for kind in KINDS} for name, counts in found.items()}


def count_elsewhere(
    tree: Path, names: Sequence[str], quick: bool, device: str
) -> dict[str, dict[str, int]]:
    """Count the parts of another checkout, in a process of its own."""
    asked = json.dumps([list(names), quick, device])
    done = subprocess.run(
        [sys.executable, __file__, asked],
        env={**os.environ, "PYTHONPATH": str(tree.resolve())},
        cwd=tree,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def write_table(
    ours: Mapping[str, Mapping[str, int]], beside: Mapping[str, Mapping[str, int]] | None
) -> str:
    """Write the counts as Markdown; those of another checkout stand in front of ours."""
    lines = [f"| part | {' | '.join(KINDS)} |", "|---" * (len(KINDS) + 1) + "|"]
    for name, counts in ours.items():
        known = (beside or {}).get(name)
        before = {kind: f"{known[kind]} → " if known else "" for kind in KINDS}
        units = {", per image": PER_IMAGE, ", per batch of 8": PER_BATCH, ", per step": PER_STEP}
        unit = "".join(unit for unit, parts in units.items() if name in parts)
        cells = [f"{before[kind]}{counts[kind]}" for kind in KINDS]
        lines.append(f"| {name}{unit} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    print(json.dumps(count_parts(*json.loads(sys.argv[1]))))  # noqa: T201
