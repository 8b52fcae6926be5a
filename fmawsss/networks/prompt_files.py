"""Prompts that travel: learned contexts in one safetensors file, with what they are for, a card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fmawsss.files.products import read_record
from fmawsss.files.tensor_files import DESCRIPTION, MODEL
from fmawsss.files.writing import replace_file, write_bytes
from fmawsss.networks.checkpoints import CHECKPOINT_VERSION, read_learned
from fmawsss.networks.model_files import CARD, quote, separate, tabulate
from fmawsss.networks.plain_data import make_plain

RECIPE = ("model.", "learning.", "training.view.split", "training.loop.", "seed", "weights")
CARD_TEXT = """---
library_name: fmawsss
tags: [weakly-supervised-semantic-segmentation, prompts, clip]
---
# Prompts for {count} classes, learned from image labels

The contexts of prompts of a frozen CLIP, {shape} vectors (contexts, length, width).

## Use

    python infer.py task=cls ckpt=FOLDER/model.safetensors

applies them to the same classes, with the CLIP and the kind of prompts named below (`task=seg` for
those of the segmentation). As a start for other classes, with shared contexts:

    python train.py task=cls prompts=released prompts.contexts.path=FOLDER

## Classes

{classes}

## Recipe

`weights` digests the frozen weights that they were learned with.

{recipe}
"""


def export_prompts(prompts: Path | str, path: Path | str) -> None:
    """Write the learned prompts of a checkpoint as a folder with one safetensors file and a card.

    prompts: `cls.ckpt` or `seg.ckpt`; the recipe is that of its record, if it has one.

    Raises:
        FileNotFoundError: without the checkpoint.
        ValueError: for one that learned no prompts.
    """
    from safetensors.torch import save_file

    # What was learned, and for what
    if not Path(prompts).is_file():
        raise FileNotFoundError(
            f"no checkpoint {prompts}: make one with `python train.py task=cls`, or name one with "
            "job.prompts=FILE"
        )
    checkpoint = read_learned(prompts)
    learned = checkpoint["state_dict"]
    if not all(name.startswith("prompts.") for name in learned) or "classes" not in checkpoint:
        raise ValueError(f"{prompts} holds no learned prompts of ours: name a cls.ckpt or seg.ckpt")
    described = describe_prompts(checkpoint, read_record(Path(prompts)))

    # One file, and the card
    with replace_file(Path(path) / MODEL) as temporary:
        save_file(separate(learned), temporary, metadata={DESCRIPTION: json.dumps(described)})
    shape = " x ".join(map(str, next(iter(learned.values())).shape))
    write_bytes(Path(path) / CARD, write_card(described, shape).encode())


def describe_prompts(
    checkpoint: Mapping[str, Any], record: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Describe prompts as a checkpoint does, with the settings that they were learned with."""
    settings = {} if record is None else record["settings"]
    recipe = {key: value for key, value in settings.items() if key.startswith(RECIPE)}
    names = {key: list(checkpoint[key]) for key in ("classes", "prompt_names")}
    plain: dict[str, Any] = make_plain({"version": CHECKPOINT_VERSION, **names, "recipe": recipe})
    return plain


def write_card(described: Mapping[str, Any], shape: str) -> str:
    """Write what people should know of prompts, in Markdown."""
    names = zip(described["classes"], described["prompt_names"], strict=True)
    recipe = [(quote(key), quote(value)) for key, value in described["recipe"].items()]
    return CARD_TEXT.format(
        count=len(described["classes"]),
        shape=shape,
        classes=tabulate(("class", "in prompts"), [tuple(map(quote, pair)) for pair in names]),
        recipe=tabulate(("setting", "value"), recipe or [("none noted", "")]),
    )
