"""Keep the last complete step of a training that a signal stops, in a checkpoint of its own."""

from __future__ import annotations

import time
from copy import deepcopy
from pathlib import Path
from typing import Any, Protocol

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging

STOPPED = "stopped_{:06d}.ckpt"
QUICK = 0.5  # seconds; a step that takes no longer is waited for


class Guard(Protocol):
    """What keeps signals from cutting something in two."""

    @property
    def stopped(self) -> BaseException | None:
        """What came in the meantime."""

    def hold(self) -> None:
        """Hold signals back."""

    def release(self) -> None:
        """Let signals through again; raises what came in the meantime."""


class StepKeeper(Checkpoint):
    """Remember complete steps, and write down the last one when the training is stopped.

    A signal waits for the end of a quick step, and cuts a slow one off. Before slow steps and
    validations the step before is remembered: parameters and moments are only referred to, since
    nothing changes them before the next step of the optimiser, during which signals wait. Buffers
    change in every forward pass and are copied.

    val_every: steps from one validation to the next; None for none.
    """

    def __init__(self, folder: Path, val_every: int | None, guard: Guard) -> None:
        self.folder = folder
        self.val_every = val_every
        self.guard = guard
        self.state: dict[str, Any] | None = None
        self.stepping = self.delays_end = False
        self.ended = 0.0

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Hold signals back while parameters change."""
        self.guard.hold()
        self.stepping, self.state = True, None

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Remember a complete step where that is due; only then signals come through."""
        if not self.stepping:  # gradients were only added up
            return
        began, self.ended, self.stepping = self.ended, time.monotonic(), False
        slow = self.ended - began > QUICK or self.validates(trainer.global_step)
        if not slow and self.guard.stopped is None:
            return
        if trainer.is_global_zero:
            self.state = remember(trainer, pl_module)
        self.guard.release()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let signals through."""
        self.guard.release()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Write the last complete step, unless a regular checkpoint holds it."""
        if not isinstance(exception, SystemExit | KeyboardInterrupt):
            return self.guard.release()
        if self.state is None or swaps(trainer):
            return
        step = self.state["global_step"]
        if not (self.folder / f"step_{step:06d}.ckpt").is_file():
            trainer.strategy.save_checkpoint(self.state, self.folder / STOPPED.format(step))

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Have the validation of the checkpoint's step done again: it may have been cut off."""
        if not self.validates(checkpoint["global_step"]):
            return
        demand_validation(checkpoint["loops"]["fit_loop"])
        if checkpoint["global_step"] == trainer.max_steps:  # else nothing would be done at all
            self.delays_end = True
            trainer.fit_loop.epoch_loop.max_steps += 1

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let a training end that went on only for its last validation."""
        if self.delays_end:
            self.delays_end = False
            trainer.fit_loop.epoch_loop.max_steps -= 1

    def validates(self, step: int) -> bool:
        """Say whether a validation follows a step."""
        return self.val_every is not None and step % self.val_every == 0


def remember(trainer: L.Trainer, module: L.LightningModule) -> dict[str, Any]:
    """Return a checkpoint of this step that stays true until parameters change.

    Lightning offers only to write one; what it would write is in a private place.
    """
    state = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
    state["callbacks"] = deepcopy(state["callbacks"])
    buffers = {name for name, _ in module.named_buffers()}
    for key in state.keys() & {"state_dict", "current_model_state"}:
        tensors = state[key].items()
        state[key] = {name: v.clone() if name in buffers else v for name, v in tensors}
    return state


def swaps(trainer: L.Trainer) -> bool:
    """Say whether averaged weights stand in the place of the weights, as they do to validate."""
    averages = any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks)
    return averages and bool(trainer.validating)


def demand_validation(fit_loop: dict[str, Any]) -> None:
    """Mark a training as stopped within a validation of which nothing is done.

    Lightning, which writes checkpoints before it validates, would take it for done.
    """
    progress = fit_loop["epoch_loop.val_loop.batch_progress"]
    begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    progress["total"] = begun
    progress["current"] = dict.fromkeys(begun, 0)
    fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1  # counted after a validation
