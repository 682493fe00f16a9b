"""
F-Pig once more, slow and obvious: loops, one N×N mask, no batching. It reads a model's parameters by name and
shares no code with it, so that the two agree only where both compute the method.
"""

import math

import torch
from torch.nn.functional import conv2d, layer_norm

Parameters = dict[str, torch.Tensor]


def linear(p: Parameters, name: str, x: torch.Tensor) -> torch.Tensor:
    y = x @ p[f"{name}.weight"].T
    return y + p[f"{name}.bias"] if f"{name}.bias" in p else y


def norm(p: Parameters, name: str, x: torch.Tensor) -> torch.Tensor:
    return layer_norm(x, x.shape[-1:], p[f"{name}.weight"], p[f"{name}.bias"], eps=1e-5)


def block(p: Parameters, name: str, x: torch.Tensor, num_heads: int, allowed: torch.Tensor):
    """A pre-norm block over [S, D]; `allowed` [S, S] says who may look at whom. Also gives the attention."""
    y = norm(p, f"{name}.layer_norm1", x)
    query, key, value = (linear(p, f"{name}.self_attn.{letter}_proj", y) for letter in "qkv")
    width = x.shape[1] // num_heads
    outputs, attentions = [], []
    for head in range(num_heads):
        part = slice(head * width, (head + 1) * width)
        scores = query[:, part] @ key[:, part].T / math.sqrt(width)
        attention = scores.masked_fill(~allowed, -math.inf).softmax(dim=1)
        attentions.append(attention)
        outputs.append(attention @ value[:, part])
    x = x + linear(p, f"{name}.self_attn.out_proj", torch.cat(outputs, dim=1))
    hidden = linear(p, f"{name}.mlp.fc1", norm(p, f"{name}.layer_norm2", x))
    return x + linear(p, f"{name}.mlp.fc2", hidden * torch.sigmoid(1.702 * hidden)), torch.stack(attentions)


def encode_caption(p: Parameters, config, input_ids: list[int], attention_mask: list[int]) -> torch.Tensor:
    """One caption's features [D]."""
    text, length = config.text_config, len(input_ids)
    x = p["text_model.embeddings.token_embedding.weight"][input_ids]
    x = x + p["text_model.embeddings.position_embedding.weight"][:length]
    allowed = torch.zeros(length, length, dtype=torch.bool)
    for i in range(length):
        for j in range(i + 1):
            allowed[i, j] = attention_mask[j] == 1
    for layer in range(text.num_hidden_layers):
        x, _ = block(p, f"text_model.encoder.layers.{layer}", x, text.num_attention_heads, allowed)
    x = norm(p, "text_model.final_layer_norm", x)
    return linear(p, "text_projection", x[input_ids.index(text.eos_token_id)])


def embed_video(p: Parameters, config, frames: torch.Tensor) -> torch.Tensor:
    """Frames [T, 3, H, W] of the table's own number → tokens [N, Dv]."""
    prefix = "vision_model.embeddings."
    position = p[f"{prefix}position_embedding.weight"]
    tokens = [p[f"{prefix}class_embedding"] + position[0]]
    tokens += [proxy + position[0] for proxy in p[f"{prefix}proxy_embedding"]]
    kernel = p[f"{prefix}patch_embedding.weight"]
    for frame, temporal in zip(frames, p[f"{prefix}temporal_embedding"], strict=True):
        tokens.append(p[f"{prefix}frame_embedding"] + position[0] + temporal)
        grid = conv2d(frame[None], kernel, stride=config.vision_config.patch_size)[0]
        for row in range(grid.shape[1]):
            for column in range(grid.shape[2]):
                place = 1 + row * grid.shape[2] + column
                tokens.append(grid[:, row, column] + position[place] + temporal)
    return torch.stack(tokens)


def make_proxy_mask(num_frames: int, num_patches: int, num_global: int) -> torch.Tensor:
    """[N, N]: globals look at all; a frame's tokens look at the globals and at their own frame."""
    num_tokens = num_global + num_frames * (1 + num_patches)
    frame_of = [None] * num_global
    for frame in range(num_frames):
        frame_of += [frame] * (1 + num_patches)
    allowed = torch.zeros(num_tokens, num_tokens, dtype=torch.bool)
    for i in range(num_tokens):
        for j in range(num_tokens):
            allowed[i, j] = frame_of[i] is None or frame_of[j] is None or frame_of[i] == frame_of[j]
    return allowed


def encode_tokens(p: Parameters, config, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One video's tokens in the joint space [N, D] and the last layer's attention [H, N, N]."""
    vision = config.vision_config
    x = norm(p, "vision_model.pre_layrnorm", embed_video(p, config, frames))
    allowed = make_proxy_mask(len(frames), config.num_patches, 1 + config.num_proxy_tokens)
    for layer in range(vision.num_hidden_layers):
        x, attention = block(
            p, f"vision_model.encoder.layers.{layer}", x, vision.num_attention_heads, allowed
        )
    return linear(p, "visual_projection", norm(p, "vision_model.post_layernorm", x)), attention


def select_tokens(class_token_attention: torch.Tensor, num_frames: int, num_global: int, k: int) -> list[int]:
    """Attention [H, N] of the class token → positions of the k best patches, best first."""
    num_tokens = class_token_attention.shape[1]
    tokens_per_frame = (num_tokens - num_global) // num_frames
    scores = {}
    for frame in range(num_frames):
        for patch in range(1, tokens_per_frame):
            position = num_global + frame * tokens_per_frame + patch
            scores[position] = max(float(weight) for weight in class_token_attention[:, position])
    return sorted(scores, key=lambda position: (-scores[position], position))[:k]


def write_pseudo_query(p: Parameters, config, tokens: torch.Tensor) -> torch.Tensor:
    """Tokens [S, D] → pseudo-query [D]."""
    text = config.text_config
    slots = [p["generator.begin_embedding"]] if config.generator_begin_token else []
    slots += [linear(p, "generator.video_projection", token) for token in tokens]
    slots.append(p["generator.end_embedding"])
    x = torch.stack(
        [slot + p["generator.position_embedding.weight"][place] for place, slot in enumerate(slots)]
    )
    causal = torch.tensor([[j <= i for j in range(len(x))] for i in range(len(x))])
    for layer in range(text.num_hidden_layers):
        x, _ = block(p, f"generator.encoder.layers.{layer}", x, text.num_attention_heads, causal)
    end = norm(p, "generator.final_layer_norm", x[-1])
    return linear(p, "generator.text_projection", end) if config.generator_projection else end


def interact(p: Parameters, query: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Pseudo-query [D] and tokens [S, D] → video features [D]."""
    query = linear(p, "interaction.q_proj", norm(p, "interaction.layer_norm1", query))
    total, weights = 0.0, []
    tokens = [norm(p, "interaction.layer_norm1", token) for token in tokens]
    for token in tokens:
        weights.append(
            math.exp(float(query @ linear(p, "interaction.k_proj", token)) / math.sqrt(len(query)))
        )
    for token, weight in zip(tokens, weights, strict=True):
        total = total + weight / sum(weights) * linear(p, "interaction.v_proj", token)
    output = norm(p, "interaction.layer_norm2", linear(p, "interaction.out_proj", total))
    return norm(p, "interaction.layer_norm3", output + linear(p, "interaction.linear", output))


def encode_video(p: Parameters, config, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """One video's features [D], its pseudo-query [D] and the selected positions."""
    num_global, tokens_per_frame = 1 + config.num_proxy_tokens, 1 + config.num_patches
    tokens, attention = encode_tokens(p, config, frames)
    selected = select_tokens(attention[:, 0], len(frames), num_global, config.num_selected_tokens)
    summary = list(range(num_global)) + [num_global + t * tokens_per_frame for t in range(len(frames))]
    pseudo_query = write_pseudo_query(p, config, tokens[summary + selected])
    return interact(p, pseudo_query, tokens[summary]), pseudo_query, selected


def compute_losses(texts: torch.Tensor, videos: torch.Tensor, pseudo_queries: torch.Tensor, scale: float):
    """Features [B, D] of pairs → retrieval loss and generation loss."""
    texts, videos, pseudo_queries = (x / x.norm(dim=1, keepdim=True) for x in (texts, videos, pseudo_queries))
    rows = columns = generation = 0.0
    for i in range(len(texts)):
        own = scale * float(texts[i] @ videos[i])
        rows += math.log(sum(math.exp(scale * float(texts[i] @ video)) for video in videos)) - own
        columns += math.log(sum(math.exp(scale * float(text @ videos[i])) for text in texts)) - own
        generation += 2 - 2 * float(pseudo_queries[i] @ texts[i])
    return rows / len(texts) + columns / len(texts), generation / len(texts)
