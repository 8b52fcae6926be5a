"""Contexts of prompts that others learned: of the paper's authors, or a file of ours."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from fmawsss.files.hub import find_model, is_repository
from fmawsss.files.tensor_files import MODEL, read_tensors

logger = logging.getLogger(__name__)
RELEASED, OURS = "prompt_learner.ctx", "prompts.context"  # names of the contexts' tensors


def load_released_context(
    path: str | Path, weights: Callable[[], str] | None = None
) -> Float[Tensor, "S K W"]:
    """Read the contexts of a released checkpoint, `prompt_learner.ctx`; no code of it is run.

    Contexts of ours are read from a file of `format=prompts`, its folder, or its repository on
    Hugging Face's hub (NAME/REPOSITORY); a line tells where these were learned with other frozen
    weights than those whose digest `weights` returns.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it holds no contexts.
    """
    if Path(path).is_dir() or is_repository(path):
        path = find_model(path)
    if not Path(path).is_file():
        raise FileNotFoundError(f"no released contexts at {path}")
    content = read_tensors(path, "copy or download it again")
    tensors = find_contexts(content, OURS) if Path(path).name == MODEL else find_contexts(content)
    if len(tensors) != 1:
        raise ValueError(f"{path} holds {len(tensors)} tensors named {RELEASED}, expected one")
    context = tensors[0][None] if tensors[0].ndim == 2 else tensors[0]
    if context.ndim != 3 or not context.is_floating_point() or not context.isfinite().all():
        raise ValueError(
            f"{path} holds contexts of {context.dtype} and shape {tuple(context.shape)}, expected "
            "finite numbers of shape (contexts, length, width): copy or download it again"
        )
    known = find_origin(content)
    used = None if weights is None or known is None else weights()
    if used not in (None, known):
        logger.warning(
            "%s: its contexts were learned with another CLIP (weights %s, here %s): no more than "
            "a start",
            path,
            known,
            used,
        )
    return context.float()


def find_origin(content: object) -> str | None:
    """Find the digest of the frozen weights that contexts were learned with, if a file says it."""
    recipe = content.get("recipe") if isinstance(content, Mapping) else None
    weights = recipe.get("weights") if isinstance(recipe, Mapping) else None
    return weights if isinstance(weights, str) else None


def find_contexts(content: object, ending: str = RELEASED) -> list[Tensor]:
    """Find the contexts in a state dict or in the state dicts a checkpoint holds."""
    if not isinstance(content, dict):
        return []
    inner = (value for value in content.values() if isinstance(value, dict))
    named = [pair for state in (content, *inner) for pair in state.items()]
    return [
        value for key, value in named if str(key).endswith(ending) and isinstance(value, Tensor)
    ]
