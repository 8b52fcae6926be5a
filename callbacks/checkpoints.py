"""What a checkpoint carries besides weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L


class CheckpointCarrier(L.Callback):
    """Put settings into every checkpoint, so that a network can be applied without the config that trained it."""

    def __init__(self, carried: Mapping[str, Any]) -> None:
        self.carried = dict(carried)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the settings."""
        checkpoint["carried"] = self.carried
