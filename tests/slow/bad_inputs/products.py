"""Bad inputs: CAMs, superpixels and records."""

from __future__ import annotations

from .judge import BadInput

CASES: list[BadInput] = []
