"""The video tower: CLIP-ViP's frame and proxy tokens in CLIP's ViT (shape legend: `modeling_fpig.py`)."""

import torch
from torch import nn
from transformers.models.clip.configuration_clip import CLIPVisionConfig

from .configuration_fpig import FPigConfig
from .transformer_fpig import FPigAttention, FPigEncoder


class FPigVideoEmbeddings(nn.Module):
    """
    Pixels to tokens: [class, proxies, frame 0's token, frame 0's patches row by row, frame 1's token, …].

    Every frame token is the same learned vector plus the first position; frames differ by the temporal table.
    The mean-pooling baseline encodes frames alone: it has neither global tokens nor a temporal table.
    """

    def __init__(self, config: FPigConfig) -> None:
        super().__init__()
        vision_config = config.vision_config
        width = vision_config.hidden_size
        self.image_size = vision_config.image_size
        self.num_proxy_tokens = config.num_proxy_tokens
        self.patch_embedding = nn.Conv2d(
            vision_config.num_channels,
            width,
            kernel_size=vision_config.patch_size,
            stride=vision_config.patch_size,
            bias=False,
        )
        self.position_embedding = nn.Embedding(config.num_patches + 1, width)
        self.frame_embedding = nn.Parameter(torch.empty(width))
        if config.num_global_tokens:
            self.class_embedding = nn.Parameter(torch.empty(width))
            self.proxy_embedding = nn.Parameter(torch.empty(config.num_proxy_tokens, width))
            self.temporal_embedding = nn.Parameter(torch.empty(config.num_frames, width))
        else:
            for name in ("class_embedding", "proxy_embedding", "temporal_embedding"):
                self.register_parameter(name, None)

    def get_temporal_embedding(self, num_frames: int) -> torch.Tensor:
        """The temporal table [T, Dv], interpolated linearly when the clip has another number of frames."""
        if num_frames == len(self.temporal_embedding):
            return self.temporal_embedding
        table = self.temporal_embedding.T.unsqueeze(0)  # [1, Dv, frames of the table]
        return nn.functional.interpolate(table, size=num_frames, mode="linear").squeeze(0).T

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """[B, T, 3, H, W] → [B, N, Dv]."""
        num_channels = self.patch_embedding.in_channels
        if pixel_values.ndim != 5 or 0 in pixel_values.shape or pixel_values.shape[2] != num_channels:
            raise ValueError(
                f"`pixel_values` has shape {tuple(pixel_values.shape)}; it must be [videos, frames, "
                f"{num_channels} channels, height, width] with at least one video and frame"
            )
        if pixel_values.shape[-2:] != (self.image_size, self.image_size):
            height, width = pixel_values.shape[-2:]
            raise ValueError(
                f"`pixel_values` has frames of {height}×{width} but the model was built for "
                f"{self.image_size}×{self.image_size}; pass `size={self.image_size}` to the video processor"
            )
        num_videos, num_frames = pixel_values.shape[:2]
        patches = self.patch_embedding(pixel_values.flatten(0, 1).to(self.patch_embedding.weight.dtype))
        patches = patches.flatten(2).transpose(1, 2)  # [B·T, P, Dv]
        frame_tokens = self.frame_embedding.expand(len(patches), 1, -1)
        tokens = torch.cat([frame_tokens, patches], dim=1) + self.position_embedding.weight  # [B·T, L, Dv]
        tokens = tokens.unflatten(0, (num_videos, num_frames))  # [B, T, L, Dv]
        if self.class_embedding is None:
            return tokens.flatten(1, 2)
        tokens = tokens + self.get_temporal_embedding(num_frames)[:, None]
        global_tokens = torch.cat([self.class_embedding[None], self.proxy_embedding])
        global_tokens = (global_tokens + self.position_embedding.weight[0]).expand(num_videos, -1, -1)
        return torch.cat([global_tokens, tokens.flatten(1, 2)], dim=1)  # [B, N, Dv]


class FPigVideoAttention(FPigAttention):
    """
    Proxy-guided attention (CLIP-ViP): two softmaxes with one set of weights.

    A frame's tokens attend to the global tokens and to their own frame; the global tokens attend to all.
    """

    def forward(self, hidden_states: torch.Tensor, num_frames: int, num_global_tokens: int) -> torch.Tensor:
        """[B, N, Dv] → [B, N, Dv]."""
        query = self.split_heads(self.q_proj(hidden_states))  # [B, H, N, d]
        key = self.split_heads(self.k_proj(hidden_states))
        value = self.split_heads(self.v_proj(hidden_states))
        frame_output = self.attend(
            fold_frames(query[:, :, num_global_tokens:], num_frames),
            join_global_tokens(key, num_frames, num_global_tokens),
            join_global_tokens(value, num_frames, num_global_tokens),
        )  # [B·T, L, Dv]
        output = frame_output.view(len(hidden_states), -1, hidden_states.shape[-1])
        if num_global_tokens:
            global_output = self.attend(query[:, :, :num_global_tokens], key, value)  # [B, G, Dv]
            output = torch.cat([global_output, output], dim=1)
        return self.out_proj(output)

    @torch.no_grad()
    def get_class_token_attention(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """The class token's attention [B, H, N] over all tokens [B, N, Dv], softmax in float32."""
        query = self.split_heads(self.q_proj(hidden_states[:, :1]))  # [B, H, 1, d]
        key = self.split_heads(self.k_proj(hidden_states))
        scores = query @ key.transpose(-1, -2) * self.scaling
        return scores.squeeze(2).softmax(dim=-1, dtype=torch.float32)


def fold_frames(heads: torch.Tensor, num_frames: int) -> torch.Tensor:
    """[B, H, T·L, d] → [B·T, H, L, d]."""
    return heads.unflatten(2, (num_frames, -1)).transpose(1, 2).flatten(0, 1)


def join_global_tokens(heads: torch.Tensor, num_frames: int, num_global_tokens: int) -> torch.Tensor:
    """Puts the global tokens before every frame's own: [B, H, N, d] → [B·T, H, G + L, d]."""
    frames = heads[:, :, num_global_tokens:].unflatten(2, (num_frames, -1))  # [B, H, T, L, d]
    shared = heads[:, :, None, :num_global_tokens].expand(-1, -1, num_frames, -1, -1)  # [B, H, T, G, d]
    return torch.cat([shared, frames], dim=3).transpose(1, 2).flatten(0, 1)


class FPigVideoTransformer(nn.Module):
    """CLIP's ViT over all tokens of a clip, with proxy-guided attention in every layer."""

    def __init__(self, config: FPigConfig) -> None:
        super().__init__()
        vision_config: CLIPVisionConfig = config.vision_config
        self.num_global_tokens = config.num_global_tokens
        self.needs_class_token_attention = config.video_pooling == "pseudo_query"
        self.embeddings = FPigVideoEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(vision_config.hidden_size, eps=vision_config.layer_norm_eps)
        self.encoder = FPigEncoder(vision_config, FPigVideoAttention)
        self.post_layernorm = nn.LayerNorm(vision_config.hidden_size, eps=vision_config.layer_norm_eps)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        [B, T, 3, H, W] → tokens after the last layer norm [B, N, Dv], and the last layer's class-token
        attention [B, H, N], which only the pseudo-query needs.
        """
        layout = {"num_frames": pixel_values.shape[1], "num_global_tokens": self.num_global_tokens}
        hidden_states = self.pre_layrnorm(self.embeddings(pixel_values))
        for layer in self.encoder.layers[:-1]:
            hidden_states = layer(hidden_states, **layout)
        last_layer = self.encoder.layers[-1]
        class_token_attention = None
        if self.needs_class_token_attention:
            # sdpa hides its scores; one more key projection is cheaper than the score matrix of all tokens.
            class_token_attention = last_layer.self_attn.get_class_token_attention(
                last_layer.layer_norm1(hidden_states)
            )
        hidden_states = last_layer(hidden_states, **layout)
        return self.post_layernorm(hidden_states), class_token_attention


__all__ = ["FPigVideoTransformer"]
