"""The frozen beginnings of prompts ([SOS], and a name that stands in front), encoded once."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from open_clip.model import CLIP
from torch import Tensor, nn

from fmawsss.clip.blocks import project_heads, run_block


class FrozenPrefixes(nn.Module):
    """Keys and values of the first tokens of T prompts, in every block of the text encoder.

    Text attention is causal, so they do not depend on what follows: exact. `lengths` says how many
    tokens of each of the embedded `prompts` are frozen, `eos` where each prompt ends. Nothing here
    is learned or stored.
    """

    keys: Float[Tensor, "blocks T heads F d"]
    values: Float[Tensor, "blocks T heads F d"]
    rest: Int[Tensor, "T R"]  # positions of the tokens that follow
    ends: Int[Tensor, "T"]  # where each prompt ends, counted over the following tokens of all
    visible: Tensor  # Bool (T, 1, R, F + R)

    def __init__(
        self,
        clip: CLIP,
        prompts: Float[Tensor, "T L W"],
        eos: Int[Tensor, "T"],
        lengths: Int[Tensor, "T"],
    ) -> None:
        super().__init__()
        frozen, following = int(lengths.max()), int((eos - lengths).max()) + 1
        keys, values = encode_beginnings(clip, prompts[:, :frozen])

        # a token sees the frozen ones of its own prompt, and those that follow up to itself
        steps = torch.arange(following)
        before = (torch.arange(frozen) < lengths[:, None])[:, None].expand(-1, following, -1)
        behind = (steps[:, None] >= steps).expand(len(eos), -1, -1)
        own = {
            "keys": keys,
            "values": values,
            "rest": (lengths[:, None] + steps).clamp_max(prompts.shape[1] - 1),
            "ends": torch.arange(len(eos)) * following + eos - lengths,
            "visible": torch.cat([before, behind], dim=2)[:, None],
        }
        for name, tensor in own.items():
            self.register_buffer(name, tensor, persistent=False)

    def cut(self, prompts: Float[Tensor, "T L W"]) -> Float[Tensor, "T R W"]:
        """Return the embedded tokens that follow the frozen ones."""
        return prompts.gather(1, self.rest[..., None].expand(-1, -1, prompts.shape[2]))


@torch.no_grad()
def encode_beginnings(clip: CLIP, prompts: Float[Tensor, "T F W"]) -> tuple[Tensor, Tensor]:
    """Run the text encoder on the first tokens of prompts.

    Returns keys and values, (blocks, T, heads, F, d) each.
    """
    length = prompts.shape[1]
    tokens = prompts + clip.positional_embedding[:length]
    visible = torch.ones(length, length, dtype=torch.bool, device=prompts.device).tril()

    # block by block
    kept = []
    for block in clip.transformer.resblocks:
        kept.append(project_heads(block, block.ln_1(tokens))[1:])
        tokens = run_block(block, tokens, visible)
    keys, values = zip(*kept, strict=True)
    return torch.stack(keys), torch.stack(values)
