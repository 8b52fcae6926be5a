"""The masks of a tree like COCO's: made of annotations, found by name, and what keeps them away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from datamodules.coco_annotations import AnnotatedImage, Annotations, paint_mask
from datamodules.coco_regions import CocoRegion, read_region, require_size
from datamodules.images import index_masks, strip_suffix
from fmawsss.files.images import read_size
from fmawsss.files.png import write_palette_png
from fmawsss.files.texts import compose
from fmawsss.viz import make_palette

MASK_PALETTE = make_palette(256)
CLOCK = 2  # seconds within which two times are one, for file systems round them


def require_order(source: Path, names: Sequence[str], classes: Sequence[str]) -> None:
    """Raise ValueError unless there are as many categories as classes, in their order.

    Names that are no classes at all may be there: a data set may call its categories otherwise.
    """
    if len(names) != len(classes):
        raise ValueError(
            f"{source} has {len(names)} categories, the data set {len(classes)} classes; correct "
            "dataset.classes: one name per category, in the order of the category ids"
        )
    places = {name: index for index, name in enumerate(classes)}
    for index, name in enumerate(map(compose, map(str.strip, names))):
        if places.get(name, index) != index:
            raise ValueError(
                f"{source}: category {name!r} is number {index + 1} in the order of the ids, in "
                f"dataset.classes number {places[name] + 1}: write the classes in the order of the "
                "category ids"
            )


def find_mask_faults(annotations: Annotations, folder: Path, source: Path) -> Iterator[str]:
    """Find the images of which no mask can be made, or not one of their size; nothing is drawn."""
    with annotations.open_regions() as read:
        for image in annotations.images:
            if image.regions is None:
                continue
            try:
                size = require_size(image.size)
                for region in read(image):
                    read_region(region, size)
                found = read_size(folder / image.file)
            except FileNotFoundError:  # told by who reads it
                continue
            except ValueError as error:
                yield f"{source}, image {image.file}: {error}"
            else:
                if size != found:
                    yield (
                        f"{source}, image {image.file}: its height and width are {size}, those of "
                        f"the file {found}: correct them"
                    )


def find_annotations(root: Path, split: str) -> Path:
    """Find the annotation file of a split such as train2014; raises FileNotFoundError without."""
    folder = root / "annotations"
    for kind in ("instances", "image_info"):
        if (path := folder / f"{kind}_{split}.json").is_file():
            return path

    # say what is there, and what to do
    found = ", ".join(sorted(file.name for file in folder.glob("*.json"))) or "nothing"
    raise FileNotFoundError(
        f"{folder / f'instances_{split}.json'} does not exist ({folder} holds {found}); unpack "
        "annotations_trainval2014.zip and train2014.zip, val2014.zip "
        "(https://cocodataset.org/#download) there, set dataset.root to the folder that holds "
        "them, or choose another split"
    )


def write_painted_mask(
    folder: Path,
    image: AnnotatedImage,
    regions: Sequence[CocoRegion],
    classes: Mapping[str, int],
    source: Path,
) -> None:
    """Write the semantic mask of an image; raises ValueError naming the image of a bad region."""
    try:
        mask = paint_mask(image.size, regions, classes)
    except ValueError as error:
        raise ValueError(f"{source}, image {image.file}: {error}") from error
    write_palette_png(folder / f"{strip_suffix(image.file)}.png", mask, MASK_PALETTE)


def find_masks(names: Iterable[str], folder: Path) -> dict[str, Path]:
    """Find the mask of each image, named like the image or by the number at its end."""
    present = index_masks(folder)
    found: dict[str, Path] = {}
    for name in names:
        for stem in map(compose, (name.rpartition("_")[2], name)):
            if stem in present:
                found[name] = present[stem]
    return found


def have_one_time(first: Path, second: Path) -> bool:
    """Say whether two files were last changed at the same time."""
    return abs(first.stat().st_mtime - second.stat().st_mtime) < CLOCK
