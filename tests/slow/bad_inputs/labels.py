"""Bad inputs: label files."""

from __future__ import annotations

from .judge import BadInput

CASES: list[BadInput] = []
