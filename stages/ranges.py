"""What a setting may be, and how this is said; `stages/range_table.py` holds those of all keys."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """The values that a setting may have, in words and as a test."""

    words: str
    allows: Callable[[Any], bool]


def whole(low: int, high: int | None = None) -> Range:
    """Allow whole numbers between two, both included.

    >>> whole(1).words, whole(0, 9).words, whole(1).allows(True)
    ('a whole number from 1 on', 'a whole number from 0 to 9', False)
    """
    words = f"a whole number from {low} " + ("on" if high is None else f"to {high}")
    return Range(
        words, lambda value: is_whole(value) and low <= value <= (value if high is None else high)
    )


def number(low: float, high: float = math.inf) -> Range:
    """Allow finite numbers between two, both included.

    >>> number(0).words, number(0, 1).words, number(0).allows(float("inf"))
    ('a number from 0 on', 'a number from 0 to 1', False)
    """
    words = f"a number from {low:g} " + ("on" if high == math.inf else f"to {high:g}")
    return Range(words, lambda value: is_number(value) and low <= value <= high)


def above(low: float) -> Range:
    """Allow finite numbers above one."""
    return Range(f"a number above {low:g}", lambda value: is_number(value) and value > low)


def choice(*options: str) -> Range:
    """Allow some words, and numbers that are written like them."""
    return Range(f"one of {', '.join(options)}", lambda value: str(value) in options)


def several(each: Range, count: int | None = None) -> Range:
    """Allow a list of values that are allowed each, of some length; none is empty."""
    length = "one or more" if count is None else str(count)
    return Range(
        f"a list [a,b,…] of {length}, each {each.words}",
        lambda value: (
            isinstance(value, list)
            and len(value) == (max(len(value), 1) if count is None else count)
            and all(map(each.allows, value))
        ),
    )


def rising(each: Range) -> Range:
    """Allow the two ends of an interval, the lower one first."""
    pair = several(each, 2)
    return Range(
        f"a list [from,to], each {each.words}, the lower one first",
        lambda value: pair.allows(value) and value[0] <= value[1],
    )


def either(*ranges: Range) -> Range:
    """Allow what any of several allows."""
    words = ", or ".join(one.words for one in ranges)
    return Range(words, lambda value: any(one.allows(value) for one in ranges))


def optional(one: Range) -> Range:
    """Allow null, too."""
    return either(one, Range("null", lambda value: value is None))


def is_whole(value: Any) -> bool:
    """Say whether a value is a whole number, which true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Say whether a value is a finite number."""
    return is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def is_text(value: Any) -> bool:
    """Say whether a value is text that is not empty."""
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value


SWITCH = Range("true or false", lambda value: isinstance(value, bool))
FINITE = Range("a finite number", is_number)
SHARE = number(0, 1)
POSITIVE = above(0)
NOT_NEGATIVE = number(0)
TEXT = Range("text, quoted where it looks like a number: KEY='\"2024\"'", is_text)
NAMES = Range(
    'a list of names, KEY=[cat,dog], quoted where they look like numbers: \'KEY=["1","2"]\'',
    lambda value: isinstance(value, list) and all(map(is_text, value)),
)
PROCESSES = whole(1, max(8, os.cpu_count() or 1))


def is_strategy(value: Any) -> bool:
    """Say whether a value names a strategy of Lightning, which is not imported for `auto`."""
    if value == "auto":
        return True
    from lightning.pytorch.strategies import StrategyRegistry

    return value in StrategyRegistry.available_strategies()
