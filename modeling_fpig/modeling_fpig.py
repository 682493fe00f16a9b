"""
F-Pig: text-to-video retrieval with a Hybrid-Tower (ICCV 2025, https://arxiv.org/abs/2509.04773).

A caption becomes one vector and a video becomes one vector, as in a two-tower model. Before any query
arrives, the model writes a pseudo-query for the video, a vector in caption space, and lets it attend over the
video's tokens as a single-tower model would do with the real query.

Shape legend, used in every file of this folder:

- B videos, Q captions, T frames of a video, P patches of a frame
- G global tokens (class token and proxies), L = 1 + P tokens of a frame, N = G + T·L tokens of a video
- K selected patches; L is also the tokens of a caption, where no frame is near; S tokens of any sequence
- Dv width of the video tower, Dt of the caption tower, D of the joint space; H heads of width d
"""

import math
from typing import Any

import torch
from torch import nn
from transformers import CLIPModel, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import can_return_tuple

from .configuration_fpig import FPigConfig
from .initialization_fpig import initialize_module, read_clip_config
from .interaction_fpig import FPigInteraction
from .loss_fpig import contrastive_loss, generation_loss
from .outputs_fpig import FPigOutput, FPigVideoOutput
from .pseudo_query_fpig import FPigPseudoQueryGenerator, select_informative_tokens
from .text_fpig import FPigTextTransformer
from .video_fpig import FPigVideoTransformer, take_tokens

MAX_LOGIT_SCALE = math.log(200)
CLASS_EMBEDDING = "vision_model.embeddings.class_embedding"


class FPigPreTrainedModel(PreTrainedModel):
    """Weight initialisation and what transformers needs to know of the architecture."""

    config: FPigConfig
    base_model_prefix = "fpig"
    main_input_name = "pixel_values"
    input_modalities = ("video", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["FPigLayer", "FPigVideoLayer", "FPigTextEmbeddings", "FPigVideoEmbeddings"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def _initialize_weights(self, module: nn.Module, is_custom_code: bool = False) -> None:
        # For custom code transformers skips modules that have no parameters of their own: attention and MLP
        # would keep a plain Linear's values. `transformers.initialization` spares loaded weights by itself.
        super()._initialize_weights(module, is_custom_code=False)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        factor = self.config.initializer_factor
        initialize_module(module, factor)
        if isinstance(module, FPigModel):
            init.constant_(module.logit_scale, self.config.logit_scale_init_value)
            for projection in (module.text_projection, module.visual_projection):
                init.normal_(projection.weight, std=projection.in_features**-0.5 * factor)


class FPigModel(FPigPreTrainedModel):
    """
    The two towers, and for F-Pig the pseudo-query generator and the interaction.

    Example:

    ```python
    from transformers import AutoModel, AutoProcessor

    model = AutoModel.from_pretrained("org/fpig-b32", trust_remote_code=True)
    processor = AutoProcessor.from_pretrained("org/fpig-b32", trust_remote_code=True)
    video_embeds = model.encode_video(**processor(videos=["a.mp4", "b.mp4"], return_tensors="pt"))
    text_embeds = model.encode_text(**processor(text=["a dog runs"], return_tensors="pt"))
    similarities = text_embeds @ video_embeds.T
    ```
    """

    def __init__(self, config: FPigConfig) -> None:
        config.validate()  # overrides given to `from_pretrained` are set after construction, unchecked
        super().__init__(config)
        # The towers read the attention implementation off their own configs, which transformers fills only
        # for towers that are models themselves.
        config._attn_implementation = config._attn_implementation
        self.text_model = FPigTextTransformer(config.text_config)
        self.vision_model = FPigVideoTransformer(config)
        self.text_projection = nn.Linear(config.text_config.hidden_size, config.projection_dim, bias=False)
        self.visual_projection = nn.Linear(
            config.vision_config.hidden_size, config.projection_dim, bias=False
        )
        self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init_value)))
        if config.video_pooling == "pseudo_query":
            self.generator = FPigPseudoQueryGenerator(config)
        if config.video_pooling == "pseudo_query" and config.use_interaction:
            self.interaction = FPigInteraction(config.projection_dim, config.interaction_dropout)
        self.post_init()

    @classmethod
    def from_clip_pretrained(
        cls, name_or_path: str, revision: str | None = None, **config_overrides: Any
    ) -> "FPigModel":
        """
        Starts from a transformers `CLIPModel` checkpoint: both towers and projections are CLIP's, the
        generator is a second copy of its text tower, the frame token its class embedding; the rest starts as
        published.

        Args:
            name_or_path: a Hub name or a folder.
            revision: branch, tag or commit of the repository.
            config_overrides: fields of [`FPigConfig`], for example `num_frames=32`.

        Raises:
            ValueError: no CLIP checkpoint, or an override that is no field of [`FPigConfig`] or that the
                checkpoint decides.
        """
        unknown = sorted(set(config_overrides) - set(FPigConfig.__dataclass_fields__))
        if unknown:
            raise ValueError(
                f"`{unknown[0]}` is no field of FPigConfig; the fields of its documentation are allowed"
            )
        model_type = FPigConfig.get_config_dict(name_or_path, revision=revision)[0].get("model_type")
        if model_type != "clip":  # transformers would load it all the same, with random weights in the gaps
            raise ValueError(
                f"`name_or_path` is {name_or_path!r}, a checkpoint of type {model_type!r}; pass one of type "
                "'clip', or load a trained F-Pig through `from_pretrained`"
            )
        clip = CLIPModel.from_pretrained(name_or_path, revision=revision)
        clip_fields = read_clip_config(clip)
        decided = sorted(set(config_overrides) & set(clip_fields))
        if decided:
            raise ValueError(f"`{decided[0]}` is the CLIP checkpoint's to decide; leave it out")
        config = FPigConfig(**clip_fields, **config_overrides)
        model = cls(config)
        model.load_clip_weights(dict(clip.named_parameters()))
        return model

    @torch.no_grad()
    def load_clip_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """
        Copies both towers and projections of a CLIP, then starts frame token and generator from them.

        Args:
            weights: a `CLIPModel`'s, by name.
        """
        parameters = dict(self.named_parameters())
        for name, value in weights.items():
            # The scale starts where the recipe says, and mean pooling has no class embedding of its own.
            if name != "logit_scale" and name in parameters:
                parameters[name].copy_(value)
        self.vision_model.embeddings.frame_embedding.copy_(weights[CLASS_EMBEDDING])
        if self.config.video_pooling == "pseudo_query":
            self.initialize_generator_from_text_model()

    @torch.no_grad()
    def initialize_generator_from_text_model(self) -> None:
        """Makes the generator a second copy of the caption tower; its linear map from video tokens stays."""
        text, generator = self.text_model, self.generator
        generator.encoder.load_state_dict(text.encoder.state_dict())
        generator.final_layer_norm.load_state_dict(text.final_layer_norm.state_dict())
        generator.position_embedding.load_state_dict(text.embeddings.position_embedding.state_dict())
        if self.config.generator_projection:
            generator.text_projection.load_state_dict(self.text_projection.state_dict())
        token_embeddings = text.embeddings.token_embedding.weight
        generator.end_embedding.copy_(token_embeddings[self.config.text_config.eos_token_id])
        if generator.begin_embedding is not None:
            generator.begin_embedding.copy_(token_embeddings[self.config.text_config.bos_token_id])

    @can_return_tuple
    def get_text_features(
        self, input_ids: torch.LongTensor, attention_mask: torch.Tensor | None = None
    ) -> BaseModelOutputWithPooling:
        """
        Caption tower.

        Args:
            input_ids: token ids [Q, L], each row with an end-of-text token.
            attention_mask: 1 for tokens, 0 for padding [Q, L].

        Returns:
            `last_hidden_state` [Q, L, Dt] and `pooler_output`, the caption features [Q, D], not normalised.
        """
        hidden_states, pooled = self.text_model(input_ids, attention_mask)
        return BaseModelOutputWithPooling(
            last_hidden_state=hidden_states, pooler_output=self.text_projection(pooled)
        )

    @can_return_tuple
    def get_video_features(
        self, pixel_values: torch.FloatTensor, output_last_hidden_state: bool = True
    ) -> FPigVideoOutput:
        """
        Video tower, pooled as `config.video_pooling` says.

        Args:
            pixel_values: normalised frames [B, T, 3, H, W]. Any number of frames: the temporal table is
                interpolated where T is not the number that the model was made for.
            output_last_hidden_state: give all tokens. Without it `last_hidden_state` is `None`, and the last
                layer finishes only the tokens that the other outputs need.

        Raises:
            ValueError: wrong shape or frame size, too few patches for the selection, or more frames than the
                generator has positions for.
        """
        num_frames = pixel_values.shape[1]
        hidden_states, class_token_attention = self.vision_model.run_to_last_layer(pixel_values)
        positions, selected = self.vision_model.list_summary_tokens(hidden_states, num_frames), None
        num_summary = positions.shape[1]
        if self.config.video_pooling == "pseudo_query":
            selected = self._select_tokens(class_token_attention, num_frames)
            positions = torch.cat([positions, selected], dim=1)
        finished = None if output_last_hidden_state else positions
        tokens = self.vision_model.run_last_layer(hidden_states, num_frames, finished)
        tokens = self.visual_projection(tokens)  # [B, N or M, D]
        pooled_tokens = take_tokens(tokens, positions) if output_last_hidden_state else tokens
        summary = pooled_tokens[:, :num_summary]  # [B, G + T, D]
        features, pseudo_query = self._pool(pooled_tokens, summary)
        return FPigVideoOutput(
            last_hidden_state=tokens if output_last_hidden_state else None,
            pooler_output=features,
            pseudo_query=pseudo_query,
            summary_tokens=summary,
            selected_token_indices=selected,
        )

    def _select_tokens(self, class_token_attention: torch.Tensor, num_frames: int) -> torch.Tensor:
        """Positions [B, K] of the informative patches."""
        num_selected = self.config.num_selected_tokens
        if num_frames * self.config.num_patches < num_selected:
            raise ValueError(
                f"`pixel_values` has {num_frames} frames of {self.config.num_patches} patches, fewer than "
                f"`num_selected_tokens` {num_selected}; pass more frames"
            )
        num_global = self.config.num_global_tokens
        return select_informative_tokens(class_token_attention, num_frames, num_global, num_selected)

    def _pool(self, tokens: torch.Tensor, summary: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Summary and selected tokens [B, M, D], and the summary by itself [B, G + T, D] → the video's features
        and, for F-Pig, its pseudo-query [B, D].
        """
        if self.config.video_pooling == "mean":
            return normalize(summary).mean(dim=1), None
        if self.config.video_pooling == "class_token":
            return summary[:, 0], None
        pseudo_query = self.generator(tokens)
        if not self.config.use_interaction:
            return pseudo_query, pseudo_query
        return self.interaction(pseudo_query[:, None], summary)[:, 0], pseudo_query

    def encode_text(
        self, input_ids: torch.LongTensor, attention_mask: torch.Tensor | None = None
    ) -> torch.FloatTensor:
        """Caption embeddings, unit vectors [Q, D]; arguments as in [`FPigModel.get_text_features`]."""
        return normalize(self.get_text_features(input_ids, attention_mask, return_dict=True).pooler_output)

    def encode_video(self, pixel_values: torch.FloatTensor) -> torch.FloatTensor:
        """Video embeddings, unit vectors [B, D]; argument as in [`FPigModel.get_video_features`]."""
        output = self.get_video_features(pixel_values, output_last_hidden_state=False, return_dict=True)
        return normalize(output.pooler_output)

    def get_logit_scale(self) -> torch.Tensor:
        """τ clamped to [0, ln 200]; the gradient passes the clamp, so that a scale beyond it can return."""
        clamped = self.logit_scale.clamp(0, MAX_LOGIT_SCALE)
        return self.logit_scale + (clamped - self.logit_scale).detach()

    def compute_loss(
        self,
        text_embeds: torch.Tensor,
        video_embeds: torch.Tensor,
        pseudo_query_embeds: torch.Tensor | None,
        logit_scale: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """
        Losses of embeddings [B, D], which may be those of all processes.

        Returns:
            The total, the retrieval loss and the generation loss (`None` for the baselines).
        """
        retrieval = contrastive_loss(text_embeds, video_embeds, logit_scale)
        if pseudo_query_embeds is None:
            return retrieval, retrieval, None
        generation = generation_loss(pseudo_query_embeds, text_embeds)
        return retrieval + self.config.generation_loss_weight * generation, retrieval, generation

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        return_loss: bool = True,
    ) -> FPigOutput:
        """
        Similarities of captions and videos, and the losses of a batch in which caption i describes video i.

        Args:
            input_ids: token ids [Q, L].
            attention_mask: 1 for tokens, 0 for padding [Q, L].
            pixel_values: normalised frames [B, T, 3, H, W].
            return_loss: also compute the losses; needs as many captions as videos.

        Raises:
            ValueError: no `pixel_values`, or a loss is asked for unequal numbers of captions and videos.
        """
        if pixel_values is None:
            raise ValueError("`pixel_values` is None; pass frames, or call `encode_text` for captions alone")
        text_embeds = self.encode_text(input_ids, attention_mask)
        video_output = self.get_video_features(pixel_values, output_last_hidden_state=False, return_dict=True)
        video_embeds = normalize(video_output.pooler_output)
        pseudo_query_embeds = None
        if video_output.pseudo_query is not None:
            pseudo_query_embeds = normalize(video_output.pseudo_query)
        logit_scale = self.get_logit_scale()
        logits_per_text = logit_scale.exp() * text_embeds @ video_embeds.T  # [Q, B]
        loss = retrieval_loss = generation = None
        if return_loss:
            if len(text_embeds) != len(video_embeds):
                raise ValueError(
                    f"`input_ids` has {len(text_embeds)} captions for {len(video_embeds)} videos; the loss "
                    "needs one each: pass `return_loss=False` for similarities alone"
                )
            loss, retrieval_loss, generation = self.compute_loss(
                text_embeds, video_embeds, pseudo_query_embeds, logit_scale
            )
        return FPigOutput(
            loss=loss,
            retrieval_loss=retrieval_loss,
            generation_loss=generation,
            logits_per_text=logits_per_text,
            logits_per_video=logits_per_text.T,
            text_embeds=text_embeds,
            video_embeds=video_embeds,
            pseudo_query_embeds=pseudo_query_embeds,
            selected_token_indices=video_output.selected_token_indices,
            logit_scale=logit_scale,
        )


def normalize(features: torch.Tensor) -> torch.Tensor:
    """Features [..., D] to unit vectors, computed in float32 whatever the features are in."""
    return nn.functional.normalize(features.float(), dim=-1).to(features.dtype)


__all__ = ["FPigModel", "FPigOutput", "FPigPreTrainedModel", "FPigVideoOutput"]
