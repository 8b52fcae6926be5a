"""A small SAM 3 that knows the generated world: `python -m benchmarks.small_sam3 weights/sam3`.

A stand-in for the published model, which is given out on request only, to see on generated images
what text-prompted evidence and CAMs are worth together. It is of the same class, a thousandth of
the size, and was told by exact masks where the phrase of a class is, on scenes that belong to no
draw of the data set. It finds no single objects: its semantic map is all that it says. What it
scores says nothing of SAM 3.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import Sam3Config, Sam3Model

from benchmarks.measure import set_threads
from fmawsss.text_prompted.sam3 import MEAN, STD
from fmawsss.tiny.pretrain_data import P_MATERIAL
from fmawsss.tiny.shapes import CLASS_NAMES, draw_scene, present_classes

SIDE, PATCH, WIDTH = 112, 14, 64
SEED = 913  # of weights and scenes: no data set here has this draw
BATCH = 16


def main() -> None:
    """Train it, and write it as SAM 3's files are published."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="for config.json, tokenizer.json and weights")
    parser.add_argument("--steps", type=int, default=700)
    options = parser.parse_args()
    set_threads(1)

    torch.manual_seed(SEED)
    model, tokenizer = build_model(), build_tokenizer(CLASS_NAMES)
    train(model, tokenizer, options.steps)
    model.eval().save_pretrained(options.folder)
    tokenizer.save(str(options.folder / "tokenizer.json"))


def build_model() -> Sam3Model:
    """Build a SAM 3 of random weights, 1.1 million of them."""
    cells, layer = SIDE // PATCH, {"hidden_size": WIDTH, "num_attention_heads": 4}
    backbone = {
        **layer, "model_type": "sam3_vit_model", "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 4, "image_size": SIDE, "patch_size": PATCH, "window_size": cells,
        "global_attn_indexes": [0, 1, 2, 3], "pretrain_image_size": SIDE,
    }  # fmt: skip
    vision = {
        "model_type": "sam3_vision_model", "backbone_config": backbone, "fpn_hidden_size": WIDTH,
        "backbone_feature_sizes": [[4 * cells] * 2, [2 * cells] * 2, [cells] * 2],
    }  # fmt: skip
    text = {
        **layer, "model_type": "clip_text_model", "vocab_size": 64, "projection_dim": WIDTH,
        "intermediate_size": 2 * WIDTH, "num_hidden_layers": 1, "max_position_embeddings": 8,
        "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
    }  # fmt: skip
    layers = {**layer, "num_layers": 1, "intermediate_size": 2 * WIDTH}
    return Sam3Model(
        Sam3Config(
            vision_config=vision,
            text_config=text,
            geometry_encoder_config=layers,
            detr_encoder_config={**layers, "num_layers": 2},
            detr_decoder_config={**layers, "num_queries": 1},
            mask_decoder_config=layer,
        )
    )


def build_tokenizer(words: Sequence[str]) -> Tokenizer:
    """Build a tokenizer of whole words between a start and an end, as CLIP's has them."""
    numbers = {word: number for number, word in enumerate(["<s>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return tokenizer


def train(model: Sam3Model, tokenizer: Tokenizer, steps: int) -> None:
    """Teach a model where phrases are, in scenes that show them, and to find no objects."""
    rng, started = np.random.default_rng(SEED), time.monotonic()
    ids = torch.tensor([tokenizer.encode(name).ids for name in CLASS_NAMES])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    for step in range(1, steps + 1):
        images, truths, classes = draw_batch(rng)
        output = model(pixel_values=images, input_ids=ids[classes])
        loss = compare(output.semantic_seg[:, 0], truths) + F.softplus(output.pred_logits).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            passed = time.monotonic() - started
            print(f"{step} of {steps}, {passed:.0f} s, loss {loss:.3f}", flush=True)  # noqa: T201


def draw_batch(
    rng: np.random.Generator,
) -> tuple[Float[Tensor, "B 3 H W"], Float[Tensor, "B H W"], Int[Tensor, "B"]]:
    """Draw scenes, and for each one class that it shows: images, where it is, its index."""
    scenes = [draw_scene(rng, P_MATERIAL) for _ in range(BATCH)]
    chosen = torch.tensor([int(rng.choice(present_classes(scene))) for scene in scenes])
    pictures = torch.from_numpy(np.stack([scene.image for scene in scenes]))
    labels = torch.from_numpy(np.stack([scene.semantic for scene in scenes]))
    images = (pictures.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD
    return images, (labels == chosen[:, None, None] + 1).float(), chosen


def compare(logits: Float[Tensor, "B h w"], truths: Float[Tensor, "B H W"]) -> Float[Tensor, ""]:
    """Compare maps with the truth: cross-entropy and dice."""
    logits = F.interpolate(logits[:, None], truths.shape[1:], mode="bilinear")[:, 0]
    shares = logits.sigmoid()
    both, all_ = (shares * truths).sum((1, 2)), shares.sum((1, 2)) + truths.sum((1, 2))
    dice = 1 - (2 * both + 1) / (all_ + 1)
    return F.binary_cross_entropy_with_logits(logits, truths) + dice.mean()


if __name__ == "__main__":
    main()
