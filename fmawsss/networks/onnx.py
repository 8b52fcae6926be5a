"""A network as an ONNX file for other programs; both answer alike, or there is no file."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fmawsss.files.writing import replace_file
from fmawsss.networks.checkpoints import NetworkCheckpoint, build_network, read_checkpoint
from fmawsss.networks.onnx_ends import IMAGES, LABELS, LOGITS, SEEN, add_ends
from fmawsss.networks.segmenter import Segmenter
from fmawsss.resizing import Size

if TYPE_CHECKING:
    from onnx import ModelProto

logger = logging.getLogger(__name__)
INPUT, OUTPUT = "images", "probabilities"


class LogitNetwork(nn.Module):
    """A network that answers in float32, whatever it computes in."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B R h w"]:
        """Compute the logits of R classes, the background's first."""
        return self.network(images).float()


class ProbabilityNetwork(nn.Module):
    """A network that answers the probability of each class, at the size of the images."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B R H W"]:
        """Compute the probabilities of R classes, the background's first."""
        logits = self.network(images).float()
        resized = F.interpolate(
            logits, size=images.shape[-2:], mode="bilinear", align_corners=False
        )
        return resized.softmax(dim=1)


def export_labels(
    checkpoint: Path,
    path: Path | str,
    size: Sequence[int],
    dynamic: bool,
    agreement: float,
    build: Callable[..., nn.Module] | None = None,
) -> None:
    """Write a network as ONNX: 8-bit `images` (B, H, W, 3) in, their `labels` (B, H, W) out.

    Resizing and normalising are in the graph; `classes` and `palette` are in the metadata, as JSON.

    size: height and width to trace with, of one image at a time, unless `dynamic` leaves all open.
    agreement: the least share of pixels that the file labels as the network does.
    build: builds a network that is not on our list, as for `Segmenter.from_checkpoint`.

    Raises:
        ModuleNotFoundError: without the packages.
        ValueError: when the network cannot be exported so, or the file answers otherwise.
    """
    # Translate the network, seeing what it sees of an image of this size
    require_packages()
    height, width = size
    segmenter = Segmenter.from_checkpoint(checkpoint, build=build)
    seen = segmenter.resize.find_size((height, width))
    logits = LogitNetwork(segmenter.network)
    model = translate_network(logits, seen, dynamic, (SEEN, LOGITS)).model_proto

    # Put what comes before and after around it
    axes = ["batch", "height", "width"] if dynamic else [1, height, width]
    add_ends(model, segmenter.resize, segmenter.normalise, axes)
    assert segmenter.checkpoint is not None
    for key, value in describe_checkpoint(segmenter.checkpoint).items():
        model.metadata_props.add(key=key, value=value)

    # Compare before the file gets its name
    others = [(height + 40, width + 13), (height // 2, width)] if dynamic else []
    with replace_file(Path(path)) as temporary:
        temporary.write_bytes(pack_model(model))
        with explain_failures(dynamic):
            found = compare_labels(segmenter, temporary, [(height, width), *others])
        if found < agreement:
            raise ValueError(
                f"the exported network labels {found:.2%} of the pixels as the network does, "
                f"at least {agreement:.2%} are wanted (job.agreement)"
            )
    logger.info("%s: labels %.2f %% of the pixels as the network does", path, 100 * found)


def export_onnx(
    checkpoint: Path,
    path: Path | str,
    size: Sequence[int],
    dynamic: bool,
    tolerance: float,
    build: Callable[..., nn.Module] | None = None,
) -> None:
    """Write the network of a checkpoint as ONNX: normalised `images` in, `probabilities` out.

    The metadata say the rest, as JSON: `classes`, `palette`, `image_mean`, `image_std`, `resize`.

    size: height and width to trace with, the only ones unless `dynamic` leaves them open.
    tolerance: the largest difference between the file's answers and the network's.
    build: builds a network that is not on our list, as for `Segmenter.from_checkpoint`.

    Raises:
        ModuleNotFoundError: without the packages.
        ValueError: when the network cannot be exported so, or the file answers otherwise.
    """
    # Translate
    require_packages()
    height, width = size
    read = read_checkpoint(checkpoint)
    network = ProbabilityNetwork(build_network(read, build).requires_grad_(False)).eval()
    program = translate_network(network, (height, width), dynamic, (INPUT, OUTPUT))
    program.model.metadata_props.update(describe_checkpoint(read))

    # Compare before the file gets its name
    others = [(height + 40, width + 13), (height // 2, width)] if dynamic else []
    with replace_file(Path(path)) as temporary:
        program.save(temporary)
        with explain_failures(dynamic):
            found = compare_answers(network, temporary, [(height, width), *others])
        check_difference(found, tolerance)
    logger.info("%s: its answers differ from the network's by at most %.1g", path, found)


def translate_network(network: nn.Module, size: Size, dynamic: bool, names: tuple[str, str]) -> Any:
    """Translate a network to an ONNX program; names: of its input and output."""
    # Sides and batch that stay open
    free = {axis: torch.export.Dim.DYNAMIC for axis in (0, 2, 3)} if dynamic else None
    example = torch.zeros(2 if dynamic else 1, 3, *size)

    # Traced, then translated
    with explain_failures(dynamic):
        traced = torch.export.export(network, (example,), dynamic_shapes=(free,), strict=False)
        return torch.onnx.export(
            traced,
            dynamo=True,
            input_names=[names[0]],
            output_names=[names[1]],
            optimize=False,
            verbose=False,
        )


@contextmanager
def explain_failures(dynamic: bool) -> Iterator[None]:
    """Let whatever a tracer or a runtime stumbles over say what to do.

    Some networks are cut for images of one size, which shows at another one.
    """
    try:
        yield
    except Exception as error:
        fixed = "set job.dynamic=false for images of one size (job.size=[512,512])"
        remedy = fixed if dynamic else "keep to torch"
        raise ValueError(
            f"this network cannot be exported: {remedy}. The reason: {error}"
        ) from error


def describe_checkpoint(checkpoint: NetworkCheckpoint) -> dict[str, str]:
    """Collect what a program needs beside the network: classes, colours, how images are seen."""
    values = {
        "classes": ["background", *checkpoint.classes],
        "palette": checkpoint.palette.tolist(),
        "resize": checkpoint.resize,
        "image_mean": checkpoint.image_mean,
        "image_std": checkpoint.image_std,
    }
    return {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}


def compare_answers(network: nn.Module, path: Path, sizes: Sequence[Size]) -> float:
    """Return the largest difference between a network and its file.

    sizes: of the random images that both see.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found, rng = 0.0, np.random.default_rng(0)
    for size in sizes:
        # Both answer to one image
        images = rng.standard_normal((1, 3, *size), dtype=np.float32)
        with torch.no_grad():
            expected = network(torch.from_numpy(images)).numpy()
        (answer,) = session.run([OUTPUT], {INPUT: images})

        # A shape that differs cannot be compared
        if answer.shape != expected.shape:
            raise ValueError(
                f"the exported network answers {answer.shape} to {images.shape}, expected "
                f"{expected.shape}"
            )
        found = max(found, float(np.abs(answer - expected).max()))
    return found


def compare_labels(segmenter: Segmenter, path: Path, sizes: Sequence[Size]) -> float:
    """Return the share of pixels to which a segmenter and its file give one class.

    sizes: of the random images that both see.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    equal, pixels, rng = 0, 0, np.random.default_rng(0)
    for height, width in sizes:
        # Patches of colour, as in images
        coarse = rng.integers(256, size=(-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
        image = np.ascontiguousarray(coarse.repeat(8, 0).repeat(8, 1)[:height, :width])
        (labels,) = session.run([LABELS], {IMAGES: image[None]})
        equal += int((labels[0] == segmenter.predict([image])[0].mask).sum())
        pixels += height * width
    return equal / pixels


def pack_model(model: ModelProto) -> bytes:
    """Check a model, and pack it as one file; raises ValueError where it is too large (2 GB)."""
    import onnx

    onnx.checker.check_model(model)
    packed: bytes = model.SerializeToString()
    return packed


def check_difference(found: float, tolerance: float) -> None:
    """Raise ValueError when a file's answers differ too much from the network's."""
    if found > tolerance:
        raise ValueError(
            f"the exported network differs from the network by {found:.2g}, allowed is "
            f"{tolerance:.2g}"
        )


def require_packages() -> None:
    """Raise ModuleNotFoundError, with the command that installs them, when a package is missing."""
    missing = [
        package for package in ("onnx", "onnxscript", "onnxruntime") if find_spec(package) is None
    ]
    if missing:
        raise ModuleNotFoundError(
            f'exporting needs {", ".join(missing)}: pip install -e ".[export]"'
        )
