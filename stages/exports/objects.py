"""Objects that a text-prompted model found, in COCO's annotations: one entry for each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmawsss.files.instances import read_instances
from fmawsss.files.writing import write_bytes
from stages.exports.masks import Export, MaskSet
from stages.exports.regions import Pixels, count_runs, describe_region, describe_set, list_corners

KEEP = "`python infer.py task=text evidence=sam3 callbacks=instances` keeps them"


@dataclass(frozen=True)
class CocoObjects(Export):
    """COCO's annotations as run lengths and as polygons, one per object, with its score and phrase.

    instances: the folder of the objects, `<name>.npz`; `kept` says whether the run keeps them.
    """

    folder: Path | str
    instances: Path | str
    kept: bool

    def check(self, masks: MaskSet) -> None:
        """Raise ValueError for a run that keeps no objects."""
        if not self.kept:
            raise ValueError(f"save_as=coco_objects needs the objects themselves: {KEEP}")

    def __call__(self, masks: MaskSet) -> None:
        """Write a file of each kind."""
        for kind, encode in (("rle", count_runs), ("polygons", list_corners)):
            path = Path(self.folder) / f"objects_{kind}.json"
            write_bytes(path, json.dumps(self._describe(masks, encode)).encode())

    def _describe(self, masks: MaskSet, encode: Callable[[Pixels], Any]) -> dict[str, Any]:
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, name in enumerate(masks.images, 1):
            found = read_instances(Path(self.instances) / f"{name}.npz")
            height, width = found.size
            file = masks.name_file(name)
            images.append({"id": number, "file_name": file, "height": height, "width": width})
            told = zip(found.values, found.scores, found.phrases, found.masks(), strict=True)
            for value, score, phrase, mask in told:
                region = describe_region(int(value), mask.numpy(), encode)
                own = {"id": len(annotations) + 1, "image_id": number, **region}
                annotations.append({**own, "score": round(float(score), 4), "phrase": phrase})
        return describe_set(masks, images, annotations)
