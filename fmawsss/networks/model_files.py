"""A network that travels: one safetensors file with all that a checkpoint says, and a card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fmawsss.files.tensor_files import DESCRIPTION, MODEL
from fmawsss.files.writing import replace_file, write_bytes
from fmawsss.networks.checkpoints import NetworkCheckpoint, read_checkpoint

CARD = "README.md"  # as hubs show it
SCORES = ("miou", "accuracy", "mean_precision", "mean_recall")
CARD_TEXT = """---
pipeline_tag: image-segmentation
library_name: fmawsss
tags: [weakly-supervised-semantic-segmentation]
---
# Segmentation of {count} classes, learned from image labels

Masks of any image, whose pixels hold the numbers of classes:

{classes}

## Use

    from fmawsss.networks.segmenter import Segmenter
    found = Segmenter.from_pretrained("FOLDER").predict(["photo.jpg"])  # or NAME/REPOSITORY

or `python infer.py task=network ckpt=FOLDER/model.safetensors dataset=folder dataset.root=photos`.

## How it was made

{learned}

What taught each part: the network its seeds; these were made by CLIP, which pairs of images and
texts taught, by SAM, which masks without classes taught, and of the labels of images. Where the
seeds are masks that people drew, these taught it. Weights that the network started from, if any,
were taught by labels of images.

## Scores, percent

{scores}
"""


def write_model(
    checkpoint: NetworkCheckpoint, folder: Path, scores: Mapping[str, Any] | None = None
) -> Path:
    """Write `model.safetensors` and its card into a folder; return the file.

    scores: kinds of masks by split, as `scores.json` holds them of a stage, for the card.
    """
    from safetensors.torch import save_file

    described = {DESCRIPTION: json.dumps(checkpoint.described)}
    with replace_file(folder / MODEL) as temporary:
        save_file(separate(checkpoint.state_dict), temporary, metadata=described)
    write_bytes(folder / CARD, write_card(checkpoint, scores or {}).encode())
    return folder / MODEL


def separate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give each tensor numbers of its own: safetensors holds no shared ones."""
    return {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}


def export_model(checkpoint: Path, path: Path | str, scores: Path | str) -> None:
    """Write the network of a checkpoint as a folder that `Segmenter.from_pretrained` reads.

    scores: the table of scores of the run, `scores.json`; without it the card has none.
    """
    table = json.loads(Path(scores).read_text()) if Path(scores).is_file() else {}
    write_model(read_checkpoint(checkpoint), Path(path), table.get("network"))


def push_model(checkpoint: NetworkCheckpoint, repository: str, folder: Path, private: bool) -> str:
    """Write a model into a folder, and upload it to Hugging Face's hub; return its address.

    Raises:
        OSError: of the network or the account, as huggingface_hub raises it.
    """
    from huggingface_hub import HfApi

    write_model(checkpoint, folder)
    hub = HfApi()
    address = hub.create_repo(repository, private=private, exist_ok=True)
    hub.upload_folder(repo_id=repository, folder_path=folder, allow_patterns=[MODEL, CARD])
    return str(address)


def write_card(checkpoint: NetworkCheckpoint, scores: Mapping[str, Any]) -> str:
    """Write what people should know of a model, in Markdown: data, recipe, scores, supervision."""
    config = checkpoint.described.get("config") or {}
    training = config.get("training") or {}
    learned = {
        "network": short_name(checkpoint.network),
        "seeds": (training.get("inputs") or {}).get("seeds", "not noted"),
        "split": (training.get("view") or {}).get("split", "not noted"),
        "steps": (training.get("loop") or {}).get("max_steps", "not noted"),
        "targets": short_name((config.get("learning") or {}).get("targets") or {}),
        "loss": short_name((config.get("learning") or {}).get("loss") or {}),
    }
    colours = checkpoint.palette.tolist()
    names = enumerate(["background", *checkpoint.classes])
    values = [(number, quote(name), colours[number]) for number, name in names]
    return CARD_TEXT.format(
        count=len(checkpoint.classes),
        classes=tabulate(("value", "class", "colour"), values),
        learned=tabulate(
            ("what", "which"), [(key, quote(value)) for key, value in learned.items()]
        ),
        scores=tabulate(("split", "masks", *SCORES), list_scores(scores)),
    )


def list_scores(scores: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """List the scores of each split in percent; one line says that there are none."""
    rows = [
        (quote(split), quote(kind), *(write_share(found.get(name)) for name in SCORES))
        for split, kinds in scores.items()
        for kind, found in kinds.items()
    ]
    return rows or [("none noted", *[""] * (len(SCORES) + 1))]


def write_share(value: float | None) -> str:
    """Write a share in percent."""
    return "" if value is None else f"{100 * value:.1f}"


def short_name(node: Mapping[str, Any]) -> str:
    """Name what a node builds, without its module."""
    return str(node.get("_target_", "not noted")).rpartition(".")[2]


def quote(text: Any) -> str:
    """Write any text as code, which a page shows as it is."""
    plain = str(text).replace("`", "'").replace("|", "\\|")
    return f"`{plain}`"


def tabulate(head: tuple[Any, ...], rows: list[tuple[Any, ...]]) -> str:
    """Write a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
