"""Bad inputs: values and words of the command line."""

from __future__ import annotations

from .judge import BadInput
from .project import pipeline

CASES: list[BadInput] = [
    BadInput("unknown_option", "config", ["train.py", "task=nope"], None, "task=nope", "choose"),
    BadInput("unknown_key", "config", pipeline("nope=1"), None, "nope", "there is no such key"),
]
