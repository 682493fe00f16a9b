"""The video tower: CLIP-ViP's frame and proxy tokens in CLIP's ViT (shape legend: `modeling_fpig.py`)."""

import torch
from torch import nn
from transformers.models.clip.configuration_clip import CLIPVisionConfig

from .configuration_fpig import FPigConfig
from .transformer_fpig import FPigAttention, FPigEncoder, FPigLayer


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

    def forward(
        self,
        hidden_states: torch.Tensor,
        num_frames: int,
        num_global_tokens: int,
        positions: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """[B, N, Dv] → [B, N, Dv], or [B, M, Dv]: what the tokens at `positions` [B, M] alone get."""
        query = self.q_proj(hidden_states)
        key = self.k_proj(hidden_states)
        value = self.v_proj(hidden_states)
        outputs = [self.attend_in_frames(query, key, value, num_frames, num_global_tokens)]
        if num_global_tokens:
            # A view would keep the query of every token for backward, beside the copy by frames.
            global_query = query[:, :num_global_tokens].clone()
            outputs.insert(0, self.attend(*map(self.split_heads, (global_query, key, value))))  # [B, G, Dv]
        if positions is not None:
            return self.out_proj(take_tokens(torch.cat(outputs, dim=1), positions))
        # Mapped apart: backward needs the maps' inputs, and has both already.
        return torch.cat([self.out_proj(output) for output in outputs], dim=1)

    def attend_in_frames(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        num_frames: int,
        num_global_tokens: int,
    ) -> torch.Tensor:
        """What the frames' tokens get [B, T·L, Dv]; all arguments are of all tokens [B, N, Dv]."""
        output = self.attend(
            self.split_heads(fold_frames(query[:, num_global_tokens:], num_frames)),
            self.split_heads(join_global_tokens(key, num_frames, num_global_tokens)),
            self.split_heads(join_global_tokens(value, num_frames, num_global_tokens)),
        )  # [B·T, L, Dv]
        return output.view(len(query), -1, query.shape[-1])

    def get_class_token_attention(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """The class token's attention [B, H, N] over all tokens [B, N, Dv], softmax in float32."""
        query = self.split_heads(self.q_proj(hidden_states[:, :1]))  # [B, H, 1, d]
        key = self.split_heads(self.k_proj(hidden_states))
        scores = query @ key.transpose(-1, -2) * self.scaling
        return scores.squeeze(2).softmax(dim=-1, dtype=torch.float32)


def fold_frames(tokens: torch.Tensor, num_frames: int) -> torch.Tensor:
    """[B, T·L, D] → [B·T, L, D]."""
    return tokens.unflatten(1, (num_frames, -1)).flatten(0, 1)


def join_global_tokens(tokens: torch.Tensor, num_frames: int, num_global_tokens: int) -> torch.Tensor:
    """Puts the global tokens before every frame's own: [B, N, D] → [B·T, G + L, D]."""
    frames = tokens[:, num_global_tokens:].unflatten(1, (num_frames, -1))  # [B, T, L, D]
    shared = tokens[:, None, :num_global_tokens].expand(-1, num_frames, -1, -1)  # [B, T, G, D]
    return torch.cat([shared, frames], dim=2).flatten(0, 1)


def take_tokens(tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """The tokens [B, M, D] at `positions` [B, M] of `tokens` [B, N, D]."""
    return tokens.gather(1, positions[:, :, None].expand(-1, -1, tokens.shape[2]))


class FPigVideoLayer(FPigLayer):
    """A block with proxy-guided attention, which can stop at the tokens that are read after it."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__(config, FPigVideoAttention)

    def forward(
        self, hidden_states: torch.Tensor, positions: torch.Tensor | None = None, **layout: int
    ) -> torch.Tensor:
        """[B, N, Dv] → [B, N, Dv], or [B, M, Dv]: the tokens at `positions` [B, M], which attend to all."""
        attended = self.self_attn(self.layer_norm1(hidden_states), positions=positions, **layout)
        if positions is not None:
            hidden_states = take_tokens(hidden_states, positions)
        hidden_states = hidden_states + attended
        return hidden_states + self.mlp(self.layer_norm2(hidden_states))


class FPigVideoTransformer(nn.Module):
    """CLIP's ViT over all tokens of a clip, with proxy-guided attention in every layer."""

    def __init__(self, config: FPigConfig) -> None:
        super().__init__()
        vision_config: CLIPVisionConfig = config.vision_config
        self.num_global_tokens = config.num_global_tokens
        self.needs_class_token_attention = config.video_pooling == "pseudo_query"
        self.embeddings = FPigVideoEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(vision_config.hidden_size, eps=vision_config.layer_norm_eps)
        self.encoder = FPigEncoder(vision_config, FPigVideoLayer)
        self.post_layernorm = nn.LayerNorm(vision_config.hidden_size, eps=vision_config.layer_norm_eps)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        [B, T, 3, H, W] → tokens after the last layer norm [B, N, Dv], and the last layer's class-token
        attention [B, H, N], which only the pseudo-query needs.
        """
        hidden_states, class_token_attention = self.run_to_last_layer(pixel_values)
        return self.run_last_layer(hidden_states, pixel_values.shape[1]), class_token_attention

    def run_to_last_layer(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """[B, T, 3, H, W] → what the last layer reads [B, N, Dv], and its class-token attention [B, H, N]."""
        layout = {"num_frames": pixel_values.shape[1], "num_global_tokens": self.num_global_tokens}
        hidden_states = self.pre_layrnorm(self.embeddings(pixel_values))
        for layer in self.encoder.layers[:-1]:
            hidden_states = layer(hidden_states, **layout)
        if not self.needs_class_token_attention:
            return hidden_states, None
        last_layer = self.encoder.layers[-1]
        # sdpa hides its scores; one more key projection is cheaper than the score matrix of all tokens.
        with torch.no_grad():
            class_token_attention = last_layer.self_attn.get_class_token_attention(
                last_layer.layer_norm1(hidden_states)
            )
        return hidden_states, class_token_attention

    def list_summary_tokens(self, hidden_states: torch.Tensor, num_frames: int) -> torch.Tensor:
        """Positions [B, G + T] of global and frame tokens among all N of `hidden_states` [B, N, Dv]."""
        num_videos, num_tokens = hidden_states.shape[:2]
        tokens_per_frame = (num_tokens - self.num_global_tokens) // num_frames
        frames = torch.arange(num_frames, device=hidden_states.device) * tokens_per_frame
        global_positions = torch.arange(self.num_global_tokens, device=hidden_states.device)
        positions = torch.cat([global_positions, self.num_global_tokens + frames])
        return positions.expand(num_videos, -1)

    def run_last_layer(
        self, hidden_states: torch.Tensor, num_frames: int, positions: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Tokens [B, N, Dv] before the last layer → after it and the last layer norm [B, N, Dv], or [B, M, Dv]:
        those at `positions` [B, M] alone, at a fraction of the cost.
        """
        hidden_states = self.encoder.layers[-1](
            hidden_states, positions, num_frames=num_frames, num_global_tokens=self.num_global_tokens
        )
        return self.post_layernorm(hidden_states)


__all__ = ["FPigVideoTransformer", "take_tokens"]
