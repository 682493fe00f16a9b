"""Token selection and the pseudo-query generator (shape legend: `modeling_fpig.py`)."""

import torch
from torch import nn
from transformers.masking_utils import create_causal_mask
from transformers.models.clip.configuration_clip import CLIPTextConfig

from .configuration_fpig import FPigConfig
from .transformer_fpig import FPigEncoder


def select_informative_tokens(
    class_token_attention: torch.Tensor, num_frames: int, num_global_tokens: int, num_selected: int
) -> torch.Tensor:
    """
    Informative token selection: the patches of the whole clip that the class token attends to most.

    Args:
        class_token_attention: the class token's attention over all tokens [B, H, N], after the softmax.
        num_frames: frames T of the clip.
        num_global_tokens: global tokens G before the first frame.
        num_selected: patches K to keep.

    Returns:
        Positions [B, K] among all N tokens, in descending order of the maximum over heads; equal scores in
        order of position, so that a batch selects what its videos alone would.
    """
    scores = class_token_attention.amax(dim=1)  # [B, N]
    tokens_per_frame = (scores.shape[1] - num_global_tokens) // num_frames
    positions = torch.arange(scores.shape[1], device=scores.device)
    in_frame_positions = (positions - num_global_tokens) % tokens_per_frame
    is_patch = (positions >= num_global_tokens) & (in_frame_positions > 0)
    scores = scores.masked_fill(~is_patch, -1.0)  # below any attention weight
    return scores.argsort(dim=-1, descending=True, stable=True)[:, :num_selected]


class FPigPseudoQueryGenerator(nn.Module):
    """Writes a video's pseudo-query: a second copy of CLIP's text transformer that reads video tokens."""

    def __init__(self, config: FPigConfig) -> None:
        super().__init__()
        text_config: CLIPTextConfig = config.text_config
        self.config = text_config
        self.video_projection = nn.Linear(config.projection_dim, text_config.hidden_size)
        if config.generator_begin_token:
            self.begin_embedding = nn.Parameter(torch.empty(text_config.hidden_size))
        else:
            self.register_parameter("begin_embedding", None)
        self.end_embedding = nn.Parameter(torch.empty(text_config.hidden_size))
        self.position_embedding = nn.Embedding(text_config.max_position_embeddings, text_config.hidden_size)
        self.encoder = FPigEncoder(text_config)
        self.final_layer_norm = nn.LayerNorm(text_config.hidden_size, eps=text_config.layer_norm_eps)
        self.text_projection = (
            nn.Linear(text_config.hidden_size, config.projection_dim, bias=False)
            if config.generator_projection
            else nn.Identity()
        )

    def forward(self, video_tokens: torch.Tensor) -> torch.Tensor:
        """Tokens in the joint space [B, G + T + K, D] → pseudo-query features [B, D]."""
        slots = [self.video_projection(video_tokens), self.end_embedding.expand(len(video_tokens), 1, -1)]
        if self.begin_embedding is not None:
            slots.insert(0, self.begin_embedding.expand(len(video_tokens), 1, -1))
        hidden_states = torch.cat(slots, dim=1)  # [B, S, Dt]
        length, limit = hidden_states.shape[1], self.position_embedding.num_embeddings
        if length > limit:
            raise ValueError(
                f"`pixel_values` needs a generator sequence of {length} tokens but the model has {limit} "
                f"positions; pass {length - limit} frames less"
            )
        hidden_states = hidden_states + self.position_embedding.weight[:length]
        # By position: the last one, a cache, has had two names.
        mask = create_causal_mask(self.config, hidden_states, None, None)
        hidden_states = self.encoder(hidden_states, attention_mask=mask, is_causal=True)
        end_state = self.final_layer_norm(hidden_states[:, -1])  # [B, Dt]
        return self.text_projection(end_state)


__all__ = ["FPigPseudoQueryGenerator", "select_informative_tokens"]
