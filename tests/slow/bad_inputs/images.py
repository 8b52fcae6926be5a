"""Bad inputs: images and masks."""

from __future__ import annotations

from .judge import BadInput

CASES: list[BadInput] = []
