"""Any tree of images, with or without labels, with or without masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.base import SegmentationDataModule
from datamodules.images import (
    Walk,
    compose_names,
    count_endings,
    find_list,
    find_name,
    index_masks,
    name_files,
    tell,
)
from datamodules.labels import LabelReader, require_reader
from datamodules.sources import extract_frames, index_files, is_video
from fmawsss.files.images import SUFFIXES
from fmawsss.files.texts import MOST_CLASSES, compose, name_first, read_text
from fmawsss.records import ImageRecord

WHOLE_TREE = "all"


@dataclass(kw_only=True, eq=False, repr=False)
class FolderDataModule(SegmentationDataModule):
    """All images below a folder, named by their path below it; hidden folders are left out.

    Split `all` is every image; another split is `<root>/<split>.txt` with a name per line, such a
    list elsewhere (`lists/few.txt`), or the subfolder `<root>/<split>`.

    root: the folder; or an image, a pattern, a text file that lists images, a video.
    frames: where the frames of a video go, and every how many-th of them (`frame_step`).
    classes: None takes the classes that the labels name, in alphabetical order.
    left_out: folders of products; below `root`, their files are no images.
    masks: folder of ground-truth masks `<name>.png`; None for none. Below `root`, its files are
        no images.
    """

    root: Path | str
    masks: Path | str | None
    frames: Path | str
    frame_step: int
    left_out: Sequence[Path | str] = ()

    def __post_init__(self) -> None:
        if self.classes is None:
            labels = require_reader(self.labels)
            self.classes = [] if labels is None else self._list_classes(labels)
        super().__post_init__()

    def _list_classes(self, labels: LabelReader) -> list[str]:
        """List the classes that the labels name."""
        if not hasattr(labels, "list_names"):
            raise ValueError(
                "dataset/labels=masks, xml, npy and annotations know no names of classes: set "
                "dataset.classes=[cat,dog], of masks in the order of their values"
            )
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
        masks = self._find_masks(names, images)
        labels = self.read_labels(names, masks, None, images)
        return [
            ImageRecord(name, images[name], labels.get(name), masks.get(name)) for name in names
        ]

    def _index_tree(self) -> dict[str, Path]:
        """Map the names of all images to their files."""
        root = Path(self.root)
        folder = Path(self.frames) / root.stem if is_video(root) else root
        images = self._walk(folder) if folder.is_dir() else index_files(folder)

        # in the order of their names
        if not images:
            raise ValueError(
                f"{root} holds no image of kind {', '.join(SUFFIXES)}; set dataset.root elsewhere"
            )
        return dict(sorted(images.items()))

    def _walk(self, folder: Path) -> dict[str, Path]:
        """Map the names of all images below a folder to their files; tell what is left out."""
        own = [*self.left_out, *([] if self.masks is None else [self.masks])]
        walk = Walk({Path(path).resolve() for path in own})
        files = list(walk.list_files(folder))
        images = name_files(folder, files)

        # files and folders that are no images
        others = set(files).difference(images.values())
        if others:
            tell(f"{folder}: {len(others)} files are no images: {count_endings(others)}")
        if walk.skipped:
            shown = name_first([str(path) for path in walk.skipped])
            tell(f"{folder}: folders of products, of masks, hidden and circular: {shown} left out")
        return images

    def _list_names(self, split: str, images: dict[str, Path]) -> list[str]:
        """List the image names of a split."""
        root = Path(self.root)
        file = find_list(split) or root / f"{split}.txt"
        if file.is_file():
            return read_name_list(file, images, root)
        if split == WHOLE_TREE:
            return list(images)

        # a subfolder
        if not (root / split).is_dir():
            raise FileNotFoundError(
                f"there is neither a list {file} nor a folder {file.with_suffix('')}; "
                f"write the list, or choose split={WHOLE_TREE}"
            )
        return [name for name in images if name.startswith(f"{split}/")]

    def _find_masks(self, names: list[str], images: Mapping[str, Path]) -> dict[str, Path]:
        if self.masks is None:
            return {}
        folder = Path(self.masks)
        if not folder.is_dir():
            raise FileNotFoundError(
                f"mask folder {folder} does not exist; set dataset.masks, or null for none"
            )

        # some images may have none, and some masks no image
        masks = index_masks(folder)
        if strange := sorted(masks.keys() - set(map(compose, images))):
            tell(f"{folder}: {len(strange)} masks have no image ({name_first(strange)})")
        return {name: masks[compose(name)] for name in names if compose(name) in masks}


def read_name_list(file: Path, images: dict[str, Path], root: Path) -> list[str]:
    """Read image names below a root, one per line, with or without suffix.

    Raises ValueError for names without an image.
    """
    composed = compose_names(images)
    lines = read_text(file).splitlines()
    named = [find_name(line, images, composed) for line in lines if line.strip()]

    # each once
    names = list(dict.fromkeys(named))
    missing = [name for name in names if name not in images]
    if missing:
        raise ValueError(
            f"{file} names {len(missing)} images that are not below {root}, first "
            f"{missing[0]!r}; names are paths below that folder: correct or remove them"
        )
    return names
