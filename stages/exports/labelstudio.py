"""Finished masks as Label Studio's pre-annotations: brush regions for a person to correct."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from jaxtyping import Bool

from fmawsss.files.writing import write_bytes
from fmawsss.viz import make_palette
from stages.exports.masks import Export, MaskSet
from stages.exports.regions import split_classes

VALUE_BITS = 8  # bits of a value
LENGTHS = (3, 4, 8, 16)  # bits of a run's length, one of which each run chooses
CHANNELS = 4  # a brush is an RGBA picture; all its channels hold the mask


@dataclass(frozen=True)
class LabelStudioTasks(Export):
    """`tasks.json`, and `labels.xml` for the labelling interface.

    `prefix` and the file's name make the address of an image; Label Studio serves local files below
    its LOCAL_FILES_DOCUMENT_ROOT, which is then the data set's folder.
    """

    folder: Path | str
    prefix: str

    def check(self, masks: MaskSet) -> None:
        """Raise ValueError for classes that the interface would replace."""
        strange = [name for name in masks.classes if re.search(r"\$\w", name)]
        if strange:
            raise ValueError(
                f"class {strange[0]!r}: Label Studio takes a word after `$` for a field of the "
                "task: take the `$` out of it, or save_as another format"
            )

    def __call__(self, masks: MaskSet) -> None:
        """Write both files."""
        tasks = []
        for name, mask in masks.read():
            regions = split_classes(mask, len(masks.classes))
            result = [
                describe_brush(f"{name}-{value}", masks.classes[value - 1], region)
                for value, region in regions
            ]
            prediction = {"model_version": "fmawsss", "result": result}
            data = {"image": self.prefix + quote(masks.name_file(name))}
            tasks.append({"data": data, "predictions": [prediction]})
        folder = Path(self.folder)
        write_bytes(folder / "tasks.json", json.dumps(tasks, ensure_ascii=False).encode())
        write_bytes(folder / "labels.xml", write_interface(masks).encode())


def describe_brush(name: str, label: str, region: Bool[np.ndarray, "H W"]) -> dict[str, Any]:
    """Describe one region of an image."""
    height, width = region.shape
    return {
        "id": name,
        "type": "brushlabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": list(encode_brush(region)), "brushlabels": [label]},
    }


def encode_brush(region: Bool[np.ndarray, "H W"]) -> bytes:
    """Code a region as Label Studio's brush: run after run over the values of an RGBA picture.

    The head holds the number of values (32 bits), then one less than the bits of a value (5) and of
    each kind of length (4 each). A run is 1, its kind of length (2), its length less one, its
    value.
    """
    # Runs of equal values
    flat = region.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=~flat[:1]))
    lengths = np.diff(starts, append=flat.size) * CHANNELS
    pairs = zip(lengths.tolist(), flat[starts].tolist(), strict=True)
    runs = "".join(encode_run(length, value) for length, value in pairs)

    # Bits become bytes, the last one filled with zeros
    sizes = "".join(f"{bits - 1:04b}" for bits in LENGTHS)
    bits = f"{flat.size * CHANNELS:032b}{VALUE_BITS - 1:05b}{sizes}{runs}"
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


def encode_run(length: int, inside: bool) -> str:
    """Code a run as bits; one that is longer than any length can say becomes several."""
    value = f"{255 * inside:0{VALUE_BITS}b}"
    longest = 1 << LENGTHS[-1]
    whole, rest = divmod(length, longest)
    parts = [longest] * whole + ([rest] if rest else [])
    kinds = (next(kind for kind, bits in enumerate(LENGTHS) if part <= 1 << bits) for part in parts)
    return "".join(
        f"1{kind:02b}{part - 1:0{LENGTHS[kind]}b}{value}"
        for kind, part in zip(kinds, parts, strict=True)
    )


def write_interface(masks: MaskSet) -> str:
    """Write the labelling interface: one brush per class, in the palette's colours."""
    palette = make_palette(256)
    labels = "".join(
        f'    <Label value={quoteattr(label)} background="#{bytes(palette[value]).hex()}"/>\n'
        for value, label in enumerate(masks.classes, 1)
    )
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <BrushLabels name="label" toName="image">\n{labels}  </BrushLabels>\n</View>\n'
    )
