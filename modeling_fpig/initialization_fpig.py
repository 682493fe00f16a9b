"""How weights start: CLIP's random values, the published ones for what F-Pig adds, or a CLIP checkpoint's."""

from typing import Any

from torch import nn
from transformers import CLIPModel
from transformers import initialization as init

from .interaction_fpig import FPigInteraction
from .pseudo_query_fpig import FPigPseudoQueryGenerator
from .text_fpig import FPigTextEmbeddings
from .transformer_fpig import FPigAttention, FPigMLP
from .video_fpig import FPigVideoEmbeddings


def initialize_module(module: nn.Module, factor: float) -> None:
    """Fills one module of ours in place, scaled by `factor`; leaves all others as they are."""
    if isinstance(module, FPigTextEmbeddings):
        init.normal_(module.token_embedding.weight, std=0.02 * factor)
        init.normal_(module.position_embedding.weight, std=0.02 * factor)
    elif isinstance(module, FPigVideoEmbeddings):
        initialize_video_embeddings(module, factor)
    elif isinstance(module, FPigAttention):
        width, depth = module.config.hidden_size, module.config.num_hidden_layers
        for projection in (module.q_proj, module.k_proj, module.v_proj):
            init.normal_(projection.weight, std=(2 * width * depth) ** -0.5 * factor)
        init.normal_(module.out_proj.weight, std=width**-0.5 * factor)
    elif isinstance(module, FPigMLP):
        width, depth = module.config.hidden_size, module.config.num_hidden_layers
        init.normal_(module.fc1.weight, std=(2 * width) ** -0.5 * factor)
        init.normal_(module.fc2.weight, std=(2 * width * depth) ** -0.5 * factor)
    elif isinstance(module, FPigPseudoQueryGenerator):
        initialize_generator(module, factor)
    elif isinstance(module, FPigInteraction):
        for projection in (module.q_proj, module.k_proj, module.v_proj, module.out_proj, module.linear):
            init.eye_(projection.weight)


def initialize_video_embeddings(embeddings: FPigVideoEmbeddings, factor: float) -> None:
    """CLIP's values; proxies N(0, 1) as published; a temporal table of zeros."""
    width = len(embeddings.frame_embedding)
    init.normal_(embeddings.patch_embedding.weight, std=0.02 * factor)
    init.normal_(embeddings.position_embedding.weight, std=0.02 * factor)
    init.normal_(embeddings.frame_embedding, std=width**-0.5 * factor)
    if embeddings.class_embedding is not None:
        init.normal_(embeddings.class_embedding, std=width**-0.5 * factor)
        init.normal_(embeddings.proxy_embedding)
        init.zeros_(embeddings.temporal_embedding)


def initialize_generator(generator: FPigPseudoQueryGenerator, factor: float) -> None:
    """CLIP's values for what is a copy of its text tower, torch's default for the linear map into it."""
    init.normal_(generator.position_embedding.weight, std=0.02 * factor)
    init.normal_(generator.end_embedding, std=0.02 * factor)
    if generator.begin_embedding is not None:
        init.normal_(generator.begin_embedding, std=0.02 * factor)
    if isinstance(generator.text_projection, nn.Linear):
        init.normal_(
            generator.text_projection.weight, std=generator.text_projection.in_features**-0.5 * factor
        )
    bound = generator.video_projection.in_features**-0.5
    init.uniform_(generator.video_projection.weight, -bound, bound)
    init.uniform_(generator.video_projection.bias, -bound, bound)


def read_clip_config(clip: CLIPModel) -> dict[str, Any]:
    """The fields of `FPigConfig` that a CLIP checkpoint decides."""
    text_config = clip.config.text_config.to_dict()
    if text_config["eos_token_id"] == 2:
        # OpenAI's published configs name wrong special tokens; the real ones are the vocabulary's last two.
        begin, end = text_config["vocab_size"] - 2, text_config["vocab_size"] - 1
        text_config |= {"bos_token_id": begin, "eos_token_id": end, "pad_token_id": end}
    return {
        "text_config": text_config,
        "vision_config": clip.config.vision_config.to_dict(),
        "projection_dim": clip.config.projection_dim,
    }


__all__ = ["initialize_module", "read_clip_config"]
