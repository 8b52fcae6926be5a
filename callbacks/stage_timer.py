"""Enter the time, device and memory of each training or prediction into `run.json`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn

from callbacks.training_signals import measure_peak
from fmawsss.files.json_files import RUN_FILE, read_json, write_json


class StageTimer(L.Callback):
    """Enter seconds, steps or images, device and peak memory of a stage into `run.json`."""

    def __init__(self, folder: Path, stage: str, action: str) -> None:
        self.folder = folder
        self.stage = stage
        self.action = action
        self.images = 0
        self.started = 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self.started = time.monotonic()

    on_predict_start = on_fit_start

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Count the images of this process."""
        self.images += len(batch)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Enter a training."""
        self._enter(trainer, steps=trainer.global_step)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Enter a prediction."""
        self._enter(trainer, images=self.images * trainer.world_size)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Note how far the stage was when a signal stopped it."""
        if not isinstance(exception, SystemExit):
            return
        where = f"{self.action} after {self.images} images"
        if trainer.state.fn == TrainerFn.FITTING:
            where = f"learn after step {trainer.global_step} of {trainer.max_steps}"
        exception.add_note(f"stage {self.stage}, {where}")

    def _enter(self, trainer: L.Trainer, **amounts: int) -> None:
        """Enter what was done, on the first process, where a record is kept."""
        if not trainer.is_global_zero or not (self.folder / RUN_FILE).is_file():
            return

        # What was done, where, and what it took
        device = trainer.strategy.root_device
        entry = {
            "stage": self.stage,
            "action": self.action if "images" in amounts else "learn",
            "seconds": round(time.monotonic() - self.started, 1),
            **amounts,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "processes": trainer.world_size,
            "precision": str(trainer.precision),
            "peak_memory_gb": round(measure_peak(device), 2),
        }

        # Beside what is there
        record = read_json(self.folder / RUN_FILE)
        write_json(self.folder / RUN_FILE, {**record, "stages": [*record["stages"], entry]})
