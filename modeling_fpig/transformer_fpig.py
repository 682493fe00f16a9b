"""Attention, MLP, pre-norm layer and stack in CLIP's parameter names: shared by all towers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.configuration_clip import CLIPTextConfig, CLIPVisionConfig

QUICK_GELU_SLOPE = 1.702


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,  # the attention interface hands every implementation the others' arguments too
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention by its definition. `query` [B, H, Q, d], `key` and `value` [B, H, S, d] → [B, Q, H, d]."""
    weights = query @ key.transpose(-1, -2) * scaling  # [B, H, Q, S]
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = nn.functional.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class FPigAttention(nn.Module):
    """Multi-head self-attention through transformers' attention interface."""

    def __init__(self, config: CLIPTextConfig | CLIPVisionConfig) -> None:
        super().__init__()
        self.config = config
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = False
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def split_heads(self, tokens: torch.Tensor) -> torch.Tensor:
        """[..., S, H·d] → [..., H, S, d]."""
        return tokens.unflatten(-1, (-1, self.head_dim)).transpose(-2, -3)

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        is_causal: bool = False,
    ) -> torch.Tensor:
        """`query` [B, H, Q, d] over `key` and `value` [B, H, S, d] → [B, Q, H·d], before `out_proj`."""
        attention_interface: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        output, _ = attention_interface(
            self,
            query,
            key,
            value,
            attention_mask,
            scaling=self.scaling,
            dropout=self.config.attention_dropout if self.training else 0.0,
            is_causal=is_causal,
        )
        return output.flatten(2)  # [B, Q, H·d]

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, is_causal: bool = False
    ) -> torch.Tensor:
        """Every token of `hidden_states` [B, S, D] attends to all that the mask allows; the shape stays."""
        query = self.split_heads(self.q_proj(hidden_states))
        key = self.split_heads(self.k_proj(hidden_states))
        value = self.split_heads(self.v_proj(hidden_states))
        return self.out_proj(self.attend(query, key, value, attention_mask, is_causal))


def quick_gelu(states: torch.Tensor) -> torch.Tensor:
    """CLIP's x·σ(1.702·x) as silu(1.702·x) / 1.702, which keeps one tensor for backward instead of two."""
    states = states * QUICK_GELU_SLOPE
    return nn.functional.silu(states).mul_(1 / QUICK_GELU_SLOPE)


class FPigMLP(nn.Module):
    """Two linear maps with CLIP's activation between them."""

    def __init__(self, config: CLIPTextConfig | CLIPVisionConfig) -> None:
        super().__init__()
        self.config = config
        self.activation_fn = quick_gelu if config.hidden_act == "quick_gelu" else ACT2FN[config.hidden_act]
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """[B, S, D] → [B, S, D]."""
        return self.fc2(self.activation_fn(self.fc1(hidden_states)))


class FPigLayer(GradientCheckpointingLayer):
    """A pre-norm transformer block; `attention_arguments` go to its attention as they are."""

    def __init__(
        self, config: CLIPTextConfig | CLIPVisionConfig, attention_class: type[FPigAttention] = FPigAttention
    ) -> None:
        super().__init__()
        self.self_attn = attention_class(config)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = FPigMLP(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden_states: torch.Tensor, **attention_arguments: Any) -> torch.Tensor:
        """[B, S, D] → [B, S, D]."""
        hidden_states = hidden_states + self.self_attn(self.layer_norm1(hidden_states), **attention_arguments)
        return hidden_states + self.mlp(self.layer_norm2(hidden_states))


class FPigEncoder(nn.Module):
    """A stack of `config.num_hidden_layers` blocks."""

    def __init__(
        self, config: CLIPTextConfig | CLIPVisionConfig, layer_class: type[FPigLayer] = FPigLayer
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layer_class(config) for _ in range(config.num_hidden_layers))

    def forward(self, hidden_states: torch.Tensor, **attention_arguments: Any) -> torch.Tensor:
        """[B, S, D] → [B, S, D]."""
        for layer in self.layers:
            hidden_states = layer(hidden_states, **attention_arguments)
        return hidden_states


__all__ = ["FPigAttention", "FPigEncoder", "FPigLayer", "FPigMLP"]
