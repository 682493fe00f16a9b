"""What `FPigModel` promises beside its formulas (those are in `test_reference.py` and `test_golden.py`)."""

import math

import pytest
import torch
from conftest import TINY_FIELDS, make_config
from torch.nn.functional import cross_entropy, interpolate, normalize
from transformers import AttentionInterface, AttentionMaskInterface, AutoModel, CLIPConfig, CLIPModel
from transformers.activations import ACT2FN
from transformers.masking_utils import flash_attention_mask

from modeling_fpig import FPigModel, FPigOutput
from modeling_fpig.text_fpig import find_end_of_text
from modeling_fpig.transformer_fpig import FPigMLP
from modeling_fpig.video_fpig import FPigVideoAttention

POOLINGS = ("pseudo_query", "class_token", "mean")


def record_calls(monkeypatch, owner, name):
    """Lets `owner.name` do its work and returns the list that fills with its arguments."""
    calls, original = [], getattr(owner, name)

    def record(*args, **kwargs):
        calls.append(args)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, record)
    return calls


def split(batch):
    """A batch's caption inputs and its frames."""
    return {name: batch[name] for name in ("input_ids", "attention_mask")}, batch["pixel_values"]


@pytest.mark.parametrize("video_pooling", POOLINGS)
def test_forward_is_exactly_the_product_of_the_two_sides(make_tiny_model, tiny_batch, video_pooling):
    model = make_tiny_model(video_pooling=video_pooling)
    captions, frames = split(tiny_batch)
    with torch.no_grad():
        output = model(**tiny_batch)
        text_embeds, video_embeds = model.encode_text(**captions), model.encode_video(frames)
        text_features = model.get_text_features(**captions).pooler_output
        video_features = model.get_video_features(frames).pooler_output
    assert isinstance(output, FPigOutput)
    assert torch.equal(output.text_embeds, text_embeds)
    assert torch.equal(output.video_embeds, video_embeds)
    assert torch.equal(output.logits_per_text, model.logit_scale.exp() * text_embeds @ video_embeds.T)
    assert torch.equal(output.logits_per_video, output.logits_per_text.T)
    torch.testing.assert_close(text_embeds, normalize(text_features, dim=-1))
    torch.testing.assert_close(video_embeds, normalize(video_features, dim=-1))
    assert (text_features.norm(dim=-1) - 1).abs().max() > 0.01  # features are not normalised


def test_shapes(tiny_model, tiny_batch):
    captions, frames = split(tiny_batch)
    text, video = tiny_model.get_text_features(**captions), tiny_model.get_video_features(frames[:2])
    assert text.last_hidden_state.shape == (3, 9, 64)
    assert text.pooler_output.shape == (3, 40)
    assert video.last_hidden_state.shape == (2, 3 + 4 * 10, 40)
    assert video.pooler_output.shape == video.pseudo_query.shape == (2, 40)
    assert video.selected_token_indices.shape == (2, 5)
    output = tiny_model(**captions, pixel_values=frames[:2], return_loss=False)
    assert output.logits_per_text.shape == (3, 2)
    assert output.loss is output.retrieval_loss is output.generation_loss is None
    as_tuple = tiny_model(**captions, pixel_values=frames[:2], return_loss=False, return_dict=False)
    assert torch.equal(as_tuple[0], output.logits_per_text)


@pytest.mark.parametrize("video_pooling", POOLINGS)
def test_batch_gives_what_single_videos_and_captions_give(make_tiny_model, tiny_batch, video_pooling):
    model = make_tiny_model(video_pooling=video_pooling)
    captions, frames = split(tiny_batch)
    with torch.no_grad():
        texts, videos = model.encode_text(**captions), model.encode_video(frames)
        for row in range(3):
            one_caption = {name: value[row : row + 1] for name, value in captions.items()}
            torch.testing.assert_close(model.encode_text(**one_caption)[0], texts[row], rtol=0, atol=1e-6)
            one = model.encode_video(frames[row : row + 1])[0]
            torch.testing.assert_close(one, videos[row], rtol=0, atol=1e-6)


@pytest.mark.parametrize("video_pooling", POOLINGS)
@pytest.mark.parametrize("num_frames", [2, 3, 7])
def test_other_numbers_of_frames_interpolate_the_temporal_table(make_tiny_model, video_pooling, num_frames):
    """As a model that was built for that many frames with the table interpolated."""
    model = make_tiny_model(video_pooling=video_pooling)
    other = make_tiny_model(video_pooling=video_pooling, num_frames=num_frames)
    weights = model.state_dict()
    if video_pooling != "mean":
        name = "vision_model.embeddings.temporal_embedding"
        weights[name] = interpolate(weights[name].T[None], size=num_frames, mode="linear")[0].T
        weights[name] = weights[name].contiguous()
    other.load_state_dict(weights)
    frames = torch.randn(2, num_frames, 3, 24, 24, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        torch.testing.assert_close(model.encode_video(frames), other.encode_video(frames))


@pytest.mark.parametrize("video_pooling", POOLINGS)
def test_nothing_but_the_last_hidden_state_needs_all_tokens(make_tiny_model, tiny_batch, video_pooling):
    model, num_global = make_tiny_model(video_pooling=video_pooling), 0 if video_pooling == "mean" else 3
    with torch.no_grad():
        whole = model.get_video_features(tiny_batch["pixel_values"])
        rest = model.get_video_features(tiny_batch["pixel_values"], output_last_hidden_state=False)
    assert list(rest) == list(whole)[1:]
    for name, values in rest.items():
        torch.testing.assert_close(values, whole[name], rtol=0, atol=1e-6)
    tokens = whole.last_hidden_state
    expected = torch.cat([tokens[:, :num_global], tokens[:, num_global::10]], dim=1)
    assert torch.equal(whole.summary_tokens, expected)


def test_frame_order_matters_to_the_temporal_table_alone(make_tiny_model, tiny_batch):
    frames = tiny_batch["pixel_values"]
    model, mean_model = make_tiny_model(), make_tiny_model(video_pooling="mean")
    with torch.no_grad():
        assert (model.encode_video(frames) - model.encode_video(frames.flip(1))).abs().max() > 1e-3
        torch.testing.assert_close(mean_model.encode_video(frames), mean_model.encode_video(frames.flip(1)))
        model.vision_model.embeddings.temporal_embedding.zero_()
        class_tokens = [model.get_video_features(f).last_hidden_state[:, 0] for f in (frames, frames.flip(1))]
        torch.testing.assert_close(*class_tokens)


@pytest.mark.parametrize("video_pooling", POOLINGS)
def test_eager_equals_sdpa(make_tiny_model, tiny_batch, video_pooling):
    model = make_tiny_model(video_pooling=video_pooling)
    assert model.config._attn_implementation == "sdpa"
    outputs = {}
    for implementation in ("sdpa", "eager"):
        model.set_attn_implementation(implementation)
        assert model.config.vision_config._attn_implementation == implementation
        model.zero_grad()
        output = model(**tiny_batch)
        output.loss.backward()
        outputs[implementation] = (output, [parameter.grad for parameter in model.parameters()])
    (sdpa, sdpa_gradients), (eager, eager_gradients) = outputs.values()
    torch.testing.assert_close(eager.text_embeds, sdpa.text_embeds, rtol=0, atol=2e-6)
    torch.testing.assert_close(eager.video_embeds, sdpa.video_embeds, rtol=0, atol=2e-6)
    for gradient, expected in zip(eager_gradients, sdpa_gradients, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-4)


def test_implementation_chosen_at_construction_reaches_the_towers(tiny_config, monkeypatch):
    model = AutoModel.from_config(tiny_config, attn_implementation="eager")
    calls = record_calls(monkeypatch, torch.nn.functional, "scaled_dot_product_attention")
    model.vision_model(torch.zeros(1, 4, 3, 24, 24))
    assert calls == []


def unpadding_attention(module, query, key, value, attention_mask, scaling, dropout=0.0, is_causal=None, **_):
    """What flash attention gets: a mask of padding [B, S] or none, and whether attention is causal."""
    allowed = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool)
    allowed = allowed.tril() if is_causal else allowed
    if attention_mask is not None:
        allowed = allowed & attention_mask[:, None, None].bool()
    output = torch.nn.functional.scaled_dot_product_attention(query, key, value, allowed, scale=scaling)
    return output.nan_to_num().transpose(1, 2), None


def test_works_through_flash_attentions_interface(tiny_model, tiny_batch):
    """Flash itself needs a GPU; its masks and arguments don't."""
    AttentionInterface.register("unpadding", unpadding_attention)
    AttentionMaskInterface.register("unpadding", flash_attention_mask)
    with torch.no_grad():
        expected = tiny_model(**tiny_batch)
        tiny_model.set_attn_implementation("unpadding")
        actual = tiny_model(**tiny_batch)
    for name in ("text_embeds", "video_embeds", "pseudo_query_embeds"):
        torch.testing.assert_close(actual[name], expected[name], rtol=0, atol=2e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.06), (torch.float16, 0.004)])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("num_frames", [4, 3])
def test_half_precision_is_close(make_tiny_model, tiny_batch, dtype, tolerance, implementation, num_frames):
    model, half = make_tiny_model(), make_tiny_model().to(dtype)
    half.set_attn_implementation(implementation)
    tiny_batch["pixel_values"] = tiny_batch["pixel_values"][:, :num_frames]
    with torch.no_grad():
        expected, actual = model(**tiny_batch), half(**tiny_batch)
    for name in ("text_embeds", "video_embeds"):
        assert actual[name].dtype == dtype
        torch.testing.assert_close(actual[name].float(), expected[name], rtol=0, atol=tolerance)
    assert actual.loss.dtype == torch.float32  # cross-entropy of a large scale is computed in full precision
    assert actual.loss.item() == pytest.approx(expected.loss.item(), rel=0.05)


def test_autocast(tiny_model, tiny_batch):
    expected = tiny_model(**tiny_batch).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = tiny_model(**tiny_batch).loss
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=0.05)
    assert all(torch.isfinite(parameter.grad).all() for parameter in tiny_model.parameters())


def test_activation_checkpointing_gives_the_same_gradients(make_tiny_model, tiny_batch, monkeypatch):
    gradients = []
    for is_checkpointed in (False, True):
        model = make_tiny_model().train()
        model.interaction.dropout.p = 0.0
        if is_checkpointed:
            model.activation_checkpointing_enable()
        calls = record_calls(monkeypatch, FPigMLP, "forward")
        model(**tiny_batch).loss.backward()
        gradients.append((len(calls), [parameter.grad for parameter in model.parameters()]))
        monkeypatch.undo()
    (num_calls, expected), (num_checkpointed_calls, actual) = gradients
    assert num_checkpointed_calls == 2 * num_calls  # every block's forward runs again in backward
    for gradient, expected_gradient in zip(actual, expected, strict=True):
        torch.testing.assert_close(gradient, expected_gradient)


@pytest.mark.parametrize("hidden_act", ["quick_gelu", "gelu"])
def test_activation_is_the_one_of_the_configuration(make_tiny_config, hidden_act):
    """As transformers computes it, and its gradient; CLIP's own is computed in another way."""
    mlp = FPigMLP(make_tiny_config(vision_config={"hidden_act": hidden_act}).vision_config)
    states = torch.linspace(-12, 12, 401, requires_grad=True)
    actual, expected = mlp.activation_fn(states), ACT2FN[hidden_act](states)
    torch.testing.assert_close(actual, expected, rtol=0, atol=2e-6)
    gradients = [torch.autograd.grad(output.sum(), states)[0] for output in (actual, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=2e-6)


def test_compiles_into_one_graph(make_tiny_model, tiny_batch):
    model = make_tiny_model(text_config={"num_hidden_layers": 1}, vision_config={"num_hidden_layers": 1})
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    expected, actual = model(**tiny_batch), compiled(**tiny_batch)
    torch.testing.assert_close(actual.loss, expected.loss)
    torch.testing.assert_close(actual.video_embeds, expected.video_embeds)
    assert torch.equal(actual.selected_token_indices, expected.selected_token_indices)
    gradients = [
        torch.autograd.grad(output.loss, model.interaction.q_proj.weight) for output in (actual, expected)
    ]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("video_pooling", POOLINGS)
def test_class_token_attention_only_where_needed(make_tiny_model, tiny_batch, monkeypatch, video_pooling):
    """Once per forward, of the last layer, for F-Pig; never for the baselines."""
    model = make_tiny_model(video_pooling=video_pooling)
    calls = record_calls(monkeypatch, FPigVideoAttention, "get_class_token_attention")
    model.encode_video(tiny_batch["pixel_values"])
    expected = [model.vision_model.encoder.layers[-1].self_attn] if video_pooling == "pseudo_query" else []
    assert [arguments[0] for arguments in calls] == expected


def test_no_attention_map_of_all_tokens(tiny_model, tiny_batch, monkeypatch):
    """Frames attend to G + L tokens; G queries to all N; scores leave attention for the class token alone."""
    calls = record_calls(monkeypatch, torch.nn.functional, "scaled_dot_product_attention")
    _, attention = tiny_model.vision_model(tiny_batch["pixel_values"])
    num_global, tokens_per_frame, num_tokens = 3, 10, 3 + 4 * 10
    lengths = {(arguments[0].shape[2], arguments[1].shape[2]) for arguments in calls}
    assert lengths == {(tokens_per_frame, num_global + tokens_per_frame), (num_global, num_tokens)}
    assert len(calls) == 2 * 2
    assert attention.shape == (3, 6, num_tokens)


def test_no_gradient_through_the_selection(tiny_model, tiny_batch):
    _, attention = tiny_model.vision_model(tiny_batch["pixel_values"])
    assert not attention.requires_grad


def test_every_parameter_learns(tiny_model, tiny_batch):
    tiny_model(**tiny_batch).loss.backward()
    largest = {name: parameter.grad.abs().max() for name, parameter in tiny_model.named_parameters()}
    unused = [name for name, value in largest.items() if value < 1e-9]
    assert unused == []


def test_padding_changes_nothing(tiny_model, tiny_batch):
    captions, _ = split(tiny_batch)
    longer_ids = torch.cat([captions["input_ids"], torch.full((3, 6), 98)], dim=1)
    longer_mask = torch.cat([captions["attention_mask"], torch.zeros(3, 6, dtype=torch.long)], dim=1)
    with torch.no_grad():
        expected = tiny_model.encode_text(**captions)
        for arguments in ((longer_ids, longer_mask), (longer_ids, None), (captions["input_ids"], None)):
            torch.testing.assert_close(tiny_model.encode_text(*arguments), expected, rtol=0, atol=1e-6)


def test_left_padding_is_masked(tiny_model):
    """With a padding token that is no end-of-text token, words after masked tokens don't see them."""
    ids, mask = torch.tensor([[5, 97, 10, 11, 98]]), torch.tensor([[0, 1, 1, 1, 1]])
    with torch.no_grad():
        first = tiny_model.encode_text(ids, mask)
        ids[0, 0] = 6
        torch.testing.assert_close(tiny_model.encode_text(ids, mask), first)
        assert not torch.allclose(tiny_model.encode_text(ids), first, atol=1e-3)


def test_captions_are_pooled_at_the_first_end_of_text():
    ids = torch.tensor([[1, 5, 9, 9], [1, 9, 5, 9], [9, 1, 1, 1], [1, 2, 3, 9]])
    assert find_end_of_text(ids, 9).tolist() == [2, 1, 0, 3]


def test_caption_without_end_of_text_is_an_error(tiny_model):
    ids = torch.tensor([[97, 1, 98], [97, 1, 2]])
    with pytest.raises(ValueError, match=r"`input_ids` row 1 has no end-of-text token 98; tokenize with"):
        tiny_model.encode_text(ids)


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        (
            torch.full((2, 31), 98),
            None,
            r"`input_ids` has 31 tokens .* has 30 positions; pass `max_length=30`",
        ),
        (torch.tensor([97, 98]), None, r"`input_ids` has shape \(2,\); it must be \[captions, tokens\]"),
        (torch.full((2, 5), 98), torch.ones(2, 4), r"`attention_mask` has shape \(2, 4\).*\(2, 5\)"),
        (torch.full((2, 5), 98), torch.ones(1, 5), r"`attention_mask` has shape \(1, 5\).*\(2, 5\)"),
    ],
)
def test_bad_captions(tiny_model, ids, mask, message):
    with pytest.raises(ValueError, match=message):
        tiny_model.encode_text(ids, mask)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (4, 3, 24, 24),
            r"`pixel_values` has shape \(4, 3, 24, 24\); it must be \[videos, frames, 3 channels",
        ),
        ((2, 0, 3, 24, 24), r"`pixel_values` has shape \(2, 0, .* at least one video and frame"),
        ((0, 4, 3, 24, 24), r"`pixel_values` has shape \(0, 4, .* at least one video and frame"),
        ((2, 3, 4, 24, 24), r"`pixel_values` has shape \(2, 3, 4, 24, 24\); .* 3 channels"),
        ((2, 4, 3, 24, 16), r"frames of 24×16 .* built for 24×24; pass `size=24` to the video processor"),
        ((2, 4, 3, 48, 48), r"frames of 48×48 .* built for 24×24"),
        ((2, 25, 3, 24, 24), r"`pixel_values` needs .* of 35 tokens .* 30 positions; pass 5 frames less"),
    ],
)
def test_bad_frames(tiny_model, shape, message):
    with pytest.raises(ValueError, match=message):
        tiny_model.encode_video(torch.zeros(shape))


def test_too_few_patches_for_the_selection(make_tiny_model):
    model = make_tiny_model(num_selected_tokens=10)
    model.encode_video(torch.zeros(1, 2, 3, 24, 24))
    with pytest.raises(ValueError, match=r"1 frames of 9 patches, fewer than `num_selected_tokens` 10"):
        model.encode_video(torch.zeros(1, 1, 3, 24, 24))


def test_loss_needs_pairs(tiny_model, tiny_batch):
    tiny_batch["pixel_values"] = tiny_batch["pixel_values"][:2]
    with pytest.raises(ValueError, match=r"`input_ids` has 3 captions for 2 videos; .*`return_loss=False`"):
        tiny_model(**tiny_batch)


def test_forward_needs_frames_and_refuses_typos(tiny_model, tiny_batch):
    captions, frames = split(tiny_batch)
    with pytest.raises(ValueError, match=r"`pixel_values` is None; pass frames, or call `encode_text`"):
        tiny_model(**captions)
    with pytest.raises(TypeError, match="pixel_value"):
        tiny_model(**captions, pixel_value=frames)


@pytest.mark.parametrize(("value", "expected"), [(-0.5, 0.0), (3.0, 3.0), (6.0, math.log(200))])
def test_temperature_is_clamped_and_still_learns(tiny_model, tiny_batch, value, expected):
    torch.nn.init.constant_(tiny_model.logit_scale, value)
    output = tiny_model(**tiny_batch)
    output.loss.backward()
    assert output.logit_scale.item() == pytest.approx(expected)
    cosines = output.text_embeds @ output.video_embeds.T
    torch.testing.assert_close(output.logits_per_text, math.exp(expected) * cosines)
    # The gradient is that of the loss at the clamped value: a scale beyond the limit can return.
    scale = torch.tensor(expected, requires_grad=True)
    logits, targets = scale.exp() * cosines.detach(), torch.arange(3)
    (cross_entropy(logits, targets) + cross_entropy(logits.T, targets)).backward()
    assert tiny_model.logit_scale.grad.item() == pytest.approx(scale.grad.item(), rel=1e-4)
    assert tiny_model.logit_scale.grad != 0


@pytest.mark.parametrize("video_pooling", POOLINGS)
def test_save_and_load(make_tiny_model, tiny_batch, tmp_path, video_pooling):
    model = make_tiny_model(video_pooling=video_pooling)
    model.save_pretrained(tmp_path)
    loaded = FPigModel.from_pretrained(tmp_path)
    assert not loaded.training
    with torch.no_grad():
        expected, actual = model(**tiny_batch), loaded(**tiny_batch)
    for name in ("text_embeds", "video_embeds", "loss"):
        assert torch.equal(actual[name], expected[name])
    assert "modeling_fpig.py" in {path.name for path in tmp_path.iterdir()}


def test_checkpoint_dtype_is_kept(make_tiny_model, tmp_path):
    make_tiny_model().to(torch.float16).save_pretrained(tmp_path)
    assert FPigModel.from_pretrained(tmp_path).dtype == torch.float16
    assert FPigModel.from_pretrained(tmp_path, dtype=torch.float32).dtype == torch.float32


def test_bad_override_at_load_is_refused(make_tiny_model, tmp_path):
    make_tiny_model().save_pretrained(tmp_path)
    with pytest.raises(Exception, match=r"`video_pooling` is 'max'; it must be one of"):
        FPigModel.from_pretrained(tmp_path, video_pooling="max")


def test_baselines_have_no_generator(make_tiny_model, tiny_batch):
    for video_pooling in ("class_token", "mean"):
        model = make_tiny_model(video_pooling=video_pooling)
        assert not [n for n, _ in model.named_parameters() if n.startswith(("generator", "interaction"))]
        output = model(**tiny_batch)
        assert output.generation_loss is None
        assert output.pseudo_query_embeds is None
        assert torch.equal(output.loss, output.retrieval_loss)
        output.loss.backward()
        assert all(parameter.grad is not None for parameter in model.parameters())


def test_class_token_pooling_is_the_first_token(make_tiny_model, tiny_batch):
    output = make_tiny_model(video_pooling="class_token").get_video_features(tiny_batch["pixel_values"])
    assert torch.equal(output.pooler_output, output.last_hidden_state[:, 0])


def test_without_the_interaction_the_pseudo_query_is_the_embedding(make_tiny_model, tiny_model, tiny_batch):
    model = make_tiny_model(use_interaction=False)
    assert not [name for name, _ in model.named_parameters() if name.startswith("interaction")]
    missing, unexpected = model.load_state_dict(tiny_model.state_dict(), strict=False)
    assert not missing
    assert {name.split(".")[0] for name in unexpected} == {"interaction"}
    output, expected = model(**tiny_batch), tiny_model(**tiny_batch)
    assert torch.equal(output.video_embeds, output.pseudo_query_embeds)
    assert torch.equal(output.pseudo_query_embeds, expected.pseudo_query_embeds)
    assert not torch.allclose(output.video_embeds, expected.video_embeds, atol=0.05)


def test_without_selected_tokens_the_generator_reads_the_summary_alone(make_tiny_model, tiny_batch, tmp_path):
    model = make_tiny_model(num_selected_tokens=0)
    read = []
    model.generator.register_forward_hook(lambda _, inputs, output: read.append(inputs[0]))
    output = model.get_video_features(tiny_batch["pixel_values"])
    assert output.selected_token_indices.shape == (3, 0)
    assert torch.equal(read[0], output.summary_tokens)
    model.save_pretrained(tmp_path)
    again = FPigModel.from_pretrained(tmp_path).get_video_features(tiny_batch["pixel_values"])
    assert torch.equal(again.pooler_output, output.pooler_output)


def test_pseudo_query_attends_to_its_own_video_alone(tiny_model, tiny_batch):
    frames = tiny_batch["pixel_values"].requires_grad_()
    tiny_model.encode_video(frames)[1].sum().backward()
    reaches = frames.grad.flatten(1).abs().amax(dim=1) > 0
    assert reaches.tolist() == [False, True, False]


def test_public_clip_names(tmp_path):
    """Both towers carry CLIP's parameter names, so that CLIP's tools find their way."""

    clip = CLIPModel(
        CLIPConfig(
            text_config=TINY_FIELDS["text_config"],
            vision_config=TINY_FIELDS["vision_config"],
            projection_dim=40,
        )
    )
    ours = dict(FPigModel(make_config()).named_parameters())
    assert {name: value.shape for name, value in clip.named_parameters()}.items() <= {
        name: value.shape for name, value in ours.items()
    }.items()
