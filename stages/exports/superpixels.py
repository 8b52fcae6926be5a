"""Superpixels that travel: a folder with one archive and a card (`format=superpixels`)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fmawsss.files.products import read_record
from fmawsss.files.superpixel_package import PACKAGE, list_entries, write_package
from fmawsss.files.writing import replace_file, write_bytes
from fmawsss.networks.model_files import CARD, quote, short_name, tabulate

CARD_TEXT = """---
library_name: fmawsss
tags: [superpixels, weakly-supervised-semantic-segmentation]
---
# Superpixels of {count} images

Masks of parts of images without classes, made by {cutter}. The images are not in here.

## Use

On a machine that has the same images, as the data set that is named:

    python infer.py task=unpack package=FOLDER dataset=…

puts them where `python infer.py task=superpixels` would, checked against each image, and every
stage takes them for its own. `FOLDER` may be the file, or a data set on Hugging Face's hub
(NAME/REPOSITORY).

## What is in it

{content}

## How they were cut

{recipe}

## Licence

{licence}
"""
UNSAID = (
    "Not said. Superpixels say where the outlines of things in images are: the terms of the images "
    "hold, and those of the weights that cut them, if any did."
)


def export_superpixels(
    superpixels: Path | str, path: Path | str, dataset: str, licence: str | None
) -> None:
    """Write the superpixels of a data set as a folder with one archive and a card.

    Raises:
        FileNotFoundError: without superpixels.
        ValueError: for superpixels that are not as they were made.
    """
    product, folder = Path(superpixels), Path(path)
    entries = list_entries(product)
    with replace_file(folder / PACKAGE) as temporary:
        with temporary.open("wb") as file:
            write_package(product, entries, file)
        size = temporary.stat().st_size
        with temporary.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()

    # The card
    masks = sum(sum(entry.facts["levels"]) for entry in entries)
    content = {
        "data set": dataset,
        "images": len(entries),
        "superpixels": masks,
        f"{PACKAGE}, bytes": size,
        f"{PACKAGE}, SHA-256": digest,
    }
    record = read_record(product)
    assert record is not None  # `list_entries` asked for it
    card = write_card(content, record, licence)
    write_bytes(folder / CARD, card.encode())


def write_card(content: Mapping[str, Any], record: Mapping[str, Any], licence: str | None) -> str:
    """Write what people should know of superpixels, in Markdown."""
    settings: Mapping[str, Any] = record["settings"]
    recipe = {"fingerprint": record["fingerprint"], **settings}
    source = {"_target_": settings.get("model.source._target_", "not noted")}
    return CARD_TEXT.format(
        count=content["images"],
        cutter=quote(short_name(source)),
        content=tabulate(
            ("what", "which"), [(key, quote(value)) for key, value in content.items()]
        ),
        recipe=tabulate(
            ("setting", "value"), [(quote(key), quote(value)) for key, value in recipe.items()]
        ),
        licence=licence or UNSAID,
    )
