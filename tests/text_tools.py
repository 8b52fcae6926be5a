"""Text-prompted models with random weights, of the classes that are published, small."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import (
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    Sam3Config,
    Sam3Model,
)

from benchmarks.small_sam3 import build_tokenizer

WORDS = [
    "circle",
    "square",
    "triangle",
    "star",
    "ring",
    "cross",
    "heart",
    "moon",
    "a",
    "round",
    ",",
]


def build_sam3(side: int = 56, seed: int = 0) -> Sam3Model:
    """Build a small SAM 3 that sees a square of so many pixels."""
    torch.manual_seed(seed)
    cells = side // 14
    backbone = {
        "model_type": "sam3_vit_model", "hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": side, "patch_size": 14,
        "window_size": 2, "global_attn_indexes": [1], "pretrain_image_size": 28,
    }  # fmt: skip
    vision = {
        "model_type": "sam3_vision_model", "backbone_config": backbone, "fpn_hidden_size": 16,
        "backbone_feature_sizes": [[4 * cells] * 2, [2 * cells] * 2, [cells] * 2],
    }  # fmt: skip
    text = {
        "model_type": "clip_text_model", "vocab_size": 64, "hidden_size": 16,
        "intermediate_size": 32, "projection_dim": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 8, "bos_token_id": 0,
        "eos_token_id": 1, "pad_token_id": 1,
    }  # fmt: skip
    part = {"hidden_size": 16, "num_attention_heads": 2}
    layers = {**part, "num_layers": 1, "intermediate_size": 32}
    config = Sam3Config(
        vision_config=vision,
        text_config=text,
        geometry_encoder_config=layers,
        detr_encoder_config=layers,
        detr_decoder_config={**layers, "num_queries": 5},
        mask_decoder_config=part,
    )
    return Sam3Model(config).eval()


def build_clip_tokenizer() -> Tokenizer:
    return build_tokenizer(WORDS)


def write_sam3(folder: Path, side: int = 56, seed: int = 0) -> Sam3Model:
    """Write a small SAM 3 as its files are published."""
    model = build_sam3(side, seed)
    model.save_pretrained(folder)
    build_clip_tokenizer().save(str(folder / "tokenizer.json"))
    return model


def build_grounding_dino(seed: int = 0) -> GroundingDinoForObjectDetection:
    """Build a small Grounding DINO."""
    torch.manual_seed(seed)
    swin = {
        "model_type": "swin", "image_size": 64, "embed_dim": 8, "depths": [1, 1, 1, 1],
        "num_heads": [1, 1, 2, 2], "window_size": 2, "out_indices": [2, 3, 4],
    }  # fmt: skip
    bert = {
        "model_type": "bert", "vocab_size": 1100, "hidden_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64,
    }  # fmt: skip
    config = GroundingDinoConfig(
        backbone_config=swin, text_config=bert, d_model=32, num_queries=9, max_text_len=16,
        encoder_layers=1, decoder_layers=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
        encoder_attention_heads=2, decoder_attention_heads=2, num_feature_levels=4,
    )  # fmt: skip
    return GroundingDinoForObjectDetection(config).eval()


def build_bert_tokenizer() -> Tokenizer:
    """Build a tokenizer of whole words, with the separators where BERT's has them."""
    words = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}
    words |= {word: number for number, word in enumerate(WORDS, 1)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def write_grounding_dino(folder: Path, seed: int = 0) -> GroundingDinoForObjectDetection:
    """Write a small Grounding DINO as its files are published."""
    model = build_grounding_dino(seed)
    model.save_pretrained(folder)
    build_bert_tokenizer().save(str(folder / "tokenizer.json"))
    return model
