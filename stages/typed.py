"""What was typed, before Hydra makes folders of it: names that it would read as numbers."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf

from stages.range_check import find_range
from stages.ranges import Range
from stages.words import name_key, shorten_key

REFERENCE = "is what settings read as a reference to another"
NAMES = ("dataset.classes", "dataset.prompt_names", "dataset.background")


def check_typed(words: Sequence[str]) -> None:
    """Refuse paths and names that Hydra takes for something else, or cannot read.

    Hydra explains the rest.

    Raises:
        ValueError: with what to type instead; the digits as typed are lost once Hydra has read it.
    """
    if "${" in str(Path.cwd()):
        raise ValueError(f"the name of this folder, {Path.cwd()}, {REFERENCE}: run elsewhere")
    refuse_spaces(words)
    parser = OverridesParser.create()
    for word in words:
        if word.startswith("-") or "=" not in word:
            continue
        refuse_reference(word)
        try:
            override = parser.parse_override(word)
        except HydraException as error:
            if quoted := quote_word(word):
                raise ValueError(
                    f"{word}: expected quotes around the value: type {quoted}"
                ) from error
            continue
        expected = find_range(override.key_or_group)
        if expected is None or override.is_delete():
            continue
        if expected.allows(1):  # numbers belong here, and their range is checked later
            continue
        if not (override.is_sweep_override() and {"-m", "--multirun"}.intersection(words)):
            check_read(override, word.partition("=")[2], expected)


def check_read(override: Override, text: str, expected: Range) -> None:
    """Raise ValueError for text that Hydra takes for something else, with what to type instead."""
    key = shorten_key(override.key_or_group)
    listed = expected.allows(["a", "b"])
    if override.is_sweep_override():
        if not listed:
            raise ValueError(
                f"{key}={text} is read as several values, which -m tries in turn, expected text: "
                f"type {quote_setting(key, text)}"
            )
        return
    value = override.value()
    if "${" in text and isinstance(value, list) and override.key_or_group in NAMES:
        raise ValueError(
            f"{key}={text}: a name with `${{` {REFERENCE}: take that out of it, or let a file name "
            "the classes (dataset/labels=file)"
        )
    if isinstance(value, str) or expected.allows(value) or not expected.allows(text):
        return
    if not (listed and isinstance(value, list)):
        quoted = quote_setting(key, text)
        raise ValueError(f"{key}={text} is read as a value, expected text: type {quoted}")


def refuse_spaces(words: Sequence[str]) -> None:
    """Raise ValueError for a value whose spaces the shell took for the ends of words."""
    for place, word in enumerate(words):
        if word.startswith("-") or "=" not in word:
            continue
        rest = takewhile(lambda other: not re.match(r"[-~]|.*=", other), words[place + 1 :])
        whole = " ".join([word, *rest])
        if whole != word and (quoted := quote_word(whole)):
            raise ValueError(f"{whole}: expected quotes around the value: type {quoted}")


def quote_word(word: str) -> str | None:
    """Write a setting as the shell and Hydra read it: as text or a list of texts, or None.

    >>> quote_word("dataset.root=my photos (1)")
    '\'dataset.root="my photos (1)"\''
    >>> quote_word("dataset.classes=[cat, dog (brown)]")
    '\'dataset.classes=[cat,"dog (brown)"]\''
    """
    key, (_, _, value) = name_key(word), word.partition("=")
    expected, short = find_range(key), shorten_key(key)
    if expected is None:
        return None
    if expected.allows(value):
        return quote_setting(short, str(Path(value).expanduser()) if value[:2] == "~/" else value)
    names = [name.strip(" \"'") for name in value.strip("[]").split(",")]
    if not value.startswith("[") or not expected.allows(names):
        return None
    quoted = ",".join(write_setting("", name)[1:] for name in names)
    return shlex.join([f"{short}=[{quoted}]"])


def refuse_reference(word: str) -> None:
    """Raise ValueError for a path that is there, but whose name would be read as a reference."""
    key, _, value = word.partition("=")
    name = re.sub(r"[\\\"']", "", value)
    parts = Path(name).parts
    places = [
        Path(*parts[:end]) for end, part in enumerate(parts, 1) if "${" in part or name == "???"
    ]
    if any(map(os.path.lexists, places)):
        raise ValueError(
            f"{key}: the name of {places[0]} {REFERENCE}: rename it, or link to it "
            f"({shlex.join(['ln', '-s', f'{places[0].absolute()}', 'link'])}) and type {key}=link"
        )


def quote_setting(key: str, value: str) -> str:
    r"""Write a setting whose value is any text so that the shell and Hydra read that text back.

    >>> quote_setting("paths.work", "out/a"), quote_setting("dataset.root", "it's 2024")
    ('paths.work=out/a', '\'dataset.root="it\'"\'"\'s 2024"\'')
    >>> print(quote_setting("dataset.root", "2024_05"))
    'dataset.root="2024_05"'
    """
    return shlex.join([write_setting(key, value)])


def write_setting(key: str, value: str) -> str:
    r"""Write a setting whose value is any text as a word for Hydra, quoted where it must be.

    >>> write_setting("dataset.root", "a b\\"), write_setting("dataset.root", 'say "hi"')
    ('dataset.root=a b\\', 'dataset.root="say \\"hi\\""')
    """
    plain = f"{key}={value}"
    if reads_as(plain, value):
        return plain
    escaped = re.sub(r'(\\*)("|\Z)', lambda at: 2 * at[1] + ("\\" if at[2] else "") + at[2], value)
    return f'{key}="{escaped}"'


def reads_as(word: str, value: str) -> bool:
    """Say whether Hydra reads a word of the command line as a setting of this text."""
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException:
        return False
    return not override.is_sweep_override() and override.value() == value


def read_value(text: str) -> Any:
    """Read a value as Hydra reads it on the command line: `no` is text, 1e-4 a number.

    >>> read_value("no"), read_value("1e-4"), read_value("[a,1]")
    ('no', 0.0001, ['a', 1])
    """
    return OverridesParser.create().parse_override(f"value={text}").value()


def write_yaml(settings: Mapping[str, Any]) -> str:
    """Write settings as YAML that OmegaConf reads back: the text 1e5 stays text."""
    return OmegaConf.to_yaml(OmegaConf.create(dict(settings)))
