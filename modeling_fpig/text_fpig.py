"""The caption tower: CLIP's text transformer (shape legend: `modeling_fpig.py`)."""

import torch
from torch import nn
from transformers.masking_utils import create_causal_mask
from transformers.models.clip.configuration_clip import CLIPTextConfig

from .transformer_fpig import FPigEncoder


def find_end_of_text(input_ids: torch.Tensor, eos_token_id: int) -> torch.Tensor:
    """
    Position [Q] of the *first* end-of-text token of every row of `input_ids` [Q, L]; CLIP pads with it too.

    Raises:
        ValueError: a row has none. Not checked inside `torch.compile`, where values are unknown.
    """
    is_end = input_ids == eos_token_id
    if not torch.compiler.is_compiling() and not is_end.any(dim=-1).all():
        row = int((~is_end.any(dim=-1)).nonzero()[0])
        raise ValueError(
            f"`input_ids` row {row} has no end-of-text token {eos_token_id}; tokenize with the model's own "
            "processor, which keeps it when it truncates"
        )
    return is_end.int().argmax(dim=-1)


class FPigTextEmbeddings(nn.Module):
    """Token plus position embeddings."""

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """[Q, L] → [Q, L, Dt]."""
        length, limit = input_ids.shape[-1], self.position_embedding.num_embeddings
        if length > limit:
            raise ValueError(
                f"`input_ids` has {length} tokens a caption but the model has {limit} positions; pass "
                f"`max_length={limit}` or less to the processor"
            )
        return self.token_embedding(input_ids) + self.position_embedding.weight[:length]


class FPigTextTransformer(nn.Module):
    """Causal transformer over caption tokens, pooled at the first end-of-text token."""

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = FPigTextEmbeddings(config)
        self.encoder = FPigEncoder(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`input_ids`, `attention_mask` [Q, L] → all tokens [Q, L, Dt] and the pooled one [Q, Dt]."""
        if input_ids.ndim != 2:
            raise ValueError(f"`input_ids` has shape {tuple(input_ids.shape)}; it must be [captions, tokens]")
        if attention_mask is not None and attention_mask.shape != input_ids.shape:
            raise ValueError(
                f"`attention_mask` has shape {tuple(attention_mask.shape)}; it must be that of `input_ids`, "
                f"{tuple(input_ids.shape)}: pass both as the processor returned them"
            )
        end_positions = find_end_of_text(input_ids, self.config.eos_token_id)
        hidden_states = self.embeddings(input_ids)
        # By position: the last one, a cache, has had two names.
        mask = create_causal_mask(self.config, hidden_states, attention_mask, None)
        hidden_states = self.encoder(hidden_states, attention_mask=mask, is_causal=True)
        hidden_states = self.final_layer_norm(hidden_states)
        rows = torch.arange(len(hidden_states), device=hidden_states.device)
        return hidden_states, hidden_states[rows, end_positions]


__all__ = ["FPigTextTransformer"]
