"""Bad inputs: checkpoints."""

from __future__ import annotations

from .judge import BadInput

CASES: list[BadInput] = []
