"""Bad inputs: encoders beside CLIP, text-prompted models, phrases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save

from .judge import BadInput
from .project import infer, pipeline
from .spoil import Prepare, cut, each, write

DINO = "vit_small_patch14_dinov2.lvd142m"
DINO_FILE = f"weights/{DINO}/model.safetensors"
AGAIN = "fetched again.*dino.name=|dino.name=.*fetched again"
OTHER = save({"cls_token": torch.zeros(1, 1, 7)})
SAM3 = ("sam3/config.json", "sam3/tokenizer.json", "sam3/model.safetensors")


def dino(name: str, prepare: Prepare | None, names: str, tells: str, *words: str) -> BadInput:
    """Spread CAMs by a DINO whose weights are spoiled."""
    command = infer("cls", "affinity=dino_proxy", *(words or ("dino=dinov2_vits14",)))
    return BadInput(f"dino_{name}", "sources", [*command, "overwrite=true"], prepare, names, tells)


def put_dino(change: Callable[[dict[str, torch.Tensor]], object]) -> Prepare:
    """Put weights of the whole model, but for what a function changes."""

    def prepare(folder: Path) -> None:
        from fmawsss.dino.weights import build_vit  # timm takes seconds

        state = build_vit(DINO).state_dict()
        change(state)
        write(DINO_FILE, save(state))(folder)

    return prepare


def text(name: str, prepare: Prepare | None, names: str, tells: str, *words: str) -> BadInput:
    """Ask a text-prompted model."""
    command = infer("text", *(words or ("evidence=sam3",)))
    return BadInput(f"text_{name}", "sources", command, prepare, names, tells)


CASES: list[BadInput] = [
    # the weights of DINO
    dino("missing", None, f"{DINO}/model.safetensors", "https://huggingface.co/timm/vit_small"),
    dino(
        "missing_and_licensed",
        None,
        "dinov3",
        "licence",
        "dino=dinov3_vitb16",
    ),
    dino("empty", write(DINO_FILE, b""), DINO_FILE, AGAIN),
    dino("of_another_model", write(DINO_FILE, OTHER), DINO_FILE, AGAIN),
    dino("cut", write(DINO_FILE, cut(OTHER)), DINO_FILE, AGAIN),
    dino("a_page_instead", write(DINO_FILE, b"<html>404</html>"), DINO_FILE, AGAIN),
    dino("a_pickle_instead", write(DINO_FILE, b"\x80\x04cos\nsystem\n"), DINO_FILE, AGAIN),
    dino(
        "of_no_numbers",
        put_dino(lambda s: s["norm.weight"].fill_(float("nan"))),
        DINO_FILE,
        "no numbers",
    ),
    dino(
        "without_a_block", put_dino(lambda s: s.pop("blocks.3.attn.qkv.weight")), DINO_FILE, AGAIN
    ),
    dino("a_folder_instead", write(f"{DINO_FILE}/x", b""), DINO_FILE, "file|fetched|folder"),
    dino("weights_in_a_file", write("weights", b""), "weights", "folder|paths.weights"),
    dino("unknown", None, "dino=nope", "choose from .*dinov2_vitb14", "dino=nope"),
    dino(
        "unknown_name",
        None,
        "vit_small_patch14_dinov2x",
        "dino.name",
        "dino=dinov2_vits14",
        "dino.name=vit_small_patch14_dinov2x",
    ),
    dino(
        "pyramid",
        None,
        "convnext_tiny",
        "plain vision transformer",
        "dino=dinov2_vits14",
        "dino.name=convnext_tiny.dinov3_lvd1689m",
    ),
    BadInput(
        "dino_for_nobody",
        "sources",
        infer("cls", "dino=dinov2_vits14"),
        None,
        "dino=",
        "affinity=dino",
    ),
    # phrases
    BadInput(
        "phrases_for_nobody",
        "sources",
        infer("cls", "dataset.phrases={circle:[disc]}"),
        None,
        "dataset.phrases",
        "evidence=fused",
    ),
    # text-prompted models, in a pipeline and alone
    BadInput(
        "fused_without_a_memory",
        "sources",
        pipeline("evidence=fused", "memory=none"),
        None,
        "evidence=fused",
        "memory=regions",
    ),
    BadInput(
        "sam3_with_learned_prompts",
        "sources",
        pipeline("evidence=sam3"),
        None,
        "evidence=sam3",
        "learn=network",
    ),
    BadInput(
        "fused_without_weights",
        "sources",
        pipeline("evidence=fused"),
        None,
        "sam3/config.json",
        "ask at http",
    ),
    text(
        "weights_of_another_kind",
        each(*(write(f"weights/{name}", b'{"model_type": "sam2"}') for name in SAM3)),
        "weights/sam3",
        "sam3",
    ),
    text(
        "config_of_no_model",
        each(*(write(f"weights/{name}", b"[1, 2]") for name in SAM3)),
        "weights/sam3",
        "kind None.*put the files",
    ),
    text(
        "empty_weights",
        each(
            *(write(f"weights/{name}", b'{"model_type": "sam3"}') for name in SAM3[:2]),
            write(f"weights/{SAM3[2]}", b""),
        ),
        "weights/sam3",
        "put the files",
    ),
    text(
        "grounding_dino_without_weights",
        None,
        "grounding-dino-base/config.json",
        "https://huggingface.co/IDEA-Research",
        "evidence=grounding_dino",
    ),
    BadInput(
        "memory_of_a_source_that_was_not_asked",
        "sources",
        infer("memory", "evidence=sam3"),
        None,
        "regions/sam3",
        "task=text.*evidence=sam3",
    ),
]
