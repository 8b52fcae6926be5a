"""Models of `transformers` in a local folder: safetensors only, whole, and of the right kind."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fmawsss.files.json_files import read_json
from fmawsss.files.tensor_files import MODEL, describe_fault, require_finite

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
FILES = (CONFIG, TOKENIZER, MODEL)
GB = 1e9

logger = logging.getLogger(__name__)


def load_model(kind: Any, folder: Path, known: Collection[str], remedy: str) -> nn.Module:
    """Load a model of a class of `transformers` from a folder, in float32, in evaluation mode.

    kind: the class.
    known: the kinds of models that the folder may say it holds.
    remedy: what to do with a folder that holds another model, or part of one.

    Raises:
        ValueError: naming the folder, unless it holds the whole model.
    """
    described = read_json(folder / CONFIG, remedy)
    found = described.get("model_type") if isinstance(described, dict) else None
    if found not in known:
        raise ValueError(
            f"{folder} holds a model of kind {found!r}, expected {' or '.join(known)}: {remedy}"
        )
    logger.info("loading %s (%.1f GB)", folder / MODEL, (folder / MODEL).stat().st_size / GB)
    try:
        model, report = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
        if missing := report["missing_keys"]:  # transformers only warns, and leaves them random
            raise ValueError(f"{len(missing)} weights are missing, e.g. {min(missing)}")
        require_finite(model.named_parameters())
    except Exception as error:  # transformers and safetensors have many kinds for one fault
        raise ValueError(
            f"{folder} holds no whole {kind.__name__} ({describe_fault(error)}): {remedy}"
        ) from error
    loaded: nn.Module = model.eval().requires_grad_(False)
    return loaded


def load_tokenizer(path: Path, remedy: str) -> Any:
    """Load the tokenizer of a model, which neither pads nor cuts.

    Raises ValueError naming the file, for one that cannot be read.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # of no kind of its own
        raise ValueError(f"{path} is no tokenizer ({describe_fault(error)}): {remedy}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
