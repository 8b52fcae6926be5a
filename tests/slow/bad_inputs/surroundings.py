"""Bad inputs: disks, links, locks and signals."""

from __future__ import annotations

from .judge import BadInput

CASES: list[BadInput] = []
