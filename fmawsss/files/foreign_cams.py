"""CAMs as other methods save them: `.npy` files, each a dictionary of one image (docs/cams.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fmawsss.files.json_files import REMAKE
from fmawsss.files.plain_pickles import read_pickled_arrays
from fmawsss.files.storage import build_cams, list_cam_classes
from fmawsss.records import Cams

CLASSES = ("keys", "fg_cls", "classes")  # what stands beside maps
MAPS = {  # in the order in which they are taken
    "attn_highres": "CLIP-ES, refined",
    "high_res": "IRN, AdvCAM",
    "highres": "CLIP-ES",
    "refined_cam": "refined",
    "cam": "at a stride",
}


def read_foreign_cams(path: Path) -> Cams:
    """Read the CAMs of an image; classes count from 0, without the background.

    A dictionary holds `keys` beside maps (P, h, w) under one of the names of `MAPS`, as CLIP-ES,
    IRN and AdvCAM save it, or one map (h, w) by the number of each class, as SEAM does.

    Raises:
        ValueError: naming the file, for anything else.
    """
    maps, classes, _ = find_maps(path)
    try:
        known = list_cam_classes({"classes": classes})
        return build_cams(torch.from_numpy(maps.astype(np.float32)), known, None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} holds {error}: {REMAKE}") from error


def find_maps(path: Path) -> tuple[np.ndarray, np.ndarray, str]:
    """Find maps and classes of a dictionary, and say whose way of saving them it is."""
    found = read_pickled_arrays(path)
    numbers = [key for key in found if isinstance(key, int)]
    if numbers and len(numbers) == len(found):
        sizes = {found[key].shape for key in numbers}
        if len(sizes) > 1:
            raise ValueError(f"{path} holds maps of several sizes {sorted(sizes)}: {REMAKE}")
        return np.stack([found[key] for key in numbers]), np.array(numbers), "SEAM"

    # maps side by side, and their classes
    classes = next((found[name] for name in CLASSES if name in found), None)
    kind = next((name for name in MAPS if name in found), None)
    if classes is None or kind is None:
        raise ValueError(
            f"{path} holds {', '.join(map(str, found)) or 'nothing'}, expected `keys` and one of "
            f"{', '.join(MAPS)}, or a map by the number of each class"
        )
    return found[kind], classes, f"`{kind}`, {MAPS[kind]}"
