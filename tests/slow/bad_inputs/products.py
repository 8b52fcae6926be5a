"""Bad inputs: CAMs, superpixels, seeds and records."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .judge import BadInput
from .project import infer, pipeline, train
from .spoil import Prepare, change_arrays, change_mask, cut, each, empty, remove, write

WORK = "outputs/shapes"
COARSE, FINE, CAMS = f"{WORK}/seeds/coarse", f"{WORK}/seeds/fine", f"{WORK}/cams/coarse"
SUPERPIXELS = f"{WORK}/superpixels"
NAMES = [f"train_0000{number}" for number in range(6)]
AGAIN = "again|anew|restore"
FROM_CAMS = infer("seeds", f"cams={CAMS}")
LEARN_SEG = train("seg", "overwrite=true")
LEARN_CLS = train("cls", "overwrite=true")
OWN = "own_seeds"
LEARN_OWN = train("network", f"seeds={OWN}", "overwrite=true")


def case(
    name: str, command: Sequence[str], prepare: Prepare, names: str, tells: str = AGAIN
) -> BadInput:
    """Spoil a product, then run a stage that makes or reads it."""
    return BadInput(name, "products", command, prepare, names, tells)


def cams(name: str, prepare: Prepare, tells: str = AGAIN, names: str = r"train_00001") -> BadInput:
    """Spoil the CAMs of an image, then make seeds of CAMs."""
    return case(name, FROM_CAMS, prepare, names, tells)


def own(name: str, make: Callable[[np.ndarray], Any], tells: str, only: bool = False) -> BadInput:
    """Train from a changed copy of the seeds, which has no record."""

    def prepare(folder: Path) -> None:
        shutil.copytree(folder / FINE, folder / OWN)
        for image in NAMES[1:2] if only else NAMES:
            change_mask(f"{OWN}/{image}.png", make)(folder)

    return case(name, LEARN_OWN, prepare, OWN, tells)


def fill(value: int) -> Callable[[np.ndarray], np.ndarray]:
    """Fill a mask with one value."""
    return lambda mask: np.full_like(mask, value)


def record(file: str, change: Callable[[dict[str, Any]], Any]) -> Prepare:
    """Change a record."""
    return write(file, lambda data: json.dumps(change(json.loads(data))).encode())


def swap(one: str, other: str) -> Prepare:
    """Put another file's content in the place of a file."""
    return lambda folder: shutil.copyfile(folder / other, folder / one)


def pack(**arrays: Any) -> bytes:
    """Pack arrays, objects too."""
    memory = io.BytesIO()
    np.savez(memory, **arrays)
    return memory.getvalue()


def npy(array: np.ndarray) -> bytes:
    """Write one array."""
    memory = io.BytesIO()
    np.save(memory, array)
    return memory.getvalue()


def spoil_first(value: float) -> Callable[[np.ndarray], np.ndarray]:
    """Set the first number of an array."""

    def change(array: np.ndarray) -> np.ndarray:
        array = np.array(array, np.float32)
        array.flat[0] = value
        return array

    return change


CAM, CUT_CAM = f"{CAMS}/train_00001.npz", r"train_00001\.npz"
SUPERPIXEL = f"{SUPERPIXELS}/train_00001.npz"
SEED = f"{COARSE}_memory/train_00001.png"  # what seg learns from

CASES: list[BadInput] = [
    # Emptied, cut or edited since a stage made them
    case("emptied_seed", train("seg"), empty(SEED), r"train_00001\.png"),
    case("edited_seed", train("seg"), change_mask(SEED, fill(1)), r"train_00001\.png", "Restore"),
    case(
        "seed_of_another_image",
        infer("cls"),
        swap(f"{COARSE}/train_00001.png", f"{COARSE}/train_00002.png"),
        r"train_00001\.png",
        "overwrite=true",
    ),
    case("emptied_mask", pipeline(), empty(f"{WORK}/masks/val_00001.png"), r"val_00001\.png"),
    case("cut_superpixels", pipeline(), write(SUPERPIXEL, cut), r"train_00001\.npz"),
    case("lost_seed", pipeline(), remove(f"{FINE}/train_00001.png"), r"train_00001\.png"),
    case(
        "cut_checkpoint",
        infer("cls"),
        write(f"{WORK}/cls.ckpt", lambda d: d[:99]),
        r"cls\.ckpt",
        AGAIN,
    ),
    case(
        "longer_checkpoint",
        infer("seg"),
        write(f"{WORK}/seg.ckpt", lambda d: d[:-2] + b"xx"),
        r"seg\.ckpt",
        "Restore",
    ),
    case(
        "checkpoint_of_another_stage",
        pipeline(),
        swap(f"{WORK}/cls.ckpt", f"{WORK}/seg.ckpt"),
        r"cls\.ckpt",
        "Restore",
    ),
    # Seeds from elsewhere
    own("seeds_without_objects", fill(0), "none of the 6 seeds.*255"),
    own("seeds_all_ignored", fill(255), "none of the 6 seeds.*255"),
    own("seeds_beyond_classes", lambda m: m + 60, "expected 0 to 8 or 255"),
    own("seed_of_another_size", lambda m: m[9:], "size", only=True),
    own("seed_in_colour", lambda m: np.dstack([m, m, m]), "indexed or 8-bit", only=True),
    case(
        "seeds_of_another_data_set",
        train("network", "seeds=outputs/folder/seeds/coarse"),
        lambda folder: None,
        "outputs/folder/seeds/coarse",
        "run the stage|name another",
    ),
    # Superpixels
    case(
        "superpixels_of_another_image",
        LEARN_CLS,
        swap(SUPERPIXEL, f"{SUPERPIXELS}/train_00003.npz"),
        r"train_00001\.npz",
        "Restore",
    ),
    case("superpixels_gone", LEARN_CLS, remove(SUPERPIXELS), "superpixels", "infer.py task=superp"),
    case(
        "superpixels_with_nan",
        train("cls", "data.superpixels=own", "overwrite=true"),
        each(
            lambda f: shutil.copytree(f / SUPERPIXELS, f / "own"),
            change_arrays("own/train_00001.npz", predicted_iou=spoil_first(np.nan)),
        ),
        r"own/train_00001\.npz",
        AGAIN,
    ),
    case(
        "superpixels_of_another_size",
        infer("cls", "data.superpixels=mine", "emits=seeds_mine"),
        each(
            lambda f: shutil.copytree(f / SUPERPIXELS, f / "mine"),
            change_arrays("mine/train_00001.npz", size=np.array([90, 112])),
        ),
        r"mine/train_00001\.npz",
        AGAIN,
    ),
    case(
        "superpixels_with_objects",
        infer("cls", "data.superpixels=odd", "emits=seeds_odd"),
        each(
            lambda f: shutil.copytree(f / SUPERPIXELS, f / "odd"),
            write("odd/train_00001.npz", pack(level=np.array([{}], object))),
        ),
        r"odd/train_00001\.npz",
        AGAIN,
    ),
    case(
        "text_for_superpixels",
        infer("cls", "data.superpixels=text", "emits=seeds_text"),
        each(
            lambda f: shutil.copytree(f / SUPERPIXELS, f / "text"),
            write("text/train_00001.npz", b"no archive"),
        ),
        r"text/train_00001\.npz",
        AGAIN,
    ),
    case(
        "superpixels_of_a_later_version",
        infer("cls", "data.superpixels=new", "emits=seeds_new"),
        each(
            lambda f: shutil.copytree(f / SUPERPIXELS, f / "new"),
            change_arrays("new/train_00001.npz", version=np.array(7)),
        ),
        r"new/train_00001\.npz",
        "version",
    ),
    # CAMs
    cams("nan_in_a_cam", change_arrays(CAM, cam=spoil_first(np.nan))),
    cams("infinity_in_attention", change_arrays(CAM, attention=spoil_first(np.inf))),
    cams("cam_of_no_class", change_arrays(CAM, classes=lambda a: a + 90), "has 0 to 7"),
    cams(
        "cams_count_from_1",
        each(
            *(change_arrays(f"{CAMS}/{name}.npz", classes=lambda a: (a + 1) % 8) for name in NAMES)
        ),
        "not among the labels",
        "cams/coarse",
    ),
    cams("cams_without_classes", change_arrays(CAM, classes=None, format=None)),
    cams(
        "cam_of_two_axes",
        change_arrays(CAM, cam=lambda a: a.reshape(-1, a.shape[-1])),
        "expected one map",
    ),
    cams("one_array_for_cams", write(CAM, npy(np.zeros((1, 7, 7), np.float32)))),
    cams("cams_with_objects", write(CAM, pack(cam=np.array([{}], object), classes=np.zeros(1)))),
    cams("cut_cams", write(CAM, cut)),
    cams("cams_gone", remove(CAM), "callbacks=cams"),
    cams(
        "attention_of_another_grid",
        change_arrays(CAM, attention=lambda a: a[:-1, :-1]),
        "attention|grid|shape",
    ),
    case(
        "no_folder_of_cams",
        infer("seeds", "cams=nowhere"),
        lambda folder: None,
        "nowhere",
        "callbacks=cams",
    ),
    case(
        "cams_of_another_stage",
        FROM_CAMS,
        each(*(change_arrays(f"{CAMS}/{name}.npz", recipe=np.array("seg_voc")) for name in NAMES)),
        "cams/coarse",
        "recipe=|cams_of",
    ),
    # Records
    case("cut_record", pipeline(), write(f"{COARSE}.json", cut), r"coarse\.json", AGAIN),
    case("emptied_record", infer("cls"), empty(f"{WORK}/cls.ckpt.json"), r"cls\.ckpt\.json", AGAIN),
    case(
        "list_for_a_record",
        infer("superpixels"),
        write(f"{SUPERPIXELS}.json", b"[]"),
        r"superpixels\.json",
        f"{AGAIN}|delete",
    ),
    case(
        "record_without_parts",
        infer("seg"),
        record(f"{FINE}.json", lambda r: {k: v for k, v in r.items() if k != "parts"}),
        r"fine\.json",
        f"{AGAIN}|delete",
    ),
    case(
        "record_of_an_older_version",
        infer("network"),
        record(f"{WORK}/masks.json", lambda r: {**r, "version": 1}),
        r"masks",
        "overwrite=true",
    ),
    case(
        "files_without_a_record",
        infer("cls", "writers.seeds.kind=cam"),
        remove(f"{COARSE}.json"),
        r"coarse\.json",
        "move them|paths.work",
    ),
    case(
        "record_of_other_settings",
        train("cls"),
        record(
            f"{WORK}/cls.ckpt.json",
            lambda r: {**r, "fingerprint": "0" * 16, "settings": {**r["settings"], "seed": 9}},
        ),
        r"seed",
        "overwrite=true",
    ),
]
