"""Make VOC 2012 ready, with SBD's masks in its layout: `python infer.py task=prepare dataset=voc`.

`trainaug` is the list of all images of SBD (its train and val) and of VOC's train, without those of VOC's val. The
mask of an image is VOC's own where there is one, else SBD's, whose `.mat` files become palette PNGs. A list or a mask
that is there already is left alone.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from datamodules.archives import Archive
from datamodules.images import list_stems
from datamodules.prepare import COLUMNS, require_folder
from datamodules.tables import show_table
from datamodules.voc import VocDataModule, read_split_list
from fmawsss.storage import replace_file, write_bytes, write_palette_png
from fmawsss.viz import make_palette

log = logging.getLogger(__name__)

OWN_MASKS = "SegmentationClass"


def prepare_voc(
    datamodule: VocDataModule, downloads: Path | str, voc: Archive, sbd: Path | str, sbd_archive: Archive
) -> None:
    """Unpack VOC below the data set's root, list `trainaug`, and convert the masks that its images lack.

    `sbd` is the folder of SBD that holds `cls/<name>.mat`, `train.txt` and `val.txt`; it is fetched only when needed.
    """
    root, downloads = Path(datamodule.root), Path(downloads)
    require_folder(root, voc, "VOCdevkit/VOC2012", downloads)
    lists = root / "ImageSets" / "Segmentation"
    own = {split: read_split_list(lists / f"{split}.txt") for split in ("train", "val")}

    # SBD is asked for only when its list or one of its masks is missing
    listed = (lists / "trainaug.txt").is_file()
    names = read_split_list(lists / "trainaug.txt") if listed else []
    copy_masks([*own["train"], *own["val"]], root / OWN_MASKS, root / datamodule.masks)
    if not listed or set(names) - list_stems(root / datamodule.masks, ".png"):
        require_folder(Path(sbd), sbd_archive, "benchmark_RELEASE/dataset", downloads)
        names = names if listed else list_trainaug(Path(sbd), own["train"], own["val"])
        convert_masks(names, Path(sbd) / "cls", root / datamodule.masks)
    if not listed:
        write_bytes(lists / "trainaug.txt", "".join(f"{name}\n" for name in names).encode())
    report(root, datamodule.masks, {**own, "trainaug": names})


def list_trainaug(sbd: Path, train: list[str], val: list[str]) -> list[str]:
    """List the images of SBD and of VOC's train, without those of VOC's val."""
    names = {*read_split_list(sbd / "train.txt"), *read_split_list(sbd / "val.txt"), *train} - set(val)
    return sorted(names)


def copy_masks(names: Iterable[str], source: Path, target: Path) -> None:
    """Copy the masks that `target` lacks and `source` has; nothing to do when both are one folder."""
    missing = (set(names) & list_stems(source, ".png")) - list_stems(target, ".png")
    for name in sorted(missing):
        with replace_file(target / f"{name}.png") as temporary:
            shutil.copyfile(source / f"{name}.png", temporary)


def convert_masks(names: Iterable[str], source: Path, target: Path) -> None:
    """Convert the `.mat` files of the masks that `target` lacks; a run that was stopped goes on where it was."""
    missing, palette = sorted(set(names) - list_stems(target, ".png")), make_palette(256)
    log.info("converting %d masks of %s to %s", len(missing), source, target)

    def convert(name: str) -> None:
        write_palette_png(target / f"{name}.png", read_sbd_mask(source / f"{name}.mat"), palette)

    with ThreadPoolExecutor() as pool:
        list(pool.map(convert, missing))


def read_sbd_mask(path: Path) -> UInt8[np.ndarray, "H W"]:
    """Read the class of each pixel from a file of SBD's `cls` folder; raises ValueError naming a broken one."""
    try:
        mask = loadmat(path, variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0]
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist; unpack SBD's benchmark.tgz again") from None
    except (OSError, KeyError, ValueError, TypeError, IndexError, MatReadError) as error:
        raise ValueError(f"{path} is no class mask of SBD ({error!r}); unpack SBD's benchmark.tgz again") from error
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise ValueError(f"{path} holds {mask.dtype} of shape {mask.shape}, expected 8-bit classes (height, width)")
    return mask


def report(root: Path, masks: str, splits: dict[str, list[str]]) -> None:
    """Print how many images and masks each split has."""
    present = list_stems(root / masks, ".png")
    rows = [("images", sum(1 for _ in (root / "JPEGImages").glob("*.jpg")), root / "JPEGImages")]
    for split, names in splits.items():
        rows.append((f"list {split}", len(names), root / "ImageSets" / "Segmentation" / f"{split}.txt"))
        rows.append((f"masks of {split}", len(present.intersection(names)), root / masks))
    show_table("VOC 2012, prepared", COLUMNS, rows)
