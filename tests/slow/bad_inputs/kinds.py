"""All cases by kind, and how many of each there shall be."""

from __future__ import annotations

from importlib import import_module

from .judge import BadInput
from .seldom import CASES as SELDOM_INPUTS
from .seldom_products import CASES as SELDOM_PRODUCTS

GOALS = {
    "config": 70,
    "images": 60,
    "labels": 50,
    "coco": 40,
    "checkpoints": 30,
    "products": 30,
    "surroundings": 20,
    "corrections": 13,
    "sources": 20,
}
CASES: dict[str, list[BadInput]] = {
    kind: [
        *import_module(f".{kind}", __package__).CASES,
        *(case for case in SELDOM_INPUTS + SELDOM_PRODUCTS if case.kind == kind),
    ]
    for kind in GOALS
}
ALL = [case for cases in CASES.values() for case in cases]
