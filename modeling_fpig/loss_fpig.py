"""The two training losses, pure functions of unit vectors (shape legend: `modeling_fpig.py`)."""

import torch
from torch import nn


def contrastive_loss(
    text_embeds: torch.Tensor, video_embeds: torch.Tensor, logit_scale: torch.Tensor
) -> torch.Tensor:
    """
    Symmetric InfoNCE over a batch in which caption i describes video i and no other.

    Args:
        text_embeds: unit vectors [B, D] of the captions.
        video_embeds: unit vectors [B, D] of their videos.
        logit_scale: τ, a scalar; similarities are multiplied by e^τ.

    Returns:
        Cross-entropy of captions over videos plus that of videos over captions: the sum, not the mean.
    """
    # Autocast would multiply in half precision, where a logit of 100 is known to 0.5 only.
    with torch.autocast(text_embeds.device.type, enabled=False):
        logits = logit_scale.float().exp() * text_embeds.float() @ video_embeds.float().T  # [B, B]
    targets = torch.arange(len(logits), device=logits.device)
    return nn.functional.cross_entropy(logits, targets) + nn.functional.cross_entropy(logits.T, targets)


def generation_loss(pseudo_query_embeds: torch.Tensor, text_embeds: torch.Tensor) -> torch.Tensor:
    """
    Mean squared distance 2 − 2·cos between each pseudo-query and its caption, both unit vectors [B, D].

    The caption side is not detached: captions move towards what a video can predict.
    """
    cosines = (pseudo_query_embeds.float() * text_embeds.float()).sum(dim=-1)  # [B]
    return (2 - 2 * cosines).mean()


__all__ = ["contrastive_loss", "generation_loss"]
