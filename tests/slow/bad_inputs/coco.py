"""Bad inputs: COCO's json files."""

from __future__ import annotations

from .judge import BadInput

CASES: list[BadInput] = []
