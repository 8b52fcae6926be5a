"""Any tree of images, with or without labels, with or without masks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from datamodules.base import SegmentationDataModule
from datamodules.images import list_stems, name_files, strip_suffix
from datamodules.labels import LabelReader, require_reader
from datamodules.sources import extract_frames, index_files, is_video
from fmawsss.files.images import SUFFIXES
from fmawsss.files.texts import MOST_CLASSES, read_text
from fmawsss.records import ImageRecord

WHOLE_TREE = "all"


@dataclass(kw_only=True, eq=False, repr=False)
class FolderDataModule(SegmentationDataModule):
    """All images below a folder, named by their path below it; hidden folders are left out.

    Split `all` is every image; another split is `<root>/<split>.txt` with a name per line, or the
    subfolder `<root>/<split>`.

    root: the folder; or an image, a pattern, a text file that lists images, a video.
    frames: where the frames of a video go, and every how many-th of them (`frame_step`).
    classes: None takes the classes that the labels name, in alphabetical order.
    masks: folder of ground-truth masks `<name>.png`; None for none. Below `root`, its files are
        no images.
    """

    root: Path | str
    masks: Path | str | None
    frames: Path | str
    frame_step: int

    def __post_init__(self) -> None:
        if self.classes is None:
            labels = require_reader(self.labels)
            self.classes = [] if labels is None else self._list_classes(labels)
        super().__post_init__()

    def _list_classes(self, labels: LabelReader) -> list[str]:
        """List the classes that the labels name."""
        names = labels.list_names(list(self._index_tree()))
        origin = getattr(labels, "path", self.root)
        if self.labelled and not names:
            raise ValueError(
                f"{origin} names no class: label the images there (with dataset/labels=folders: "
                "one folder per class), or set dataset.classes"
            )
        if len(names) > MOST_CLASSES:
            raise ValueError(
                f"{origin} names {len(names)} classes, a mask holds at most {MOST_CLASSES}: unite "
                "some"
            )
        return names

    def prepare_data(self) -> None:
        """Take a video apart."""
        root = Path(self.root)
        if is_video(root):
            extract_frames(root, Path(self.frames) / root.stem, self.frame_step)

    def read_split(self, split: str) -> list[ImageRecord]:
        """List the images of a split, in the order of its file or of their names."""
        images = self._index_tree()
        names = self._list_names(split, images)
        masks = self._find_masks(names)
        labels = self.read_labels(names, masks, None, images)
        return [
            ImageRecord(name, images[name], labels.get(name), masks.get(name)) for name in names
        ]

    def _index_tree(self) -> dict[str, Path]:
        """Map the names of all images to their files."""
        root = Path(self.root)
        folder = Path(self.frames) / root.stem if is_video(root) else root
        if folder.is_dir():
            masks = None if self.masks is None else Path(self.masks)
            images = name_files(folder, walk_files(folder, masks))
        else:
            images = index_files(folder)

        # in the order of their names
        if not images:
            raise ValueError(
                f"{root} holds no image of kind {', '.join(SUFFIXES)}; set dataset.root elsewhere"
            )
        return dict(sorted(images.items()))

    def _list_names(self, split: str, images: dict[str, Path]) -> list[str]:
        """List the image names of a split."""
        root = Path(self.root)
        file = root / f"{split}.txt"
        if file.is_file():
            return read_name_list(file, images)
        if split == WHOLE_TREE:
            return list(images)

        # a subfolder
        if not (root / split).is_dir():
            raise FileNotFoundError(
                f"there is neither a list {file} nor a folder {file.with_suffix('')}; "
                f"write the list, or choose split={WHOLE_TREE}"
            )
        return [name for name in images if name.startswith(f"{split}/")]

    def _find_masks(self, names: list[str]) -> dict[str, Path]:
        if self.masks is None:
            return {}
        folder = Path(self.masks)
        if not folder.is_dir():
            raise FileNotFoundError(
                f"mask folder {folder} does not exist; set dataset.masks, or null for none"
            )

        # some images may have none
        present = list_stems(folder, ".png")
        return {name: folder / f"{name}.png" for name in names if name in present}


def read_name_list(file: Path, images: dict[str, Path]) -> list[str]:
    """Read image names, one per line, with or without suffix.

    Raises ValueError for names without an image.
    """
    lines = [line.strip() for line in read_text(file).splitlines()]
    named = [line if line in images else strip_suffix(line) for line in lines if line]

    # each once
    names = list(dict.fromkeys(named))
    missing = [name for name in names if name not in images]
    if missing:
        raise ValueError(
            f"{file} names {len(missing)} images that are not below {file.parent}, first "
            f"{missing[0]!r}; names are paths below that folder: correct or remove them"
        )
    return names


def walk_files(root: Path, without: Path | None) -> Iterator[Path]:
    """Walk through the files below a folder, except in hidden folders and in the one left out."""
    left_out = None if without is None else without.resolve()
    for parent, folders, files in os.walk(root, onerror=refuse_folder):
        folders[:] = [
            f for f in folders if not f.startswith(".") and (Path(parent) / f).resolve() != left_out
        ]
        yield from (Path(parent) / file for file in files)


def refuse_folder(error: OSError) -> NoReturn:
    """Raise OSError for a folder that cannot be listed: its images would be missing unnoticed."""
    raise OSError(
        f"{error.filename} cannot be read ({error.strerror}): allow it, or set dataset.root "
        "elsewhere"
    ) from error
