"""The tiny CLIP and SAM that ship with the project, each of the original class, from one file.

A file holds fp16 weights and, in its metadata, the architecture: it alone defines the model. They
stand in for the foundation models, so that everything runs without a download.
`python -m fmawsss.tiny.pretrain` makes both.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors import safe_open
from safetensors.torch import load_file, save
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import Tensor, nn

from fmawsss.files.writing import write_bytes

CLIP_FILE = Path(__file__).with_name("clip.safetensors")
SAM_FILE = Path(__file__).with_name("sam.safetensors")
TOKEN_TABLE = "token_embedding.weight"


@dataclass(frozen=True)
class ClipArchitecture:
    """Sizes of a tiny CLIP; the text side keeps open_clip's BPE vocabulary and 77 tokens."""

    image_size: int = 112
    patch_size: int = 8
    width: int = 128
    layers: int = 5
    head_width: int = 32
    embed_dim: int = 128
    text_width: int = 128
    text_heads: int = 4
    text_layers: int = 3


@dataclass(frozen=True)
class SamArchitecture:
    """Sizes of a tiny SAM; its masks are four times as fine as its tokens, as in the big one."""

    image_size: int = 112
    patch_size: int = 8
    width: int = 128
    depth: int = 4
    heads: int = 4
    window: int = 7
    global_blocks: tuple[int, ...] = (1, 3)
    prompt_width: int = 64
    decoder_depth: int = 2
    decoder_heads: int = 2


def tiny_clip(weights: str | Path | None = None) -> CLIP:
    """Load a tiny CLIP as an `open_clip.model.CLIP`: float32, evaluation mode, on the CPU.

    Tokenize with `open_clip.get_tokenizer("ViT-B-32")`; normalise pixels with `visual.image_mean`
    and `visual.image_std`.

    weights: a file, by default the one that ships with the project.

    Raises:
        FileNotFoundError, ValueError: naming the file and how to make it.
    """
    # The model
    path = Path(weights or CLIP_FILE)
    architecture = _read_architecture(path)
    model = build_clip(ClipArchitecture(**architecture))

    # Its weights; rows of the token table that were never trained are zero, see `known_words`
    state = _load_tensors(path)
    rows, ids = state.pop("token_rows"), state.pop("token_ids").long()
    state[TOKEN_TABLE] = torch.zeros_like(model.token_embedding.weight).index_copy(0, ids, rows)
    model.load_state_dict(state)
    return model.eval()


def tiny_sam(weights: str | Path | None = None) -> Sam:
    """Load a tiny SAM as a `segment_anything.modeling.Sam`: float32, evaluation mode, on the CPU.

    weights: a file, by default the one that ships with the project.

    Raises:
        FileNotFoundError, ValueError: naming the file and how to make it.
    """
    path = Path(weights or SAM_FILE)
    architecture = _read_architecture(path)
    architecture["global_blocks"] = tuple(architecture["global_blocks"])
    model = build_sam(SamArchitecture(**architecture))
    model.load_state_dict(_load_tensors(path))
    return model.eval()


def known_words(weights: str | Path | None = None) -> frozenset[str]:
    """List the lower-case words that a tiny CLIP was trained on; others mean nothing to it."""
    return frozenset(json.loads(_read_metadata(Path(weights or CLIP_FILE))["words"]))


def build_clip(architecture: ClipArchitecture) -> CLIP:
    """Build an untrained CLIP; the image feature is the mean of the patch tokens."""
    # Both sides
    vision = CLIPVisionCfg(
        layers=architecture.layers,
        width=architecture.width,
        head_width=architecture.head_width,
        patch_size=architecture.patch_size,
        image_size=architecture.image_size,
        pool_type="avg",
    )
    text = CLIPTextCfg(
        width=architecture.text_width,
        heads=architecture.text_heads,
        layers=architecture.text_layers,
    )

    # Together, with the pixel values of the big one
    model = CLIP(architecture.embed_dim, vision, text)
    model.visual.image_mean, model.visual.image_std = OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
    return model


def build_sam(architecture: SamArchitecture) -> Sam:
    """Build an untrained SAM; its images are resized to a side of `image_encoder.img_size`."""
    # The image encoder
    size, grid = architecture.image_size, architecture.image_size // architecture.patch_size
    encoder = ImageEncoderViT(
        img_size=size,
        patch_size=architecture.patch_size,
        embed_dim=architecture.width,
        depth=architecture.depth,
        num_heads=architecture.heads,
        out_chans=architecture.prompt_width,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        window_size=architecture.window,
        global_attn_indexes=architecture.global_blocks,
    )

    # Prompts and mask decoder
    prompts = PromptEncoder(architecture.prompt_width, (grid, grid), (size, size), mask_in_chans=8)
    transformer = TwoWayTransformer(
        depth=architecture.decoder_depth,
        embedding_dim=architecture.prompt_width,
        num_heads=architecture.decoder_heads,
        mlp_dim=4 * architecture.prompt_width,
    )
    decoder = MaskDecoder(
        transformer_dim=architecture.prompt_width,
        transformer=transformer,
        iou_head_depth=2,
        iou_head_hidden_dim=architecture.prompt_width,
    )
    return Sam(encoder, prompts, decoder)


def save_clip(
    model: CLIP,
    architecture: ClipArchitecture,
    token_ids: Tensor,
    words: list[str],
    notes: Mapping[str, str],
    path: Path,
) -> None:
    """Write a tiny CLIP in fp16.

    token_ids: the rows of the token table to keep. notes: what else stands in the metadata.
    """
    # Weights
    state = {name: tensor for name, tensor in model.state_dict().items() if name != TOKEN_TABLE}
    state["token_rows"] = model.token_embedding.weight[token_ids]
    tensors = _halve(state) | {"token_ids": token_ids.to(torch.int32).cpu()}

    # What the file says about itself
    metadata = {
        "architecture": json.dumps(asdict(architecture)),
        "words": json.dumps(sorted(words)),
        **notes,
    }
    write_bytes(path, save(tensors, metadata))


def save_sam(
    model: Sam, architecture: SamArchitecture, notes: Mapping[str, str], path: Path
) -> None:
    """Write a tiny SAM in fp16.

    notes: what else stands in the metadata.
    """
    metadata = {"architecture": json.dumps(asdict(architecture)), **notes}
    write_bytes(path, save(_halve(model.state_dict()), metadata))


def _halve(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor.detach().to("cpu", torch.float16).contiguous()
        for name, tensor in state.items()
    }


def _load_tensors(path: Path) -> dict[str, Tensor]:
    return {name: tensor.float() for name, tensor in load_file(path).items()}


def _read_architecture(path: Path) -> dict[str, Any]:
    return json.loads(_read_metadata(path)["architecture"])


def _read_metadata(path: Path) -> dict[str, str]:
    # The file
    if not path.is_file():
        raise FileNotFoundError(
            f"no tiny model at {path}: make it with `python -m fmawsss.tiny.pretrain`"
        )

    # What it says about itself
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if "architecture" not in metadata:
        raise ValueError(
            f"{path} names no architecture in its metadata: "
            "remake it with `python -m fmawsss.tiny.pretrain`"
        )
    return metadata
