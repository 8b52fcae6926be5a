"""Show fixed views to the frozen encoder of a prompt task, once, for a feature cache."""

from __future__ import annotations

import lightning as L
from torch import Tensor

from fmawsss.files.features import LABELS, SEEDS
from fmawsss.records import Batch
from lightning_modules.prompts import PromptModule


class FeatureModule(L.LightningModule):
    """Encode views as the training of the prompt module `task` would."""

    def __init__(self, task: PromptModule) -> None:
        super().__init__()
        self.task = task

    def predict_step(self, batch: Batch, batch_index: int = 0) -> dict[str, Tensor]:
        """Return all that training needs of a batch of views: features, labels, seeds."""
        known = {LABELS: batch.labels, SEEDS: batch.seeds}
        given = {name: value for name, value in known.items() if value is not None}
        return self.task.encode(batch) | given
