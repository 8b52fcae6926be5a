"""Fingerprints of settings: equal ones, one fingerprint; different ones, the keys that differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

ABSENT = "(absent)"


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Hash settings to 16 hexadecimal digits.

    The order of keys makes no difference, nor do tuple or list, 1 or 1.0.
    """
    text = json.dumps(flatten(settings), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten nested mappings and sequences to dotted keys and plain values.

    Raises ValueError for a value that is no number, string, boolean or None, and for two values
    under one dotted key.
    """
    flat: dict[str, Any] = {}
    for key, value in _walk("", settings):
        if key in flat:
            raise ValueError(
                f"settings hold two values under {key!r}: rename the key that has a dot in it"
            )
        flat[key] = value
    return flat


def differing_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """List the dotted keys, sorted, whose values differ or that only one of the two has."""
    left, right = flatten(old), flatten(new)
    return sorted(
        key for key in left.keys() | right.keys() if _show(left, key) != _show(right, key)
    )


def _walk(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the leaves under a dotted prefix; an empty container is a leaf."""
    if isinstance(value, Mapping) and (value or not prefix):
        for key in value:
            yield from _walk(f"{prefix}.{key}" if prefix else str(key), value[key])
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes) and value:
        for index, item in enumerate(value):
            yield from _walk(f"{prefix}.{index}", item)
    else:
        yield prefix, _canonise(prefix, value)


def _canonise(key: str, value: Any) -> Any:
    """Give equal leaves one form."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        return {}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return []
    raise ValueError(
        f"setting {key!r} is a {type(value).__name__}, expected numbers, strings, booleans, None, "
        "and lists and dictionaries of them: resolve the config first "
        "(OmegaConf.to_container(config, resolve=True))"
    )


def _show(flat: Mapping[str, Any], key: str) -> str:
    return json.dumps(flat[key]) if key in flat else ABSENT
