"""`FPigConfig`: defaults, errors that name what is wrong, and a round trip through a folder."""

import math

import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig
from transformers.models.clip.configuration_clip import CLIPTextConfig, CLIPVisionConfig

from modeling_fpig import FPigConfig, FPigOutput


def test_defaults_are_the_papers_on_vit_b32():
    config = FPigConfig()
    assert config.model_type == "fpig"
    assert (config.num_frames, config.num_proxy_tokens, config.num_selected_tokens) == (12, 3, 16)
    assert (config.projection_dim, config.generation_loss_weight, config.interaction_dropout) == (512, 2, 0.1)
    assert config.generator_begin_token
    assert config.generator_projection
    assert config.video_pooling == "pseudo_query"
    assert config.logit_scale_init_value == pytest.approx(math.log(100))
    vision, text = config.vision_config, config.text_config
    assert (vision.hidden_size, vision.patch_size, vision.image_size) == (768, 32, 224)
    assert (text.hidden_size, text.max_position_embeddings, text.hidden_act) == (512, 77, "quick_gelu")
    assert (text.bos_token_id, text.eos_token_id) == (49406, 49407)


def test_counts_of_tokens():
    config = FPigConfig()
    assert (config.num_patches, config.num_global_tokens) == (49, 4)
    assert config.get_generator_length(12) == 1 + 32 + 1
    assert FPigConfig(generator_begin_token=False).get_generator_length(12) == 32 + 1
    assert FPigConfig(video_pooling="class_token").num_global_tokens == 4
    assert FPigConfig(video_pooling="mean").num_global_tokens == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"projection_dim": 0}, r"`projection_dim` is 0; it must be an integer of at least 1"),
        ({"num_frames": 0}, r"`num_frames` is 0; it must be an integer of at least 1"),
        ({"num_proxy_tokens": -1}, r"`num_proxy_tokens` is -1; it must be an integer of at least 0"),
        ({"num_selected_tokens": -1}, r"`num_selected_tokens` is -1; it must be an integer of at least 0"),
        ({"num_frames": True}, r"num_frames.*expected int, got bool"),
        ({"num_frames": 4.0}, r"num_frames.*expected int, got float"),
        ({"generator_projection": "yes"}, r"generator_projection.*expected bool, got str"),
        ({"text_config": {"num_hidden_layers": 0}}, r"`num_hidden_layers` of `text_config` is 0"),
        ({"vision_config": {"num_hidden_layers": 0}}, r"`num_hidden_layers` of `vision_config` is 0"),
        ({"text_config": {"num_attention_heads": 0}}, r"`num_attention_heads` of `text_config` is 0; .* 1"),
        ({"vision_config": {"num_attention_heads": 0}}, r"`num_attention_heads` of `vision_config` is 0"),
        ({"vision_config": {"num_attention_heads": -2}}, r"`num_attention_heads` of `vision_config` is -2"),
        ({"text_config": {"hidden_size": 0}}, r"`hidden_size` of `text_config` is 0; it must be at least 1"),
        ({"vision_config": {"intermediate_size": 0}}, r"`intermediate_size` of `vision_config` is 0"),
        ({"vision_config": {"num_channels": 0}}, r"`num_channels` of `vision_config` is 0"),
        ({"text_config": {"max_position_embeddings": 0}}, r"`max_position_embeddings` of `text_config` is 0"),
        (
            {"text_config": {"hidden_act": "swoosh"}},
            r"`hidden_act` of `text_config` is 'swoosh'; .*quick_gelu",
        ),
        (
            {"vision_config": {"layer_norm_eps": 0.0}},
            r"`layer_norm_eps` of `vision_config` is 0.0; .* above 0",
        ),
        ({"vision_config": {"layer_norm_eps": math.nan}}, r"`layer_norm_eps` of `vision_config` is nan"),
        (
            {"text_config": {"attention_dropout": 1.0}},
            r"`attention_dropout` of `text_config` is 1.0; .*\[0, 1\)",
        ),
        ({"text_config": {"attention_dropout": -0.5}}, r"`attention_dropout` of `text_config` is -0.5"),
        (
            {"text_config": {"bos_token_id": 98}},
            r"`bos_token_id` and `eos_token_id` are both 98; .* must differ",
        ),
        ({"initializer_factor": 0}, r"`initializer_factor` is 0; it must be finite and above 0"),
        ({"initializer_factor": math.nan}, r"`initializer_factor` is nan; it must be finite and above 0"),
        ({"generation_loss_weight": -0.5}, r"`generation_loss_weight` is -0.5; it must be finite"),
        ({"generation_loss_weight": math.nan}, r"`generation_loss_weight` is nan; it must be finite"),
        ({"generation_loss_weight": math.inf}, r"`generation_loss_weight` is inf; it must be finite"),
        ({"logit_scale_init_value": -0.1}, r"`logit_scale_init_value` is -0.1; .*\[0, ln 200\]"),
        ({"logit_scale_init_value": 100}, r"`logit_scale_init_value` is 100; .*pass the logarithm"),
        ({"logit_scale_init_value": math.nan}, r"`logit_scale_init_value` is nan"),
        ({"interaction_dropout": 1}, r"`interaction_dropout` is 1; it must lie in \[0, 1\)"),
        ({"interaction_dropout": -0.1}, r"`interaction_dropout` is -0.1; it must lie in \[0, 1\)"),
        ({"video_pooling": "max"}, r"`video_pooling` is 'max'; .*pseudo_query, class_token, mean"),
        ({"vision_config": {"image_size": 25}}, r"`image_size` is 25; .*multiple of `patch_size` 8"),
        ({"vision_config": {"image_size": 4}}, r"`image_size` is 4; .*multiple of `patch_size` 8"),
        ({"vision_config": {"patch_size": 0}}, r"`image_size` is 24; .*multiple of `patch_size` 0"),
        ({"vision_config": {"image_size": (24, 24)}}, r"`image_size` is \(24, 24\) .* pass one integer"),
        ({"text_config": {"bos_token_id": None}}, r"`bos_token_id` is None; .*`vocab_size` 99"),
        ({"text_config": {"eos_token_id": 99}}, r"`eos_token_id` is 99; .*`vocab_size` 99"),
        ({"text_config": {"eos_token_id": [98]}}, r"`eos_token_id` is \[98\]; .*`vocab_size` 99"),
        ({"num_selected_tokens": 37}, r"`num_selected_tokens` is 37; 4 frames of 9 patches have only 36"),
        ({"num_frames": 20}, r"`num_frames` is 20; .*have 30 tokens.*`max_position_embeddings` 29"),
        ({"generator_projection": False}, r"`generator_projection` is False; .*64 must equal .* 40"),
    ],
)
def test_bad_values_are_refused_by_name(make_tiny_config, overrides, message):
    if "num_frames" in overrides and overrides["num_frames"] == 20:
        overrides = overrides | {"text_config": {"max_position_embeddings": 29}}
    with pytest.raises(StrictDataclassError, match=message):
        make_tiny_config(**overrides)


def test_longest_sequence_that_fits_is_allowed(make_tiny_config):
    assert make_tiny_config(num_frames=20).get_generator_length(20) == 30


@pytest.mark.parametrize("video_pooling", ["class_token", "mean"])
def test_baselines_are_not_bound_by_the_generators_rules(make_tiny_config, video_pooling):
    config = make_tiny_config(num_frames=100, generator_projection=False, video_pooling=video_pooling)
    assert config.num_frames == 100


def test_sub_configs_may_be_objects():
    config = FPigConfig(text_config=CLIPTextConfig(), vision_config=CLIPVisionConfig(patch_size=16))
    assert config.num_patches == 196


def test_round_trip_through_a_folder(make_tiny_config, tmp_path):
    config = make_tiny_config(
        generator_begin_token=False,
        generation_loss_weight=1,
        logit_scale_init_value=2,
        interaction_dropout=0.25,
        video_pooling="class_token",
    )
    config.save_pretrained(tmp_path)
    for loaded in (FPigConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert loaded.to_dict() | {"_name_or_path": ""} == config.to_dict()
        assert loaded.video_pooling == "class_token"
        assert loaded.vision_config.patch_size == 8
        assert loaded.interaction_dropout == 0.25


def test_losses_and_selection_are_not_gathered_at_evaluation():
    """The Trainer's `compute_metrics` is to receive caption and video embeddings alone."""
    kept = {"text_embeds", "video_embeds"}
    ignored = set(FPigConfig.keys_to_ignore_at_inference)
    assert set(FPigOutput.__dataclass_fields__) - ignored - {"loss"} == kept
