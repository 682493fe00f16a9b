"""What the model returns (shape legend: `modeling_fpig.py`)."""

from dataclasses import dataclass

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput


@dataclass
class FPigVideoOutput(BaseModelOutputWithPooling):
    """
    What [`FPigModel.get_video_features`] returns.

    Args:
        last_hidden_state: all tokens in the joint space [B, N, D]; with `output_last_hidden_state=True`.
        pooler_output: video features [B, D], not normalised.
        pseudo_query: pseudo-query features [B, D], not normalised; `None` for the baselines.
        selected_token_indices: positions [B, K] of the selected patches among all N tokens, best first;
            `None` for the baselines.
        summary_tokens: global tokens, the class token first, and frame tokens in the joint space
            [B, G + T, D]: what the pseudo-query, or a real query in its place, attends over.
    """

    pseudo_query: torch.FloatTensor | None = None
    selected_token_indices: torch.LongTensor | None = None
    summary_tokens: torch.FloatTensor | None = None


@dataclass
class FPigOutput(ModelOutput):
    """
    What [`FPigModel`] returns. Embeds are unit vectors.

    Args:
        loss: retrieval loss plus α times the generation loss; with `return_loss=True`.
        retrieval_loss: cross-entropy over captions plus cross-entropy over videos; with `return_loss=True`.
        generation_loss: mean squared distance of pseudo-queries and captions; with `return_loss=True`, F-Pig
            only.
        logits_per_text: scaled similarities [Q, B].
        logits_per_video: its transpose [B, Q].
        text_embeds: caption embeddings [Q, D].
        video_embeds: video embeddings [B, D].
        pseudo_query_embeds: pseudo-query embeddings [B, D], F-Pig only.
        selected_token_indices: positions [B, K] of the selected patches among all N tokens, best first; F-Pig
            only.
        logit_scale: τ as used, clamped to [0, ln 200].
    """

    loss: torch.FloatTensor | None = None
    retrieval_loss: torch.FloatTensor | None = None
    generation_loss: torch.FloatTensor | None = None
    logits_per_text: torch.FloatTensor | None = None
    logits_per_video: torch.FloatTensor | None = None
    text_embeds: torch.FloatTensor | None = None
    video_embeds: torch.FloatTensor | None = None
    pseudo_query_embeds: torch.FloatTensor | None = None
    selected_token_indices: torch.LongTensor | None = None
    logit_scale: torch.FloatTensor | None = None


__all__ = ["FPigOutput", "FPigVideoOutput"]
