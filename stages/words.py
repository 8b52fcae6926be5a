"""Short words of the command line, turned into full keys before Hydra reads them.

What belongs to a stage stands in the package `stage` (of a pipeline: `stages.cls`), in sections.
On the command line it may be named by its last words alone:

    prompts=words                     prompts@stage.model.prompts=words
    prompts.contexts.length=8         stage.model.prompts.contexts.length=8
    stages.cls.loop.max_steps=3       stages.cls.training.loop.max_steps=3
    ckpt=6150                         options.ckpt=6150

Full keys stay as they are, and so does whatever is not in the tables below.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from stages.word_tables import GROUPS, KEYS, REFUSED, RUN_GROUPS, RUN_KEYS

INSTALLED = Path(__file__).parents[1].name == "_app"  # see pyproject.toml

TYPED: dict[str, str] = {}  # the full keys of this program's command line → as they were typed

WORD = re.compile(
    r"(?P<sign>[+~]{0,2})(?P<stage>stages\.\w+\.)?(?P<key>[^=@]+)(?P<package>@[^=]*)?(?P<rest>=.*)?",
    re.DOTALL,
)


def name_program(door: str) -> str:
    """Say how people start `train` or `infer` here."""
    return f"fmawsss {door}" if INSTALLED else f"python {door}.py"


def name_programs(text: str) -> str:
    """Name both programs in a message as they are started here, and what installs more of them."""
    if INSTALLED:
        text = re.sub(r'pip install -e "\.\[(\w+)\]"', r'pip install "fmawsss[\1]"', text)
    return re.sub(r"python (train|infer)\.py", lambda found: name_program(found[1]), text)


def translate_command() -> None:
    """Turn the words of this program's command line into full keys; raises for a refused one."""
    words = sys.argv[1:]
    full = translate(words)
    last = max((n for n, word in enumerate(full, 1) if re.match("[^-].*=", word)), default=0)
    sys.argv[1:] = [*full[:last], *imply(full), *full[last:]]  # flags may stand behind
    TYPED.clear()
    TYPED.update({name_key(new): name_key(old) for old, new in zip(words, full, strict=True)})


def imply(words: Sequence[str]) -> list[str]:
    """List what full words mean beside: prompts chosen for task=cls are learned.

    A sweep has a folder by its words: the same command goes on with it.

    >>> imply(["task=cls", "prompts@stage.model.prompts=words"])
    ['learn=all']
    >>> imply(["-m", "seed=1,2"])[0].partition("/")[2]
    "sweeps/${name}_cdda40bb'"
    """
    chosen = "task=cls" in words and any(word.startswith("prompts@stage.") for word in words)
    typed = any(word.startswith("learn=") for word in words)
    learn = ["learn=all"] if chosen and not typed else []
    placed = any(word.startswith(("sweep=", "hydra.sweep.dir=", "experiment=")) for word in words)
    if placed or {"-m", "--multirun"}.isdisjoint(words):
        return learn
    told = "\n".join(sorted(word for word in words if not word.startswith("-")))
    folder = "${folder:${paths.base},paths.outputs}/sweeps/${name}_"
    return [*learn, f"hydra.sweep.dir='{folder}{sha256(told.encode()).hexdigest()[:8]}'"]


def translate(words: Sequence[str]) -> list[str]:
    """Turn the short words of a command line into full keys.

    Raises:
        ValueError: for a key that has no single new place, with what to type instead.

    >>> translate(["task=cls", "prompts=words", "loop.max_steps=5", "-m"])
    ['task=cls', 'prompts@stage.model.prompts=words', 'stage.training.loop.max_steps=5', '-m']
    """
    return [word if word.startswith("-") else translate_word(word) for word in words]


def translate_word(word: str) -> str:
    """Turn one override into its full key.

    >>> translate_word("prompts@stages.cls.prompts=words")
    'prompts@stages.cls.model.prompts=words'
    """
    found = WORD.fullmatch(word)
    if found is None:
        raise ValueError(f"{word}: not to be read as KEY=VALUE, expected a key before the =")
    sign, stage, key, package, rest = (part or "" for part in found.groups())
    if key in REFUSED:
        raise ValueError(f"{key}: {REFUSED[key]}")

    # an option of a group: where does it go?
    if key in GROUPS and not stage and is_choice(rest):
        return f"{sign}{key}{place_option(key, package)}{rest}"
    if key in RUN_GROUPS and not stage:
        return f"{sign}{RUN_GROUPS[key]}{rest}"

    # a value: of one stage of a pipeline, of the run, or of the only stage
    if package:
        return word
    of_run = lengthen(stage + key, RUN_KEYS, "")
    if of_run != stage + key:
        return f"{sign}{of_run}{rest}"
    return f"{sign}{stage}{lengthen(key, KEYS, '' if stage else 'stage.')}{rest}"


def is_choice(rest: str) -> bool:
    """Tell the choice of an option (`=words`, `=[voc,coco]`, none to delete) from a value."""
    return not rest.startswith("={")


def place_option(group: str, package: str) -> str:
    """Name the package that an option of a group fills."""
    if not package:
        return f"@stage.{GROUPS[group]}".rstrip(".")
    of_stage = re.fullmatch(rf"@(stages\.\w+)\.{group}", package)
    return f"@{of_stage[1]}.{GROUPS[group]}".rstrip(".") if of_stage else package


def lengthen(key: str, table: dict[str, str], prefix: str) -> str:
    """Replace the beginning of a key that a table knows; the longest one counts.

    >>> lengthen("loop.max_steps", KEYS, "stage.")
    'stage.training.loop.max_steps'
    """
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        start = ".".join(parts[:length])
        if start in table:
            return prefix + ".".join([table[start], *parts[length:]])
    return key


def shorten_key(key: str) -> str:
    """Name a full key as it was typed, or as one may type it: the shortest of its words.

    >>> shorten_key("stage.training.loop.max_steps"), shorten_key("stages.cls.runtime.save_every")
    ('loop.max_steps', 'stages.cls.save_every')
    """
    if key in TYPED:
        return TYPED[key]
    found = re.fullmatch(r"(?P<stage>stage\.|stages\.\w+\.)?(?P<key>.+)", key)
    assert found is not None
    stage, inner = found["stage"] or "", found["key"]
    table = KEYS if stage else RUN_KEYS
    shorter = [short + inner[len(full) :] for short, full in table.items() if begins(inner, full)]
    known = [word for word in shorter if translate_word(stage.removeprefix("stage.") + word) == key]
    return stage.removeprefix("stage.") + min(known, key=len, default=inner)


def name_key(word: str) -> str:
    """Name the key of a word of the command line.

    >>> name_key("+prompts@stage.model.prompts=words")
    'prompts'
    """
    return re.split("[=@]", word.lstrip("+~"), maxsplit=1)[0]


def begins(key: str, start: str) -> bool:
    """Say whether a key begins with these words."""
    return key == start or key.startswith(f"{start}.")
