"""What a run computes on."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

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


def choose_products(stage: str, device: torch.device, precision: str, learns: bool) -> None:
    """On a GPU, let float32 products of a training run in TF32, and say what a stage computes in.

    What is predicted in float32 is so to the last product, as published (METHOD 8).
    """
    if device.type != "cuda":
        return
    import torch

    torch.set_float32_matmul_precision("high" if learns else "highest")
    torch.backends.cudnn.allow_tf32 = learns  # of convolutions; torch allows it, left alone
    doing = "learning in %s, what stays float32 in TF32" if learns else "applied in %s"
    logger.info(f"%s: on %s, {doing}", stage, torch.cuda.get_device_name(), precision)


def check_accelerator(name: str | None) -> None:
    """Raise ValueError for a GPU that is not there."""
    import torch

    if name in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"trainer.accelerator={name}: no GPU is found here; trainer=auto runs without one"
        )
