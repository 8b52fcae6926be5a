"""PASCAL VOC 2012 in its official layout, with or without the SBD augmentation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from datamodules.base import SegmentationDataModule
from datamodules.images import (
    check_inner_path,
    compose_names,
    find_list,
    index_images,
    index_masks,
    strip_suffix,
)
from fmawsss.files.texts import compose, read_text
from fmawsss.records import ImageRecord

PREPARE = (
    "run `python infer.py task=prepare dataset=voc`, or unpack VOCtrainval_11-May-2012.tar "
    "(http://host.robots.ox.ac.uk/pascal/VOC/voc2012/) and set dataset.root=…/VOCdevkit/VOC2012"
)
TEST = "test"
GET_TEST = (
    "only VOC's evaluation server (http://host.robots.ox.ac.uk:8080/, after login) has the test "
    "images: put its VOC2012test.tar where downloads go (data/downloads) and run `python infer.py "
    "task=prepare dataset=voc`"
)


@dataclass(kw_only=True, eq=False, repr=False)
class VocDataModule(SegmentationDataModule):
    """A tree like `VOCdevkit/VOC2012`.

    It holds JPEGImages, ImageSets/Segmentation/<split>.txt, Annotations and folders of masks.

    root: the folder that holds JPEGImages.
    masks: the folder of ground-truth masks below it, `SegmentationClass` or `SegmentationClassAug`.
    """

    root: Path | str
    masks: str

    def read_split(self, split: str) -> list[ImageRecord]:
        """List the images of ImageSets/Segmentation/<split>.txt, or of a list elsewhere."""
        root = Path(self.root)
        photos = root / "JPEGImages"
        lists = root / "ImageSets" / "Segmentation"

        # what there is
        file = find_list(split)
        if file is None:
            file = require_list(lists / f"{split}.txt", self.explain_missing(split))
        images = index_images(photos)
        names = read_split_list(file, images)

        # what is known of it
        present = index_masks(root / self.masks)
        masks = {name: present[compose(name)] for name in names if compose(name) in present}
        labels = self.read_labels(names, masks, root / "Annotations", images)
        files = {name: images.get(name, photos / f"{name}.jpg") for name in names}
        return [ImageRecord(name, files[name], labels.get(name), masks.get(name)) for name in names]

    def explain_missing(self, split: str) -> str:
        """Say how to come by the list of a split."""
        return GET_TEST if split == TEST else PREPARE


def require_list(path: Path, remedy: str) -> Path:
    """Return the path of a split list; raises FileNotFoundError when there is none."""
    if path.is_file():
        return path
    splits = sorted(file.stem for file in path.parent.glob("*.txt"))
    found = f"there are {', '.join(splits)}" if splits else f"{path.parent} holds no lists"
    raise FileNotFoundError(
        f"split list {path} does not exist ({found}); {remedy}, or choose another split"
    )


def read_split_list(path: Path, images: Iterable[str] = ()) -> list[str]:
    """Read the image names of a split: a line that is among `images`, else its first word.

    A path such as /JPEGImages/a.jpg names `a`, and what stands beside it, as in VOC's other lists,
    counts nothing.
    """
    composed = compose_names(images)
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    words = [
        line if compose(line) in composed else strip_suffix(Path(line.split()[0]).name)
        for line in lines
    ]
    names = [composed.get(compose(word), word) for word in words]

    for name in names:
        check_inner_path(name, f"a name in {path}")

    # each once
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(
            f"split list {path} names {len(twice)} images twice, first {twice[0]!r}; remove one"
        )
    return names
