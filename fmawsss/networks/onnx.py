"""A checkpoint as an ONNX file that other programs run, compared with the network before it is
handed out.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fmawsss.files.storage import replace_file
from fmawsss.networks.checkpoints import read_checkpoint
from fmawsss.networks.segmenter import Segmenter

logger = logging.getLogger(__name__)
Size = tuple[int, int]
INPUT, OUTPUT = "images", "probabilities"


class ProbabilityNetwork(nn.Module):
    """A network whose answer is the probability of each class at the size of the images."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B R H W"]:
        """Compute the probabilities of R classes, the background's first."""
        scores = self.network(images).float()
        return F.interpolate(
            scores, size=images.shape[-2:], mode="bilinear", align_corners=False
        ).softmax(dim=1)


def export_onnx(
    checkpoint: Path, path: Path | str, size: Sequence[int], dynamic: bool, tolerance: float
) -> None:
    """Write the network of a checkpoint as ONNX, from normalised `images` to `probabilities` of the
    same size.

    The metadata say the rest, as JSON: `classes`, `palette`, `image_mean`, `image_std`, `resize`.

    size: height and width to trace with; `dynamic` leaves them and the batch open, else they are
        the only ones.
    tolerance: the largest difference allowed between the file's answers and the network's.

    Raises:
        ModuleNotFoundError: without the packages.
        ValueError: when the network cannot be exported so, or the file answers otherwise.
    """
    require_packages()
    height, width = size
    network = ProbabilityNetwork(Segmenter.from_checkpoint(checkpoint).network).eval()
    program = translate(network, (height, width), dynamic)
    for key, value in describe_checkpoint(read_checkpoint(checkpoint)).items():
        program.model.metadata_props[key] = json.dumps(value, ensure_ascii=False)
    others = [(height + 40, width + 13), (height // 2, width)] if dynamic else []
    with replace_file(Path(path)) as temporary:
        program.save(temporary)
        found = compare_answers(network, temporary, [(height, width), *others])
        if found > tolerance:
            raise ValueError(
                f"the exported network differs from the network by {found:.2g}, allowed is "
                f"{tolerance:.2g}"
            )
    logger.info("%s: its answers differ from the network's by at most %.1g", path, found)


def translate(network: nn.Module, size: Size, dynamic: bool) -> Any:
    """Translate a network to an ONNX program."""
    free = {axis: torch.export.Dim.DYNAMIC for axis in (0, 2, 3)} if dynamic else None
    example = torch.zeros(2 if dynamic else 1, 3, *size)
    try:
        traced = torch.export.export(network, (example,), dynamic_shapes=(free,), strict=False)
        return torch.onnx.export(
            traced,
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            optimize=False,
            verbose=False,
        )
    except Exception as error:  # whatever the tracer stumbles over
        remedy = (
            "set job.dynamic=false for images of one size (job.size=[512,512])"
            if dynamic
            else "keep to torch"
        )
        raise ValueError(
            f"this network cannot be exported: {remedy}. The reason: {error}"
        ) from error


def describe_checkpoint(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Collect what a program needs to know beside the network: classes and colours, and how images
    are to be seen.
    """
    carried = checkpoint["carried"]
    names = carried.get("dataset", {}).get("names") or checkpoint["classes"]
    return {"classes": ["background", *names], "palette": checkpoint["palette"], **carried["data"]}


def compare_answers(network: nn.Module, path: Path, sizes: Sequence[Size]) -> float:
    """Return the largest difference between a network and its file, on random images of several
    sizes.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found, rng = 0.0, np.random.default_rng(0)
    for size in sizes:
        images = rng.standard_normal((1, 3, *size), dtype=np.float32)
        with torch.no_grad():
            expected = network(torch.from_numpy(images)).numpy()
        (answer,) = session.run([OUTPUT], {INPUT: images})
        if answer.shape != expected.shape:
            raise ValueError(
                f"the exported network answers {answer.shape} to {images.shape}, expected "
                f"{expected.shape}"
            )
        found = max(found, float(np.abs(answer - expected).max()))
    return found


def require_packages() -> None:
    """Raise ModuleNotFoundError, with the command that installs them, when a package is missing."""
    missing = [
        package for package in ("onnx", "onnxscript", "onnxruntime") if find_spec(package) is None
    ]
    if missing:
        raise ModuleNotFoundError(
            f'exporting needs {", ".join(missing)}: pip install -e ".[export]"'
        )
