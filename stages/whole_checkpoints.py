"""Checkpoints of trainings are written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from fmawsss.files.writing import write_tensors


class WholeCheckpoints(TorchCheckpointIO):
    """Write checkpoints beside their place and then move them: no cut one is ever left.

    Lightning's own go through the folder of temporary files, from where another file system is
    reached by copying.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint, or nothing."""
        write_tensors(Path(path), checkpoint)
