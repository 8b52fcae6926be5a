"""Contexts of the prompts that the paper's authors released."""

from __future__ import annotations

from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from fmawsss.files.tensor_files import read_tensors


def load_released_context(path: str | Path) -> Float[Tensor, "S K W"]:
    """Read the contexts of a released checkpoint, `prompt_learner.ctx`; no code of it is run.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it holds no contexts.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no released contexts at {path}")
    tensors = find_contexts(read_tensors(path, "copy or download it again"))
    if len(tensors) != 1:
        raise ValueError(
            f"{path} holds {len(tensors)} tensors named prompt_learner.ctx, expected one"
        )
    context = tensors[0][None] if tensors[0].ndim == 2 else tensors[0]
    if context.ndim != 3 or not context.is_floating_point() or not context.isfinite().all():
        raise ValueError(
            f"{path} holds contexts of {context.dtype} and shape {tuple(context.shape)}, expected "
            "finite numbers of shape (contexts, length, width): copy or download it again"
        )
    return context.float()


def find_contexts(content: object) -> list[Tensor]:
    """Find the contexts in a state dict or in the state dicts a checkpoint holds."""
    if not isinstance(content, dict):
        return []
    inner = (value for value in content.values() if isinstance(value, dict))
    named = [pair for state in (content, *inner) for pair in state.items()]
    return [
        value
        for key, value in named
        if str(key).endswith("prompt_learner.ctx") and isinstance(value, Tensor)
    ]
