"""Check a whole config before anything is built: each value, unless a foreign module reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from itertools import product
from typing import Any

from stages.range_table import OF_STAGE
from stages.range_table_of_runs import OF_RUN, PAIRS
from stages.ranges import Range
from stages.words import shorten_key

STAGE = re.compile(r"^(stage|stages\.\w+)(\.|$)")
MISSING = "???"
TOLD = ("model", "learning", "applying")  # sections of a stage that its module is told
KNOWN = {
    "fmawsss", "datamodules", "lightning_modules", "callbacks", "stages", "torch", "lightning",
    "skimage", "hydra",
}  # fmt: skip


def check_ranges(config: Mapping[str, Any]) -> None:
    """Check the values of a config; interpolations that are not resolved are left out.

    Raises:
        ValueError: for values outside their ranges, with key, value and what is expected.
    """
    faults = list(find_faults(config))
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise ValueError(faults[0] + more)


def find_faults(node: Any, key: str = "") -> Iterator[str]:
    """Find values outside their ranges, and say of each what is expected."""
    expected = find_range(key)
    if isinstance(node, str) and (node == MISSING or "${" in node):
        return
    if expected is not None:
        if not expected.allows(node):
            yield f"{show_setting(key, node)}: expected {expected.words}"
    elif isinstance(node, Mapping):
        told = TOLD if is_foreign(node.get("model")) else ()
        for name, value in node.items():
            if name not in told and not str(name).startswith("_") and not is_foreign(value):
                yield from find_faults(value, f"{key}.{name}".lstrip("."))
    elif node is not None and has_keys_below(key):
        yield f"{show_setting(key, node)}: expected settings below it, {key}.NAME=…"


def check_pairs(stages: Mapping[str, Any]) -> None:
    """Check the values that must fit each other in resolved stages, by their places.

    Raises:
        ValueError: for those that do not, with keys, values and what is expected.
    """
    for place, (first, second, words, fits_to) in product(stages, PAIRS):
        keys = [f"{place}.{first}", f"{place}.{second}"]
        one, other = (select(stages[place], key) for key in (first, second))
        if None not in (one, other) and not fits_to(one, other):
            said = " with ".join(map(show_setting, keys, (one, other)))
            raise ValueError(f"{said}: expected {words}")


def select(node: Any, key: str) -> Any:
    """Select a value below a node; None where there is none."""
    for word in key.split("."):
        node = node.get(word) if isinstance(node, Mapping) else None
    return node


def is_foreign(node: Any) -> bool:
    """Say whether a module that this project does not know is called with these settings."""
    target = node.get("_target_") if isinstance(node, Mapping) else None
    return isinstance(target, str) and target.split(".")[0] not in KNOWN


def find_range(key: str) -> Range | None:
    """Find the range of a key; None for a key that has none."""
    place = STAGE.match(key)
    table, inner = (OF_STAGE, key[place.end() :]) if place else (OF_RUN, key)
    if inner in table:
        return table[inner]
    return next((one for name, one in table.items() if "*" in name and fits(inner, name)), None)


def fits(key: str, pattern: str) -> bool:
    """Say whether a key is one that a pattern stands for, word by word.

    >>> fits("paths.work", "paths.*"), fits("paths.work.deep", "paths.*")
    (True, False)
    """
    words, patterns = key.split("."), pattern.split(".")
    return len(words) == len(patterns) and all(map(fnmatchcase, words, patterns))


@cache
def has_keys_below(key: str) -> bool:
    """Say whether settings of the table stand below a key."""
    place = STAGE.match(key)
    table, inner = (OF_STAGE, key[place.end() :]) if place else (OF_RUN, key)
    depth = inner.count(".") + 1
    starts = (".".join(name.split(".")[:depth]) for name in table if name.count(".") >= depth)
    return not inner or any(fits(inner, start) for start in starts)


def show_setting(key: str, value: Any) -> str:
    """Write a setting as one types it."""
    return f"{shorten_key(key)}={show(value)}"


def show(value: Any) -> str:
    """Write a value as one types it."""
    if isinstance(value, list):
        return f"[{','.join(map(show, value))}]"
    if isinstance(value, Mapping):
        return "{…}"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)
