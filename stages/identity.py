"""What a product depends on: the sections of its stage's config, as plain data.

`model`, `learning`, `training` make the identity of the checkpoint, `model`, `applying`,
`prediction`, `writers` that of the output. `runtime` changes no product and enters neither. To
these come the content of the inputs, the frozen weights and the versions of our own code
(`stages/stage.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.base import SegmentationDataModule
from datamodules.views import TrainingView, WholeView
from fmawsss.files.products import read_fingerprint
from stages.stage import Run

Sections = Mapping[str, Any]


def identify_checkpoint(
    sections: Sections, data: SegmentationDataModule, run: Run
) -> dict[str, Any]:
    """Say what a checkpoint depends on; which inputs there are is said, what they hold is not."""
    inputs = sorted(drop_null(sections["training"]["inputs"]))
    return {
        "classes": list(data.classes),
        "prompt_names": list(data.prompt_names),
        "seed": run.seed,
        "model": sections["model"],
        "learning": sections["learning"],
        "training": {**sections["training"], "inputs": inputs},
        "features": None if run.cache is None else run.cache.dtype,
        **describe_copies(data.training),
    }


def identify_output(sections: Sections, data: SegmentationDataModule, run: Run) -> dict[str, Any]:
    """Say what an output depends on; names of classes count where they stand in prompts."""
    inputs = drop_null(sections["prediction"]["inputs"])
    named = "prompt_names" in sections["takes"]
    return {
        "classes": list(data.classes) if named else None,
        "prompt_names": list(data.prompt_names) if named else None,
        "model": sections["model"],
        "applying": sections["applying"],
        "prediction": {**sections["prediction"], "inputs": sorted(inputs)},
        "writers": sections["writers"],
        "precision": run.precision,
        **describe_copies(data.whole),
    }


def describe_copies(view: TrainingView | WholeView | None) -> dict[str, int]:
    """Say which copies stand for larger images, if any do."""
    return {} if view is None or view.longest is None else {"longest": view.longest}


def identify_views(sections: Sections, data: SegmentationDataModule, run: Run) -> dict[str, Any]:
    """List what the features of training views depend on; batches and prompts do not count."""
    view, model = sections["training"]["view"], sections["model"]
    made = {key: view.get(key) for key in ("augment", "crop_labels", "normalise")}
    chosen = {key: view.get(key) for key in ("split", "views", "shots")}
    encoder = {"target": model["_target_"], "clip": model.get("clip")}
    dtype = None if run.cache is None else run.cache.dtype
    return {
        **made,
        **chosen,
        **encoder,
        "seed": run.seed,
        "dtype": dtype,
        **describe_copies(data.training),
    }


def drop_null(values: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what is None."""
    return {key: value for key, value in values.items() if value is not None}


def pin_files(named: Any, real: Any) -> Any:
    """Replace, at any depth, a `path` that names a file by the fingerprint of its content.

    `named` are the same settings as `real` with places left as names.
    """
    if isinstance(named, list):
        return [pin_files(*pair) for pair in zip(named, real, strict=True)]
    if not isinstance(named, dict):
        return named
    pinned = {key: pin_files(value, real[key]) for key, value in named.items()}
    path = real.get("path")
    if isinstance(path, str) and Path(path).is_file():
        pinned["path"] = read_fingerprint(Path(path))
    return pinned
