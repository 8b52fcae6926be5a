"""What a run computes on."""

from __future__ import annotations

import logging
import sys
from typing import Any

logger = logging.getLogger(__name__)

# torch takes seconds to load, and not every command needs it: it is imported where it is used


def choose_by_device(on_cpu: Any, on_gpu: Any) -> Any:
    """Return the first of two values on the CPU, the other where there is a GPU (CUDA).

    Hydra asks while it composes, too, before torch is loaded, and forgets the answer.
    """
    if "torch" not in sys.modules and "--resolve" not in sys.argv:
        return on_cpu
    import torch

    return on_gpu if torch.cuda.is_available() else on_cpu


def tell_device() -> None:
    """Tell which device trainer=auto takes."""
    import torch

    if torch.cuda.is_available():
        logger.info("trainer=auto: a GPU, %s", torch.cuda.get_device_name())
    else:
        logger.info("trainer=auto: the CPU, for no GPU is found here")


def check_accelerator(name: str | None) -> None:
    """Raise ValueError for a GPU that is not there."""
    import torch

    if name in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"trainer.accelerator={name}: no GPU is found here; trainer=auto runs without one"
        )
