"""Make VOC 2012 ready, with SBD's masks in its layout: `python infer.py task=prepare dataset=voc`.

`trainaug` is the list of all images of SBD (its train and val) and of VOC's train, without those of
VOC's val. The mask of an image is VOC's own where there is one, else SBD's, whose `.mat` files
become palette PNGs. Test images are added when their archive was put among the downloads. A list or
a mask that is there already is left alone.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from datamodules.choosing import Splits, name_splits
from datamodules.images import index_images, list_stems
from datamodules.voc import GET_TEST, TEST, VocDataModule, read_split_list, require_list
from fmawsss.files.png import write_palette_png
from fmawsss.files.writing import replace_file, write_bytes
from fmawsss.viz import make_palette
from stages.jobs.archives import Archive, unpack_folder
from stages.jobs.prepare import PART_COLUMNS, fetch_folder
from stages.jobs.tables import show_table

logger = logging.getLogger(__name__)

INNER = "VOCdevkit/VOC2012"  # the tree within VOC's archives
LIST_FOLDER = "ImageSets/Segmentation"
OWN_MASKS = "SegmentationClass"


def prepare_voc(
    data: VocDataModule,
    splits: Splits,
    downloads: Path | str,
    voc: Archive,
    test: str,
    sbd: Path | str,
    sbd_archive: Archive,
) -> None:
    """Unpack VOC below the data set's root, list `trainaug`, and convert the masks that it lacks.

    `test` names the archive of the test images in `downloads`, if it is there; `sbd` is the folder
    of SBD. Raises FileNotFoundError when one of `splits` has no list in the end.
    """
    # VOC's own tree
    root, downloads = Path(data.root), Path(downloads)
    lists = root / LIST_FOLDER
    fetch_folder(root, voc, INNER, downloads)
    masks = data.masks if (root / data.masks).is_dir() else OWN_MASKS
    check_parts(root, ("JPEGImages", masks, f"{LIST_FOLDER}/train.txt", f"{LIST_FOLDER}/val.txt"))
    test_names = add_test(root, downloads / test)
    own = {split: read_split_list(lists / f"{split}.txt") for split in ("train", "val")}

    # masks, VOC's own ones first; SBD is asked for only when something is missing
    trainaug = lists / "trainaug.txt"
    names = read_split_list(trainaug) if trainaug.is_file() else []
    copy_masks([*own["train"], *own["val"]], root / OWN_MASKS, root / data.masks)
    if not trainaug.is_file() or set(names) - list_stems(root / data.masks, ".png"):
        fetch_folder(Path(sbd), sbd_archive, "benchmark_RELEASE/dataset", downloads)
        names = add_sbd(Path(sbd), trainaug, own, root / data.masks)

    # what was asked for must be there now
    for split in name_splits(splits):
        require_list(lists / f"{split}.txt", data.explain_missing(split))
    show_parts(root, data.masks, {**own, "trainaug": names}, test_names)


def check_parts(folder: Path, parts: Iterable[str]) -> None:
    """Raise FileNotFoundError unless a folder that was there holds what its archive does."""
    missing = [part for part in parts if not (folder / part).exists()]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {', '.join(missing)}: it was not unpacked whole; move it away and run "
            "`python infer.py task=prepare dataset=voc` again"
        )


def add_test(root: Path, archive: Path) -> list[str]:
    """Move the test images of an archive into the tree, then their list; return their names."""
    target = root / LIST_FOLDER / f"{TEST}.txt"
    if target.is_file():
        return read_split_list(target)
    if not archive.is_file():
        logger.info("split test is left out: %s", GET_TEST)
        return []

    # look at the archive before anything is moved
    with tempfile.TemporaryDirectory(prefix=".test-", dir=root) as folder:
        tree = Path(folder) / "VOC2012"
        unpack_folder(archive, INNER, tree)
        listed = tree / LIST_FOLDER / f"{TEST}.txt"
        images = index_images(tree / "JPEGImages")
        names = read_split_list(listed) if listed.is_file() else []
        if not names or set(names) - images.keys():
            raise ValueError(
                f"{archive} holds no list {LIST_FOLDER}/{TEST}.txt of its images: fetch "
                "VOC2012test.tar again"
            )

        # the images first: the list says that all are there
        present = index_images(root / "JPEGImages")
        for name in images.keys() - present.keys():
            shutil.move(images[name], root / "JPEGImages")
        write_bytes(target, listed.read_bytes())
        return names


def add_sbd(sbd: Path, trainaug: Path, own: dict[str, list[str]], masks: Path) -> list[str]:
    """Convert the masks that are missing, then write the list `trainaug` unless it is there."""
    # the names on the list
    check_parts(sbd, ("cls", "train.txt", "val.txt"))
    listed = trainaug.is_file()
    names = read_split_list(trainaug) if listed else list_trainaug(sbd, own["train"], own["val"])

    # the masks first: the list says that all are there
    convert_masks(names, sbd / "cls", masks)
    if not listed:
        write_bytes(trainaug, "".join(f"{name}\n" for name in names).encode())
    return names


def list_trainaug(sbd: Path, train: list[str], val: list[str]) -> list[str]:
    """List the images of SBD and of VOC's train, without those of VOC's val."""
    names = {*read_split_list(sbd / "train.txt"), *read_split_list(sbd / "val.txt"), *train}
    return sorted(names - set(val))


def copy_masks(names: Iterable[str], source: Path, target: Path) -> None:
    """Copy the masks that `target` lacks and `source` has; both may be one folder."""
    missing = (set(names) & list_stems(source, ".png")) - list_stems(target, ".png")
    for name in sorted(missing):
        with replace_file(target / f"{name}.png") as temporary:
            shutil.copyfile(source / f"{name}.png", temporary)


def convert_masks(names: Iterable[str], source: Path, target: Path) -> None:
    """Convert the `.mat` files of the masks that `target` lacks; a stopped run goes on."""
    missing = sorted(set(names) - list_stems(target, ".png"))
    palette = make_palette(256)
    logger.info("converting %d masks of %s to %s", len(missing), source, target)

    def convert(name: str) -> None:
        write_palette_png(target / f"{name}.png", read_sbd_mask(source / f"{name}.mat"), palette)

    with ThreadPoolExecutor() as pool:
        list(pool.map(convert, missing))


def read_sbd_mask(path: Path) -> UInt8[np.ndarray, "H W"]:
    """Read the class of each pixel from a file of SBD's `cls` folder.

    Raises FileNotFoundError when there is none, and ValueError naming a broken one.
    """
    try:
        mask = loadmat(path, variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0]
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} does not exist; unpack SBD's benchmark.tgz again"
        ) from None
    except (OSError, KeyError, ValueError, TypeError, IndexError, MatReadError) as error:
        raise ValueError(
            f"{path} is no class mask of SBD ({error!r}); unpack SBD's benchmark.tgz again"
        ) from error

    # one class per pixel
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise ValueError(
            f"{path} holds {mask.dtype} of shape {mask.shape}, expected 8-bit classes (height, "
            "width)"
        )
    return mask


def show_parts(root: Path, masks: str, splits: dict[str, list[str]], test: list[str]) -> None:
    """Print how many images and masks each split has; those of the test images are not public."""
    present = list_stems(root / masks, ".png")
    rows = [("images", sum(1 for _ in (root / "JPEGImages").glob("*.jpg")), root / "JPEGImages")]
    for split, names in splits.items():
        rows.append((f"list {split}", len(names), root / LIST_FOLDER / f"{split}.txt"))
        rows.append((f"masks of {split}", len(present.intersection(names)), root / masks))
    rows.append((f"list {TEST}", len(test), root / LIST_FOLDER / f"{TEST}.txt"))
    show_table("VOC 2012, prepared", PART_COLUMNS, rows)
