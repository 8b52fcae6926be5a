"""What a text-prompted model is asked for each class: by default its prompt name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fmawsss.files.texts import LONGEST_NAME, compose, has_unseen


def list_phrases(
    classes: Sequence[str], prompt_names: Sequence[str], phrases: Any
) -> list[tuple[str, ...]]:
    """List the phrases of each class; one that `phrases` leaves out has its prompt name.

    phrases: class → list of phrases, as people wrote it; None for none.

    Raises:
        ValueError: for phrases of a class that the data set does not have, a class that is left
            without any, and what is no phrase.
    """
    if not isinstance(phrases, Mapping | None):
        raise ValueError(
            f"dataset.phrases={phrases}: expected classes with lists of phrases, "
            "{cat: [cat, kitten]}"
        )
    given = {compose(str(name)): value for name, value in (phrases or {}).items()}
    strange = [name for name in given if name not in classes]
    if strange:
        raise ValueError(
            f"dataset.phrases has phrases for {strange[0]!r}, which is no class: expected one of "
            f"{', '.join(classes)}"
        )
    listed = []
    for name, prompt_name in zip(classes, prompt_names, strict=True):
        own = given.get(name, [prompt_name])
        if not isinstance(own, Sequence) or isinstance(own, str):
            raise ValueError(f"dataset.phrases: {name} has {own!r}, expected a list: [{own}]")
        if not own:
            raise ValueError(
                f"dataset.phrases: {name} has no phrase: give it one, or leave it out and it is "
                f"asked as {prompt_name!r}"
            )
        listed.append(tuple(check_phrase(name, phrase) for phrase in own))
    return listed


def check_phrase(name: str, phrase: object) -> str:
    """Return a phrase of a class, composed; raises ValueError for what is none."""
    if not isinstance(phrase, str) or not phrase.strip():
        raise ValueError(f"dataset.phrases: {name} has {phrase!r} for a phrase, expected words")
    if len(phrase) > LONGEST_NAME or has_unseen(phrase):
        raise ValueError(
            f"dataset.phrases: a phrase of {name} is no line of at most {LONGEST_NAME} characters"
        )
    return compose(phrase.strip())
