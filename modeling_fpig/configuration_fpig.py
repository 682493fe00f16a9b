"""Every number the F-Pig model reads, validated on construction."""

import math
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.models.clip.configuration_clip import CLIPTextConfig, CLIPVisionConfig

VIDEO_POOLINGS = ("pseudo_query", "class_token", "mean")
COUNTS_OF_TOWERS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


@strict
class FPigConfig(PreTrainedConfig):
    r"""
    Configuration of an [`FPigModel`]. The defaults are F-Pig on CLIP ViT-B/32 with 12 frames.

    Args:
        text_config (`dict` or `CLIPTextConfig`, *optional*):
            The caption tower, in CLIP's field names.
        vision_config (`dict` or `CLIPVisionConfig`, *optional*):
            The video tower, in CLIP's field names. Images must be square and a multiple of the patch size.
        projection_dim (`int`, defaults to 512):
            Width D of the joint space of captions and videos.
        num_frames (`int`, defaults to 12):
            Rows of the temporal embedding table: the number of frames the model was made for.
        num_proxy_tokens (`int`, defaults to 3):
            Proxy tokens beside the class token; together they are the G global tokens.
        num_selected_tokens (`int`, defaults to 16):
            Patches K of a clip that informative token selection hands to the generator; 0 hands it none.
        generator_begin_token (`bool`, defaults to `True`):
            Whether the generator's sequence starts with a learned begin slot.
        generator_projection (`bool`, defaults to `True`):
            Whether the generator ends in a projection of its own. Without it the caption tower must be as
            wide as the joint space.
        generation_loss_weight (`float`, defaults to 2.0):
            Weight α of the generation loss, at least 0: 2 in the paper's supplement, 1 in its released runs.
        logit_scale_init_value (`float`, defaults to ln 100):
            Start value of τ, the logarithm of the similarity scale, in [0, ln 200].
        use_interaction (`bool`, defaults to `True`):
            Whether the pseudo-query attends over the video's tokens; without, it is the video's embedding.
        interaction_dropout (`float`, defaults to 0.1):
            Dropout in the pseudo-query interaction, in [0, 1).
        video_pooling (`str`, defaults to `"pseudo_query"`):
            What embeds a video: `"pseudo_query"` is F-Pig; `"class_token"` is the CLIP-ViP baseline; `"mean"`
            is the CLIP4Clip baseline, which encodes every frame alone with CLIP and averages. The two
            baselines build neither generator nor interaction.
        initializer_factor (`float`, defaults to 1.0):
            Scales the standard deviations of random start values, as CLIP's; above 0.

    Raises:
        StrictDataclassError: naming the field, its value, the rule and the repair.
    """

    model_type = "fpig"
    sub_configs_defaults: ClassVar[dict] = {"text_config": CLIPTextConfig, "vision_config": CLIPVisionConfig}
    keys_to_ignore_at_inference = [  # noqa: RUF012 - annotated, it would become a saved field
        "retrieval_loss",
        "generation_loss",
        "logits_per_text",
        "logits_per_video",
        "logit_scale",
        "pseudo_query_embeds",
        "selected_token_indices",
    ]

    text_config: dict | CLIPTextConfig | None = None
    vision_config: dict | CLIPVisionConfig | None = None
    projection_dim: int = 512
    num_frames: int = 12
    num_proxy_tokens: int = 3
    num_selected_tokens: int = 16
    generator_begin_token: bool = True
    generator_projection: bool = True
    generation_loss_weight: float | int = 2.0
    logit_scale_init_value: float | int = math.log(100)
    use_interaction: bool = True
    interaction_dropout: float | int = 0.1
    video_pooling: str = "pseudo_query"
    initializer_factor: float | int = 1.0

    def __post_init__(self, **kwargs: Any) -> None:
        for name, tower in (("text_config", self.text_config), ("vision_config", self.vision_config)):
            # transformers divides by it when it makes the tower's configuration, before any check of ours.
            if isinstance(tower, dict) and tower.get("num_attention_heads") == 0:
                error = ValueError(f"`num_attention_heads` of `{name}` is 0; it must be at least 1")
                raise StrictDataclassClassValidationError("validate_fields", error)
        super().__post_init__(**kwargs)

    @property
    def num_patches(self) -> int:
        """Patches P of one frame."""
        return (self.vision_config.image_size // self.vision_config.patch_size) ** 2

    @property
    def num_global_tokens(self) -> int:
        """Global tokens G: class token and proxies. Mean pooling encodes frames alone and has none."""
        return 0 if self.video_pooling == "mean" else 1 + self.num_proxy_tokens

    def get_generator_length(self, num_frames: int) -> int:
        """Length of the generator's sequence: [begin,] global tokens, frame tokens, selected patches, end."""
        begin = int(self.generator_begin_token)
        return begin + self.num_global_tokens + num_frames + self.num_selected_tokens + 1

    def validate_fields(self) -> None:
        """Called by `@strict`, which would take several validators in alphabetical order."""
        self.check_counts()
        self.check_numbers()
        self.check_tower("text_config", self.text_config)
        self.check_tower("vision_config", self.vision_config)
        self.check_video_pooling()
        self.check_image()
        self.check_text()
        if self.video_pooling == "pseudo_query":
            self.check_generator()

    def check_counts(self) -> None:
        """Raises a `ValueError` for a count below its minimum."""
        for name, minimum in (
            ("projection_dim", 1),
            ("num_frames", 1),
            ("num_proxy_tokens", 0),
            ("num_selected_tokens", 0),
        ):
            value = self.__dict__[name]
            if value < minimum:
                raise ValueError(f"`{name}` is {value}; it must be an integer of at least {minimum}")

    def check_tower(self, name: str, tower: CLIPTextConfig | CLIPVisionConfig) -> None:
        """Raises a `ValueError` for a field of a tower that no transformer can have."""
        fields = tower.to_dict()
        counts = (*COUNTS_OF_TOWERS, "max_position_embeddings" if name == "text_config" else "num_channels")
        for field in counts:
            if fields[field] < 1:
                raise ValueError(f"`{field}` of `{name}` is {fields[field]}; it must be at least 1")
        if tower.hidden_act not in ACT2FN:
            raise ValueError(
                f"`hidden_act` of `{name}` is {tower.hidden_act!r}; it must be one of "
                f"{', '.join(sorted(ACT2FN))}"
            )
        if not (math.isfinite(tower.layer_norm_eps) and tower.layer_norm_eps > 0):
            raise ValueError(f"`layer_norm_eps` of `{name}` is {tower.layer_norm_eps}; it must be above 0")
        if not 0 <= tower.attention_dropout < 1:
            raise ValueError(
                f"`attention_dropout` of `{name}` is {tower.attention_dropout}; it must lie in [0, 1)"
            )

    def check_numbers(self) -> None:
        """Raises a `ValueError` for a number out of its range."""
        if not (math.isfinite(self.generation_loss_weight) and self.generation_loss_weight >= 0):
            raise ValueError(
                f"`generation_loss_weight` is {self.generation_loss_weight}; it must be finite and at least 0"
            )
        if not 0 <= self.logit_scale_init_value <= math.log(200):
            raise ValueError(
                f"`logit_scale_init_value` is {self.logit_scale_init_value}; it must lie in [0, ln 200], "
                "about 5.298: pass the logarithm of the scale, ln 100 = 4.605 for CLIP's"
            )
        if not 0 <= self.interaction_dropout < 1:
            raise ValueError(f"`interaction_dropout` is {self.interaction_dropout}; it must lie in [0, 1)")
        if not (math.isfinite(self.initializer_factor) and self.initializer_factor > 0):
            raise ValueError(
                f"`initializer_factor` is {self.initializer_factor}; it must be finite and above 0"
            )

    def check_video_pooling(self) -> None:
        """Raises a `ValueError` for an unknown pooling."""
        if self.video_pooling not in VIDEO_POOLINGS:
            raise ValueError(
                f"`video_pooling` is {self.video_pooling!r}; it must be one of {', '.join(VIDEO_POOLINGS)}"
            )

    def check_image(self) -> None:
        """Raises a `ValueError` when frames can't be cut into patches."""
        image_size, patch_size = self.vision_config.image_size, self.vision_config.patch_size
        if not (isinstance(image_size, int) and isinstance(patch_size, int)):
            raise ValueError(
                f"`image_size` is {image_size} and `patch_size` is {patch_size}; frames and patches are "
                "square: pass one integer for each"
            )
        if patch_size < 1 or image_size < patch_size or image_size % patch_size:
            raise ValueError(
                f"`image_size` is {image_size}; it must be a positive multiple of `patch_size` {patch_size}"
            )

    def check_text(self) -> None:
        """Raises a `ValueError` for special tokens outside the vocabulary."""
        text = self.text_config
        for name, token_id in (("bos_token_id", text.bos_token_id), ("eos_token_id", text.eos_token_id)):
            if not isinstance(token_id, int) or not 0 <= token_id < text.vocab_size:
                raise ValueError(
                    f"`{name}` is {token_id}; it must be one id below `vocab_size` {text.vocab_size}: "
                    "pass the tokenizer's"
                )
        if text.bos_token_id == text.eos_token_id:
            raise ValueError(
                f"`bos_token_id` and `eos_token_id` are both {text.eos_token_id}; the end of a text is found "
                "by its id, so they must differ: pass the tokenizer's"
            )

    def check_generator(self) -> None:
        """Raises a `ValueError` when the generator can't hold the sequence that the other fields ask for."""
        if self.num_selected_tokens > self.num_frames * self.num_patches:
            raise ValueError(
                f"`num_selected_tokens` is {self.num_selected_tokens}; {self.num_frames} frames of "
                f"{self.num_patches} patches have only {self.num_frames * self.num_patches}: lower it"
            )
        length, limit = self.get_generator_length(self.num_frames), self.text_config.max_position_embeddings
        if length > limit:
            raise ValueError(
                f"`num_frames` is {self.num_frames}; the generator's sequence would have {length} tokens, "
                f"more than `max_position_embeddings` {limit}: lower `num_frames` or `num_selected_tokens`"
            )
        if not self.generator_projection and self.text_config.hidden_size != self.projection_dim:
            raise ValueError(
                "`generator_projection` is False; then the text `hidden_size` "
                f"{self.text_config.hidden_size} must equal `projection_dim` {self.projection_dim}"
            )


__all__ = ["VIDEO_POOLINGS", "FPigConfig"]
