"""Which parameters of a network share a learning rate and a weight decay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

NORMS = (
    nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm,
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm,
)  # fmt: skip


def keep_together(network: nn.Module) -> list[dict[str, Any]]:
    """Put all parameters in one group."""
    return [
        {"params": [parameter for parameter in network.parameters() if parameter.requires_grad]}
    ]


def split_parameters(
    network: nn.Module,
    lr: float,
    weight_decay: float,
    encoder_factor: float,
    undecayed: Sequence[str],
) -> list[dict[str, Any]]:
    """Split into encoder and decoder, each with and without weight decay.

    The encoder (`network.encoder`) learns at `lr · encoder_factor`. Neither norms nor embeddings
    (queries, levels) are decayed.

    undecayed: parts of names of other parameters that are not decayed.
    """
    # Which parameters learn slowly, which are not decayed
    encoder = {id(parameter) for parameter in network.get_submodule("encoder").parameters()}
    free = find_undecayed(network, undecayed)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            kind = (id(parameter) in encoder, id(parameter) in free)
            groups.setdefault(kind, []).append(parameter)

    # What the optimiser takes
    return [
        {
            "params": parameters,
            "lr": lr * encoder_factor if in_encoder else lr,
            "weight_decay": 0.0 if is_free else weight_decay,
        }
        for (in_encoder, is_free), parameters in groups.items()
    ]


def find_undecayed(network: nn.Module, names: Sequence[str]) -> set[int]:
    """Find the parameters, by `id`, of norms and embeddings, and those that are named."""
    layers = (module for module in network.modules() if isinstance(module, (*NORMS, nn.Embedding)))
    free = {id(parameter) for layer in layers for parameter in layer.parameters(recurse=False)}
    for name, parameter in network.named_parameters():
        if any(word in name for word in names):
            free.add(id(parameter))
    return free
