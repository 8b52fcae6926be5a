"""Where the labels of an image come from, and which of them a crop keeps."""

from __future__ import annotations

import csv
import io
import logging
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Bool, UInt8

from fmawsss.files.json_files import many_objects
from fmawsss.files.listing import stamp_files
from fmawsss.files.png import read_mask
from fmawsss.files.texts import check_class_name, compose
from fmawsss.files.writing import write_bytes
from fmawsss.metrics import IGNORE

logger = logging.getLogger(__name__)

SHOWN = 5  # faults in one message
NO_CLASSES = (
    "the data set has no classes: name what labels the images, dataset/labels=file "
    "dataset.labels.path=labels.csv or dataset/labels=folders, or set dataset.classes=[cat,dog]"
)
Labels = tuple[int, ...]
Item = TypeVar("Item")


@dataclass(frozen=True)
class LabelSource:
    """What a data set offers to read labels from.

    `classes` maps every accepted name of a class to its index, `masks` image names to mask files;
    `annotations` is a folder of VOC's XML files, or an index of COCO's annotations.
    """

    classes: Mapping[str, int]
    masks: Mapping[str, Path]
    annotations: Path | None


class LabelFaults(ValueError):
    """All that is wrong with the labels of a data set; the message shows the first faults."""

    def __init__(self, faults: Sequence[str]) -> None:
        shown = list(faults[:SHOWN])
        if len(faults) > SHOWN:
            more = len(faults) - SHOWN
            shown.append(f"and {more} more; `python infer.py task=check` counts and lists them")
        super().__init__("\n".join(shown))
        self.faults = list(faults)


# Labels by image name: images that are missing have unknown labels, other names may be there.
LabelReader = Callable[[Sequence[str], LabelSource], dict[str, Labels]]


@dataclass(frozen=True)
class LabelsFromMasks:
    """Take the classes present in the ground-truth mask (the published choice, METHOD 8).

    `cache` names a CSV file that remembers the labels of masks that have not changed since; None
    reads every mask.
    """

    cache: Path | str | None

    @many_objects()
    def __call__(self, images: Sequence[str], source: LabelSource) -> dict[str, Labels]:
        """Read labels of the images that have a mask."""
        masks = {name: source.masks[name] for name in images if name in source.masks}
        count = len(set(source.classes.values()))

        # what changed since it was read
        known = self._read_cache()
        found = zip(masks.items(), stamp_files([*masks.values()]), strict=True)
        stamps = {name: f"{count}-{stamp}-{path.parent}" for (name, path), stamp in found}
        fresh = [name for name in masks if known.get(name, ("",))[0] != stamps[name]]

        # read that, and remember it
        if fresh:
            logger.info("reading the labels of %d images from their masks", len(fresh))
            with ThreadPoolExecutor() as pool:
                read = pool.map(lambda name: list_present_classes(masks[name], count), fresh)
                for name, labels in zip(fresh, read, strict=True):
                    known[name] = (stamps[name], labels)
            self._write_cache(known)
        return {name: known[name][1] for name in masks}

    def _read_cache(self) -> dict[str, tuple[str, Labels]]:
        if self.cache is None or not Path(self.cache).exists():
            return {}
        try:
            with Path(self.cache).open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.reader(file) if len(row) == 3]
            return {name: (stamp, tuple(map(int, labels.split()))) for name, stamp, labels in rows}
        except (ValueError, csv.Error) as error:
            logger.warning("%s is broken (%s): all masks are read again", self.cache, error)
            return {}

    def _write_cache(self, known: Mapping[str, tuple[str, Labels]]) -> None:
        if self.cache is None:
            return
        text = io.StringIO()
        writer = csv.writer(text)
        for name, (stamp, labels) in sorted(known.items()):
            writer.writerow((name, stamp, " ".join(map(str, labels))))
        write_bytes(Path(self.cache), text.getvalue().encode())


@dataclass(frozen=True)
class LabelsFromXml:
    """Take the objects of VOC's XML annotations, with or without those marked as difficult."""

    difficult: bool

    def __call__(self, images: Sequence[str], source: LabelSource) -> dict[str, Labels]:
        """Read labels of the images that have an annotation."""
        folder = source.annotations
        if folder is None:
            raise ValueError(
                "dataset/labels=xml reads the folder Annotations of a tree like VOC's, which only "
                "dataset=voc has: choose another dataset/labels"
            )
        if not folder.is_dir():
            raise FileNotFoundError(
                f"folder {folder} does not exist; it should hold one XML file per image: unpack "
                "the data set's annotations there, or choose dataset/labels=masks"
            )

        # the images that have one
        files = {name: folder / f"{name}.xml" for name in images}
        names = [name for name, file in files.items() if file.is_file()]
        labels = read_each(lambda name: self._read_file(files[name], source.classes), names)
        return dict(zip(names, labels, strict=True))

    def _read_file(self, file: Path, classes: Mapping[str, int]) -> Labels:
        try:
            tree = ElementTree.parse(file, ElementTree.XMLParser(target=PlainTree()))
        except (ElementTree.ParseError, LookupError, ValueError) as error:
            raise ValueError(
                f"annotation {file} is not whole XML ({error}); unpack it again"
            ) from error

        # the objects that count
        objects = list(tree.iter("object"))
        if not self.difficult:
            objects = [o for o in objects if o.findtext("difficult", "0").strip() != "1"]
        return find_classes((o.findtext("name", "").strip() for o in objects), classes, str(file))


class PlainTree(ElementTree.TreeBuilder):
    """Build a tree of elements; raise ValueError for a DTD, which can define things to expand."""

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """Refuse the declaration."""
        raise ValueError("it declares a document type, which annotations of VOC have not")


class LabelsFromFolders:
    """Take the name of the folder that an image lies in as its one label, as in `cat/001.jpg`."""

    def __call__(self, images: Sequence[str], source: LabelSource) -> dict[str, Labels]:
        """Read the label of every image."""
        loose = [name for name in images if "/" not in name]
        if loose:
            raise ValueError(
                f"{len(loose)} images lie in no class folder, first {loose[0]!r}; "
                "move each into a folder named like its class, or choose another dataset/labels"
            )

        # the folder of each image, and the place for messages
        folders = {name: (name.split("/")[-2], f"the folder of {name!r}") for name in images}
        labels = read_each(
            lambda row: find_classes([row[0]], source.classes, row[1]), folders.values()
        )
        return dict(zip(folders, labels, strict=True))

    def list_names(self, images: Sequence[str]) -> list[str]:
        """List the names of the folders, in alphabetical order."""
        folders = {name.split("/")[-2]: name for name in images if "/" in name}
        return sorted(
            {check_label(folder, f"the folder of {name!r}") for folder, name in folders.items()}
        )


def list_present_classes(mask: Path, classes: int) -> Labels:
    """List the class indices present in a mask file, ascending.

    A mask holds 0 for background, class index + 1, and 255 for what is ignored.
    """
    values = np.flatnonzero(np.bincount(read_mask(mask).ravel(), minlength=256))
    strange = values[(values > classes) & (values != IGNORE)]
    if strange.size:
        raise ValueError(
            f"mask {mask} holds the value {strange[0]}, expected 0 to {classes} or 255; "
            "check the class names (dataset.classes) against the masks (dataset.masks)"
        )
    return tuple(int(value) - 1 for value in values if 0 < value <= classes)


def find_classes(names: Iterable[str], classes: Mapping[str, int], where: str) -> Labels:
    """Turn class names into indices, ascending, each once.

    Raises ValueError for a name that is no class, saying `where` it stands.
    """
    found = list(dict.fromkeys(map(compose, names)))
    for name in found:
        if name not in classes:
            check_label(name, where)
            raise ValueError(
                f"{where}: label {reprlib.repr(name)}: no class of this data set; expected one of "
                f"{', '.join(dict.fromkeys(classes))}; correct the label, or add the class to "
                "dataset.classes"
            )
    return tuple(sorted({classes[name] for name in found}))


def check_label(name: str, where: str) -> str:
    """Return the composed name of a class; raises ValueError for one that no class can have.

    255 is none, the mask value of ignored pixels.
    """
    if name == str(IGNORE):
        raise ValueError(
            f"{where}: label {name!r}: 255 marks ignored pixels and is no label; name a class, or "
            "take it out"
        )
    try:
        check_class_name(name)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return compose(name)


def read_each(read: Callable[[Item], Labels], items: Iterable[Item]) -> list[Labels]:
    """Read the labels of every item; raises LabelFaults with all that cannot be read."""
    labels: list[Labels] = []
    faults: list[str] = []
    for item in items:
        try:
            labels.append(read(item))
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise LabelFaults(faults)
    return labels


def keep_image_labels(
    labels: Bool[np.ndarray, "C"], seed: UInt8[np.ndarray, "H W"] | None
) -> Bool[np.ndarray, "C"]:
    """Let a crop keep the labels of the whole image."""
    return labels


def keep_labels_in_crop(
    labels: Bool[np.ndarray, "C"], seed: UInt8[np.ndarray, "H W"] | None
) -> Bool[np.ndarray, "C"]:
    """Let a crop keep the classes left in its seed map (METHOD 8, segmentation prompts of VOC)."""
    if seed is None:
        raise ValueError(
            "the labels of a crop come from its seeds, but no seeds are read; give the folder "
            "`seeds`"
        )
    present = np.bincount(seed.ravel(), minlength=256)[1 : len(labels) + 1] > 0
    return labels & present


def require_reader(labels: LabelReader | str | None) -> LabelReader | None:
    """Return what reads the labels; raises ValueError for a name, which Hydra takes for a value."""
    if isinstance(labels, str):
        raise ValueError(
            f"dataset.labels={labels} is a text, expected what reads labels; a file of a group is "
            f"chosen with a slash: dataset/labels={labels}"
        )
    return labels
