"""COCO 2014 or 2017 in its official layout, and semantic masks made of its annotations."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from datamodules.base import SegmentationDataModule
from datamodules.choosing import Splits, join_splits, name_splits
from datamodules.coco_annotations import (
    Annotations,
    list_images,
    number_ids,
    read_annotations,
)
from datamodules.coco_homes import find_homes
from datamodules.coco_masks import (
    MASK_PALETTE,
    find_annotations,
    find_mask_faults,
    find_masks,
    have_one_time,
    require_order,
    write_painted_mask,
)
from datamodules.images import compose_names, find_list, find_name, list_stems, strip_suffix
from datamodules.label_files import require_label_file
from datamodules.labels import Labels, LabelsFromMasks, LabelSource, check_label, find_classes
from fmawsss.files.images import stamp_file
from fmawsss.files.json_files import read_json
from fmawsss.files.png import read_mask, write_palette_png
from fmawsss.files.writing import write_bytes
from fmawsss.records import ImageRecord

logger = logging.getLogger(__name__)

INDEX_VERSION = 2


@dataclass(kw_only=True, eq=False, repr=False)
class CocoDataModule(SegmentationDataModule):
    """A tree like COCO's; split `train` means train2014/ and annotations/instances_train2014.json.

    A split that ends in `.txt` is a list of images of the official splits, by name or number.

    root: the folder that holds `annotations`.
    year: 2014 or 2017.
    cache: folder for what is made of the annotations: an index per split, and masks (rule in
        `coco_annotations`).
    masks: folder of masks of another conversion, named like the images or by their number; None
        makes ours.
    masks_hold_ids: those masks hold category ids (1 to 90), and are renumbered in `cache`. A
        renumbered mask carries the time of its origin, and is made again when that has another.
    """

    root: Path | str
    year: int
    cache: Path | str
    masks: Path | str | None
    masks_hold_ids: bool = False

    _annotations: Annotations | None = field(default=None, init=False)

    def prepare_data(self) -> None:
        """Index the annotations of the splits in use, and make the masks that will be read."""
        for split in self._list_splits():
            self._find_homes(split)
        self.make_masks(self.list_splits_with_masks())

    def make_masks(self, splits: Splits) -> None:
        """Make the masks of some splits, or renumber those of another conversion, once."""
        for split in name_splits(splits):
            for home, names in self._find_homes(split).items():
                if self.masks is None:
                    self._paint_masks(home, names if find_list(split) else None)
                elif self.masks_hold_ids:
                    self._renumber_masks(home)

    def read_split(self, split: str) -> list[ImageRecord]:
        """List the images that the annotation file of a split names, or a list file."""
        if not find_list(split):
            return self._read_official(split)
        homes = self._find_homes(split)
        records = {r.name: r for home in homes for r in self._read_official(home)}
        return [records[name] for names in homes.values() for name in names]

    def _find_homes(self, split: str) -> dict[str, list[str]]:
        """Name the official splits that hold the images of a split, and these images."""
        file = find_list(split)
        if file is None:
            return {split: self._list_names(split)}
        return find_homes(file, name_splits(self.splits.get("all")), self._list_names)

    def _list_names(self, split: str) -> list[str]:
        return [strip_suffix(file) for file, _ in self._read_index(split)["images"]]

    def _read_official(self, split: str) -> list[ImageRecord]:
        rows = self._read_index(split)["images"]
        names = [strip_suffix(file) for file, _ in rows]
        masks = self._find_masks(split, names)

        # labels may name the images of any split
        root = Path(self.root)
        others = (strip_suffix(file.name) for file in root.glob(f"*{self.year}/*"))
        labels = self.read_labels(names, masks, self._index_path(split), others)
        folder = root / f"{split}{self.year}"
        return [
            ImageRecord(name, folder / file, labels.get(name), masks.get(name))
            for name, (file, _) in zip(names, rows, strict=True)
        ]

    def _list_splits(self) -> list[str]:
        views = (self.training, self.validation, self.whole)
        return join_splits(view.split for view in views if view)

    def list_splits_with_masks(self) -> list[str]:
        """List the splits whose masks are read, for scores or for labels."""
        if self.labelled and isinstance(self.labels, LabelsFromMasks):
            return self._list_splits()
        whole = self.whole if self.whole and self.whole.truths else None
        views = (self.validation, whole)
        return join_splits(view.split for view in views if view)

    def _index_path(self, split: str) -> Path:
        return Path(self.cache) / f"index_{split}{self.year}.json"

    def find_mask_folder(self, split: str) -> Path:
        """Return the folder of a split's masks."""
        if self.masks is None:
            return Path(self.cache) / f"masks_{split}{self.year}"
        if not self.masks_hold_ids:
            return Path(self.masks)
        origin = sha256(str(Path(self.masks).resolve()).encode()).hexdigest()[:8]
        return Path(self.cache) / f"renumbered_{split}{self.year}_{origin}"

    def _find_masks(self, split: str, names: Sequence[str]) -> dict[str, Path]:
        """Find the masks of some images, without renumbered ones whose origin has changed."""
        found = find_masks(names, self.find_mask_folder(split))
        if self.masks is None or not self.masks_hold_ids:
            return found

        # a renumbered mask has the time of its origin
        origins = find_masks(found, Path(self.masks))
        return {
            name: found[name]
            for name, origin in origins.items()
            if have_one_time(found[name], origin)
        }

    def _find_source(self, split: str) -> Path:
        return find_annotations(Path(self.root), f"{split}{self.year}")

    def _read_index(self, split: str) -> dict[str, Any]:
        """Read file names and labels of a split, from the annotations when those have changed."""
        source = self._find_source(split)
        path = self._index_path(split)
        stamp = f"{INDEX_VERSION} {source.name} {stamp_file(source)}"
        known = read_json(path) if path.exists() else {"stamp": "", "masks": False}
        if known["stamp"] == stamp:
            return known

        # masks of other annotations go with their index
        logger.info("indexing %s", source)
        annotations = self._read_annotations(source)
        current = known["stamp"].partition(" ")[2] == stamp.partition(" ")[2]
        if not current:
            self._remove_masks(split)

        masks = known["masks"] and current
        index = {"stamp": stamp, "masks": masks, "images": list_images(annotations)}
        write_bytes(path, json.dumps(index).encode())
        return index

    def _remove_masks(self, split: str) -> None:
        cache, name = Path(self.cache), f"{split}{self.year}"
        for made in (cache / f"masks_{name}", *cache.glob(f"renumbered_{name}_*")):
            shutil.rmtree(made, ignore_errors=True)

    def find_faults(self, split: str) -> list[str]:
        """Find what keeps masks from being made, until they are."""
        if self.masks is not None or find_list(split) or self._read_index(split)["masks"]:
            return []
        source = self._find_source(split)
        images = Path(self.root) / f"{split}{self.year}"
        return list(find_mask_faults(self._read_annotations(source), images, source))

    def _read_annotations(self, source: Path) -> Annotations:
        """Read an annotation file, unless it is the one that was read last."""
        known = self._annotations
        if known is not None and (known.path, known.stamp) == (source, stamp_file(source)):
            return known
        annotations = read_annotations(source)
        require_order(source, annotations.names, self.classes)
        self._annotations = annotations
        return annotations

    def _paint_masks(self, split: str, names: Sequence[str] | None) -> None:
        """Write the semantic masks of a split, or of some of its images.

        A run that was stopped goes on where it was.
        """
        index = self._read_index(split)
        if index["masks"]:
            return

        # the images that lack a mask
        source = self._find_source(split)
        folder = self.find_mask_folder(split)
        annotations = self._read_annotations(source)
        done = list_stems(folder, ".png")
        known = [image for image in annotations.images if image.regions is not None]
        wanted = None if names is None else set(names)
        todo = [
            image
            for image in known
            if (name := strip_suffix(image.file)) not in done and (wanted is None or name in wanted)
        ]

        logger.info("making %d masks of %s in %s", len(todo), source.name, folder)
        with annotations.open_regions() as read:
            for number, image in enumerate(todo, 1):
                write_painted_mask(folder, image, read(image), annotations.classes, source)
                if number % 5000 == 0:
                    logger.info("made %d of %d masks", number, len(todo))
        if names is None:
            write_bytes(self._index_path(split), json.dumps({**index, "masks": True}).encode())
        self._annotations = None

    def _renumber_masks(self, split: str) -> None:
        """Write masks of category ids again, with class numbers; a stopped run goes on."""
        # the masks that lack a renumbered one
        names = self._list_names(split)
        done = self._find_masks(split, names)
        found = find_masks(names, Path(self.masks or ""))
        todo = [name for name in found if name not in done]
        if not todo:
            return

        # renumber them
        folder = self.find_mask_folder(split)
        logger.info("renumbering %d masks of %s in %s", len(todo), self.masks, folder)
        numbers = number_ids(self._read_annotations(self._find_source(split)).classes)
        for name in todo:
            write_palette_png(folder / f"{name}.png", numbers[read_mask(found[name])], MASK_PALETTE)
            time = found[name].stat().st_mtime
            os.utime(folder / f"{name}.png", (time, time))


class LabelsFromAnnotations:
    """Take the categories of COCO's annotations, crowds included."""

    def __call__(self, images: Sequence[str], source: LabelSource) -> dict[str, Labels]:
        """Read labels from the index that the data module made."""
        if source.annotations is None:
            raise ValueError(
                "only dataset=coco has an index of annotations; choose another dataset/labels"
            )
        rows = read_json(source.annotations)["images"]
        return {strip_suffix(file): tuple(labels) for file, labels in rows if labels is not None}


@dataclass(frozen=True)
class LabelsFromCocoJson:
    """Take the categories of any file in COCO's format, for images of any tree, by their names."""

    path: Path | str

    def __call__(self, images: Sequence[str], source: LabelSource) -> dict[str, Labels]:
        """Read labels by file name, or by path below the data set's folder."""
        # names as the images have them
        wanted, composed = set(images), compose_names(images)
        read = self._read_names().items()
        found = {find_name(name, wanted, composed): labels for name, labels in read}
        known = {
            name: find_classes(found[name], source.classes, str(self.path))
            for name in images
            if name in found
        }
        return {**dict.fromkeys(found, ()), **known}

    def list_names(self, images: Sequence[str]) -> list[str]:
        """List the class names that occur, in alphabetical order."""
        names = {name for labels in self._read_names().values() for name in labels}
        return sorted(check_label(name, str(self.path)) for name in names)

    def _read_names(self) -> dict[str, list[str]]:
        """Read the class names of each image."""
        found = read_annotations(require_label_file(self.path))
        return {
            strip_suffix(image.file): [found.names[index] for index in image.shown]
            for image in found.images
        }
