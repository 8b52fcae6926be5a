"""The training view of a SAM: its losses for many points per image, on crops."""

import torch
from jaxtyping import Bool, Float, Int
from segment_anything.modeling import Sam
from segment_anything.modeling.transformer import Attention
from torch import Tensor, nn
from torch.nn import functional as F

from fmawsss.tiny.pretrain_data import mimic_attention, position_table
from fmawsss.tiny.pretrain_sam_forward import decode_points, encode_images, order_by_token

AFFINITY_TOKENS = 196


class SamTrainer(nn.Module):
    """A SAM with the helpers of its training on image features: token affinity and pixel head."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam = sam
        start_sam(sam)
        patch = sam.image_encoder.patch_embed.proj.kernel_size[0]
        self.affinity = nn.Parameter(torch.tensor([6.0, -2.0]))
        self.pixel_head = nn.Linear(sam.prompt_encoder.embed_dim, 2 * patch * patch)

    def forward(
        self,
        images: Float[Tensor, "B 3 H W"],
        instances: Int[Tensor, "B H W"],
        corner: Int[Tensor, "2"],
        points: Float[Tensor, "n 2"],
        whole: Bool[Tensor, "n H W"],
        part: Bool[Tensor, "n H W"],
    ) -> dict[str, Tensor]:
        """Compute all losses of a batch; `total` is the one to minimise."""
        # Answers to the points
        pixels = (images - self.sam.pixel_mean) / self.sam.pixel_std
        features = encode_images(self.sam.image_encoder, pixels, corner)
        logits, quality = decode_points(self.sam, features, points, corner)
        wholes, parts = (order_by_token(m, features.shape[1]).float() for m in (whole, part))

        # Masks, and the IoU that they expect of themselves
        losses, truth = compare_levels(logits.float(), wholes, parts)
        overlap = measure_overlap(logits, truth)
        masks = losses["whole"] + losses["part"] + 0.5 * losses["middle"] + 0.5 * losses["single"]
        loss_quality = F.mse_loss(quality.float(), overlap)

        # What the features know of objects
        loss_affinity = self.affinity_loss(features, instances)
        loss_pixel = self.pixel_loss(features, instances)
        return {
            "total": masks + loss_quality + 0.5 * loss_affinity + 0.5 * loss_pixel,
            "whole": losses["whole"].detach(),
            "part": losses["part"].detach(),
            "iou": overlap[:, 3].mean().detach(),
            "quality": loss_quality.detach(),
            "affinity": loss_affinity.detach(),
            "pixel": loss_pixel.detach(),
        }

    def affinity_loss(
        self, features: Float[Tensor, "B h w D"], instances: Int[Tensor, "B H W"]
    ) -> Float[Tensor, ""]:
        """Teach tokens of one instance to agree, others not to.

        A token belongs to the instance of its middle pixel.
        """
        # Some tokens, compared with each other
        grid, side = features.shape[1], instances.shape[1]
        patch = side // grid
        owner = instances[:, patch // 2 :: patch, patch // 2 :: patch].flatten(1)
        some = torch.randperm(grid * grid, device=owner.device)[:AFFINITY_TOKENS]
        owner, tokens = owner[:, some], F.normalize(features.float().flatten(1, 2)[:, some], dim=-1)
        logits = self.affinity[0] * (tokens @ tokens.transpose(1, 2)) + self.affinity[1]

        # Pairs with an object, alike ones as heavy as unlike ones
        same = owner[:, :, None] == owner[:, None]
        counts = (owner[:, :, None] > 0) | (owner[:, None] > 0)
        alike, unlike = (counts & same).float(), (counts & ~same).float()
        weight = alike / alike.sum().clamp_min(1) + unlike / unlike.sum().clamp_min(1)
        losses = F.binary_cross_entropy_with_logits(logits, same.float(), reduction="none")
        return (weight * losses).sum()

    def pixel_loss(
        self, features: Float[Tensor, "B h w D"], instances: Int[Tensor, "B H W"]
    ) -> Float[Tensor, ""]:
        """Teach the image features where objects are and where instances meet, pixel by pixel."""
        # Two answers for each pixel
        batch, grid, _, _ = features.shape
        patch = instances.shape[1] // grid
        logits = self.pixel_head(features).float().view(batch, grid, grid, 2, patch, patch)
        logits = logits.permute(3, 0, 1, 4, 2, 5).reshape(2, *instances.shape)

        # Objects, and the pixels where an instance begins
        border = torch.zeros_like(instances, dtype=torch.bool)
        border[:, 1:] |= instances[:, 1:] != instances[:, :-1]
        border[:, :, 1:] |= instances[:, :, 1:] != instances[:, :, :-1]
        truth = torch.stack([instances > 0, border]).float()
        return F.binary_cross_entropy_with_logits(logits, truth)


def compare_levels(
    logits: Float[Tensor, "n 4 p"], wholes: Float[Tensor, "n p"], parts: Float[Tensor, "n p"]
) -> tuple[dict[str, Tensor], Float[Tensor, "n 4 p"]]:
    """Compare the masks of each level with what they should be; returns losses and truths.

    Level 2 learns the whole, level 0 the part, level 1 what it resembles more, the single mask the
    whole.
    """
    single, low, middle, high = logits.unbind(1)
    to_whole, to_part = mask_loss(middle, wholes), mask_loss(middle, parts)
    losses = {
        "whole": mask_loss(high, wholes).mean(),
        "part": mask_loss(low, parts).mean(),
        "middle": torch.minimum(to_whole, to_part).mean(),
        "single": mask_loss(single, wholes).mean(),
    }

    # In the order of the masks
    nearer = torch.where((to_whole < to_part)[:, None], wholes, parts)
    return losses, torch.stack([wholes, parts, nearer, wholes], 1)


def mask_loss(logits: Float[Tensor, "n p"], truth: Float[Tensor, "n p"]) -> Float[Tensor, "n"]:
    """Add focal loss (times four), dice loss and cross-entropy per mask."""
    probability = logits.sigmoid()
    entropy = F.softplus(logits) - logits * truth
    right = probability * truth + (1 - probability) * (1 - truth)
    dice = 1 - (2 * (probability * truth).sum(1) + 1) / (probability.sum(1) + truth.sum(1) + 1)
    return ((1 + 4 * (1 - right) ** 2) * entropy).mean(1) + dice


@torch.no_grad()
def measure_overlap(
    logits: Float[Tensor, "n L p"], truth: Float[Tensor, "n L p"]
) -> Float[Tensor, "n L"]:
    """Measure the IoU of masks cut at logit 0."""
    answer, truth = logits > 0, truth > 0.5
    return (answer & truth).sum(-1) / (answer | truth).sum(-1).clamp_min(1)


@torch.no_grad()
def start_sam(sam: Sam) -> None:
    """Start the encoder with sine positions and mimetic attention.

    The decoder starts with attention between equal places.
    """
    # The encoder
    encoder = sam.image_encoder
    grid, width = encoder.pos_embed.shape[1], encoder.pos_embed.shape[3]
    encoder.pos_embed.copy_(
        position_table(width, grid, class_token=False).view(1, grid, grid, width)
    )
    for block in encoder.blocks:
        mimic_attention(block.attn.qkv.weight, block.attn.proj.weight, block.attn.num_heads)

    # The decoder
    for name, module in sam.mask_decoder.transformer.named_modules():
        if isinstance(module, Attention) and "image" in name:
            nn.init.orthogonal_(module.q_proj.weight, gain=1.6)
            module.k_proj.weight.copy_(module.q_proj.weight)
            nn.init.zeros_(module.q_proj.bias)
            nn.init.zeros_(module.k_proj.bias)
