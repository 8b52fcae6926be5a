"""Names as people write them: any Unicode that a file system or a spreadsheet holds."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

NASTY = [
    "no", "true", "null", "1e5", "2024_05_01", "a,b", "a;b", "a:b", "#a", "[a]", "${oc.env:HOME}",
    "???", "<b>&amp;\"'", "a.jpg", "a.b.PNG", "-a", "=1+1", "+a", "@a", "-", "~", "{}", "{0}",
    "%s", "größe", "gro\u0308ße", "\u202eabc", "\ufeffa", " a", "a ", "a\u00a0",
    "\U0001f408\u200d\u2b1b", "x" * 250,
]  # fmt: skip
characters = st.characters(codec="utf-8", exclude_characters="/\0")
names = st.sampled_from(NASTY) | st.text(characters, min_size=1, max_size=12)
both_forms = names.flatmap(
    lambda name: st.sampled_from([name, *(unicodedata.normalize(f, name) for f in ("NFC", "NFD"))])
)


def few(count: int) -> settings:
    """Draw so many examples, always the same; a test's own folder is shared by them."""
    health = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(
        max_examples=count, deadline=None, derandomize=True, database=None,
        suppress_health_check=health,
    )  # fmt: skip


def write_labels(path: Path, labels: Mapping[str, Sequence[str]]) -> None:
    """Write a table as a spreadsheet would."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("name", "labels"))
        writer.writerows((name, ";".join(words)) for name, words in labels.items())
