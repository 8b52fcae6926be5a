"""Hand-written templates ranked without ground truth, by their sharpness (CLIP-ES; METHOD 4)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from fmawsss.files.json_files import read_json
from fmawsss.label_losses import SharpnessLoss, ratio_of_sums, variance_by_mean

measure_sharpness = SharpnessLoss(variance_by_mean, ratio_of_sums, correction=0)


def rank_templates(
    templates: Sequence[str], logits: Sequence[Float[Tensor, "S _"]]
) -> dict[str, float]:
    """Return the sharpness of each template, the lowest first.

    The lower it is, the more equal are the logits of the classes of an image. `logits` holds, for
    each image, the logits of its present classes, a row per template.

    Raises:
        ValueError: when no image shows two classes.
    """
    if all(image.shape[1] < 2 for image in logits):
        raise ValueError(
            "sharpness needs images that show two classes or more; none of this split does"
        )

    # images side by side, filled up to the largest number of classes
    most = max(image.shape[1] for image in logits)
    padded = torch.stack(
        [torch.nn.functional.pad(image, (0, most - image.shape[1])) for image in logits]
    )
    present = torch.arange(most) < torch.tensor([image.shape[1] for image in logits])[:, None]

    # one number per template
    sharpness = {
        text: measure_sharpness(padded[:, row], present).item()
        for row, text in enumerate(templates)
    }
    return dict(sorted(sharpness.items(), key=lambda item: item[1]))


def read_sharpest(path: str) -> list[str]:
    """Read the template that came first, as the only one of a list.

    Raises:
        FileNotFoundError: naming the command that ranks templates.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"{path}: no ranking of templates; make it with `python infer.py task=templates`"
        )
    return list(read_json(Path(path)))[:1]
