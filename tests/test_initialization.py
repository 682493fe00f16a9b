"""How weights start: from a CLIP checkpoint, from nothing, and where a checkpoint lacks some of them."""

import math

import pytest
import torch
from conftest import TINY_FIELDS, fill_parameters
from torch.nn.functional import normalize
from transformers import AutoModel, CLIPConfig, CLIPModel

from modeling_fpig import FPigModel

OVERRIDES = {"num_frames": 4, "num_proxy_tokens": 2, "num_selected_tokens": 5}


@pytest.fixture(scope="module")
def clip():
    """A tiny CLIP in which every parameter is random."""
    config = CLIPConfig(
        text_config=TINY_FIELDS["text_config"], vision_config=TINY_FIELDS["vision_config"], projection_dim=40
    )
    model = CLIPModel(config).eval()
    fill_parameters(model, seed=8)
    return model


@pytest.fixture(scope="module")
def clip_folder(clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    clip.save_pretrained(folder)
    return folder


def test_towers_and_projections_are_clips(clip, clip_folder):
    ours = dict(FPigModel.from_clip_pretrained(clip_folder, **OVERRIDES).named_parameters())
    for name, value in clip.named_parameters():
        if name != "logit_scale":
            assert torch.equal(ours[name], value), name
    assert ours["logit_scale"].item() == pytest.approx(math.log(100))


def test_caption_features_are_clips(clip, clip_folder, tiny_batch):
    model = FPigModel.from_clip_pretrained(clip_folder, **OVERRIDES)
    captions = {name: tiny_batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        expected = clip.get_text_features(**captions).pooler_output
        torch.testing.assert_close(model.get_text_features(**captions).pooler_output, expected)


def test_generator_is_a_second_copy_of_the_caption_tower(clip, clip_folder):
    model = FPigModel.from_clip_pretrained(clip_folder, **OVERRIDES)
    generator, text = model.generator, clip.text_model
    for ours, theirs in (
        (generator.encoder, text.encoder),
        (generator.final_layer_norm, text.final_layer_norm),
        (generator.position_embedding, text.embeddings.position_embedding),
        (generator.text_projection, clip.text_projection),
    ):
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        for name, value in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], value), name
            assert ours.state_dict()[name].data_ptr() != value.data_ptr()
    tokens = text.embeddings.token_embedding.weight
    assert torch.equal(generator.begin_embedding, tokens[97])
    assert torch.equal(generator.end_embedding, tokens[98])


def test_generator_and_caption_tower_learn_apart(clip_folder):
    model = FPigModel.from_clip_pretrained(clip_folder, **OVERRIDES)
    storages = [parameter.data_ptr() for parameter in model.parameters()]
    assert len(set(storages)) == len(storages)


def test_what_clip_lacks_starts_as_published(clip, clip_folder):
    torch.manual_seed(0)
    model = FPigModel.from_clip_pretrained(clip_folder, **(OVERRIDES | {"num_proxy_tokens": 10}))
    embeddings = model.vision_model.embeddings
    assert torch.equal(embeddings.frame_embedding, clip.vision_model.embeddings.class_embedding)
    assert torch.equal(embeddings.temporal_embedding, torch.zeros(4, 48))
    assert embeddings.proxy_embedding.mean().abs() < 0.15
    assert embeddings.proxy_embedding.std().item() == pytest.approx(1, abs=0.1)
    assert_interaction_is_new(model)
    assert_video_projection_is_torchs_default(model)


def assert_interaction_is_new(model):
    interaction = model.interaction
    for name in ("q_proj", "k_proj", "v_proj", "out_proj", "linear"):
        layer = getattr(interaction, name)
        assert torch.equal(layer.weight, torch.eye(40)), name
        assert torch.equal(layer.bias, torch.zeros(40)), name
    for norm in (interaction.layer_norm1, interaction.layer_norm2, interaction.layer_norm3):
        assert torch.equal(norm.weight, torch.ones(40))
        assert torch.equal(norm.bias, torch.zeros(40))


def assert_video_projection_is_torchs_default(model):
    """`nn.Linear`'s own: uniform within 1/√inputs, weight and bias."""
    layer, bound = model.generator.video_projection, 40**-0.5
    for values in (layer.weight, layer.bias):
        assert values.abs().max() <= bound
        assert values.abs().max() > 0.9 * bound
        assert values.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.15)


def test_new_frame_tokens_make_one_frame_like_clips_image(clip, clip_folder, tiny_batch):
    """Frame token = class embedding and temporal table = zero: embedded frames are CLIP's, token by token."""
    model = FPigModel.from_clip_pretrained(clip_folder, **OVERRIDES)
    frames = tiny_batch["pixel_values"]
    with torch.no_grad():
        ours = model.vision_model.embeddings(frames)[:, 3:].unflatten(1, (4, 10))
        for frame in range(4):
            torch.testing.assert_close(ours[:, frame], clip.vision_model.embeddings(frames[:, frame]))


def test_mean_pooling_is_clip4clips(clip, clip_folder, tiny_batch):
    """Every frame through CLIP alone, unit length, average."""
    model = FPigModel.from_clip_pretrained(clip_folder, video_pooling="mean", num_frames=4)
    frames = tiny_batch["pixel_values"]
    with torch.no_grad():
        features = clip.get_image_features(frames.flatten(0, 1)).pooler_output.unflatten(0, (3, 4))
        expected = normalize(features, dim=-1).mean(dim=1)
        torch.testing.assert_close(model.get_video_features(frames).pooler_output, expected)
        torch.testing.assert_close(model.encode_video(frames), normalize(expected, dim=-1))


@pytest.mark.parametrize("video_pooling", ["class_token", "mean"])
def test_baselines_have_only_what_they_use(clip, clip_folder, video_pooling):
    model = FPigModel.from_clip_pretrained(clip_folder, video_pooling=video_pooling, num_frames=4)
    added = {name for name, _ in model.named_parameters()} - {name for name, _ in clip.named_parameters()}
    embeddings = "vision_model.embeddings."
    if video_pooling == "mean":  # a frame's token is what CLIP calls the class token
        assert added == {embeddings + "frame_embedding"}
    else:
        assert added == {embeddings + f"{name}_embedding" for name in ("frame", "proxy", "temporal")}


def test_overrides(clip_folder):
    model = FPigModel.from_clip_pretrained(
        clip_folder, **OVERRIDES, generator_begin_token=False, generation_loss_weight=3
    )
    assert model.generator.begin_embedding is None
    assert model.config.generation_loss_weight == 3
    for name, message in (
        ("num_frame", r"`num_frame` is no field of FPigConfig"),
        ("text_config", r"`text_config` is the CLIP checkpoint's to decide"),
        ("projection_dim", r"`projection_dim` is the CLIP checkpoint's to decide"),
    ):
        with pytest.raises(ValueError, match=message):
            FPigModel.from_clip_pretrained(clip_folder, **{name: 4})


def test_generator_without_projection(tmp_path):
    config = CLIPConfig(
        text_config=TINY_FIELDS["text_config"], vision_config=TINY_FIELDS["vision_config"], projection_dim=64
    )
    CLIPModel(config).save_pretrained(tmp_path)
    model = FPigModel.from_clip_pretrained(tmp_path, **OVERRIDES, generator_projection=False)
    assert "generator.text_projection.weight" not in model.state_dict()


def test_openais_wrong_special_tokens_are_replaced(tmp_path):
    """OpenAI's published configs say begin 0, end 2, pad 1; their tokenizer's are the last two."""
    text = TINY_FIELDS["text_config"] | {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    config = CLIPConfig(text_config=text, vision_config=TINY_FIELDS["vision_config"], projection_dim=40)
    clip = CLIPModel(config).eval()
    clip.save_pretrained(tmp_path)
    model = FPigModel.from_clip_pretrained(tmp_path, **OVERRIDES)
    assert (model.config.text_config.bos_token_id, model.config.text_config.eos_token_id) == (97, 98)
    tokens = clip.text_model.embeddings.token_embedding.weight
    assert torch.equal(model.generator.end_embedding, tokens[98])
    ids = torch.tensor([[97, 2, 50, 98, 98]])
    with torch.no_grad():
        expected = clip.get_text_features(input_ids=ids).pooler_output  # pools at the largest id
        torch.testing.assert_close(model.get_text_features(ids).pooler_output, expected)


def test_generator_from_a_trained_caption_tower(make_tiny_model):
    """What training from nothing does between its first two stages."""
    model = make_tiny_model()
    before = model.generator.video_projection.weight.clone()
    model.initialize_generator_from_text_model()
    assert torch.equal(model.generator.video_projection.weight, before)
    assert torch.equal(model.generator.end_embedding, model.text_model.embeddings.token_embedding.weight[98])
    for name, value in model.text_model.encoder.state_dict().items():
        assert torch.equal(model.generator.encoder.state_dict()[name], value)
    assert torch.equal(model.generator.text_projection.weight, model.text_projection.weight)


def test_random_start_has_clips_scales(make_tiny_config):
    torch.manual_seed(0)
    model = FPigModel(make_tiny_config())
    clip = CLIPModel(
        CLIPConfig(
            text_config=TINY_FIELDS["text_config"],
            vision_config=TINY_FIELDS["vision_config"],
            projection_dim=40,
        )
    )
    ours = dict(model.named_parameters())
    for name, value in clip.named_parameters():
        if value.numel() > 500:
            assert ours[name].std().item() == pytest.approx(value.std().item(), rel=0.2), name
        elif value.numel() > 1 and value.std() == 0:
            assert torch.equal(ours[name], value), name
    assert_interaction_is_new(model)
    assert_video_projection_is_torchs_default(model)


def test_switching_to_the_pseudo_query_at_load_starts_the_generator_properly(make_tiny_model, tmp_path):
    """transformers skips modules of custom code that have no parameters of their own: ours must not."""
    make_tiny_model(video_pooling="class_token").save_pretrained(tmp_path)
    for auto_class, arguments in ((FPigModel, {}), (AutoModel, {"trust_remote_code": True})):
        torch.manual_seed(0)
        model = auto_class.from_pretrained(tmp_path, video_pooling="pseudo_query", **arguments)
        assert_interaction_is_new(model)
        assert_video_projection_is_torchs_default(model)
        generator, width, depth = model.generator, 64, 2
        for layer in generator.encoder.layers:
            expected = {
                "self_attn.q_proj": (2 * width * depth) ** -0.5,
                "self_attn.out_proj": width**-0.5,
                "mlp.fc1": (2 * width) ** -0.5,
                "mlp.fc2": (2 * width * depth) ** -0.5,
            }
            for name, std in expected.items():
                assert layer.get_submodule(name).weight.std().item() == pytest.approx(std, rel=0.1), name
                assert not layer.get_submodule(name).bias.any()
        assert generator.position_embedding.weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert generator.end_embedding.std().item() == pytest.approx(0.02, rel=0.3)
        # What the checkpoint has stays the checkpoint's.
        loaded = model.state_dict()
        for name, value in make_tiny_model(video_pooling="class_token").state_dict().items():
            assert torch.equal(loaded[name], value), name


def test_switching_from_mean_pooling_adds_global_tokens(make_tiny_model, tmp_path):
    torch.manual_seed(0)
    make_tiny_model(video_pooling="mean").save_pretrained(tmp_path)
    embeddings = FPigModel.from_pretrained(tmp_path, video_pooling="class_token").vision_model.embeddings
    assert not embeddings.temporal_embedding.any()
    assert embeddings.proxy_embedding.std().item() == pytest.approx(1, abs=0.25)
    assert embeddings.class_embedding.std().item() == pytest.approx(48**-0.5, rel=0.3)
