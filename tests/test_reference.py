"""Every part of the model against the slow second implementation in `reference.py`."""

import pytest
import reference
import torch

from modeling_fpig.interaction_fpig import FPigInteraction
from modeling_fpig.loss_fpig import contrastive_loss, generation_loss
from modeling_fpig.pseudo_query_fpig import select_informative_tokens

VARIANTS = (
    {},
    {"generator_begin_token": False},
    {"generator_projection": False, "projection_dim": 64},
    {"num_proxy_tokens": 0},
    {"num_frames": 1},
)


def get_parameters(model):
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def assert_near(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("overrides", VARIANTS)
def test_whole_model(make_tiny_model, tiny_batch, overrides):
    model = make_tiny_model(**overrides)
    parameters, config = get_parameters(model), model.config
    frames = tiny_batch["pixel_values"][:, : config.num_frames]
    with torch.no_grad():
        output = model(tiny_batch["input_ids"], tiny_batch["attention_mask"], frames)
        video_output = model.get_video_features(frames)
        texts = model.get_text_features(tiny_batch["input_ids"], tiny_batch["attention_mask"]).pooler_output
    expected_texts = torch.stack(
        [
            reference.encode_caption(parameters, config, ids.tolist(), mask.tolist())
            for ids, mask in zip(tiny_batch["input_ids"], tiny_batch["attention_mask"], strict=True)
        ]
    )
    videos = [reference.encode_video(parameters, config, video) for video in frames]
    features, pseudo_queries = (torch.stack([video[place] for video in videos]) for place in (0, 1))
    assert_near(texts, expected_texts)
    assert_near(video_output.pooler_output, features)
    assert_near(video_output.pseudo_query, pseudo_queries)
    assert output.selected_token_indices.tolist() == [video[2] for video in videos]
    retrieval, generation = reference.compute_losses(
        expected_texts, features, pseudo_queries, model.logit_scale.exp().item()
    )
    assert output.retrieval_loss.item() == pytest.approx(retrieval, abs=2e-5)
    assert output.generation_loss.item() == pytest.approx(generation, abs=2e-5)
    assert output.loss.item() == pytest.approx(retrieval + 2 * generation, abs=5e-5)


def test_video_tower(tiny_model, tiny_batch):
    """All N tokens, not only those which the pseudo-query reads, and the class token's attention."""
    parameters = get_parameters(tiny_model)
    with torch.no_grad():
        tokens = tiny_model.get_video_features(tiny_batch["pixel_values"]).last_hidden_state
        _, attention = tiny_model.vision_model(tiny_batch["pixel_values"])
    for row, frames in enumerate(tiny_batch["pixel_values"]):
        expected_tokens, expected_attention = reference.encode_tokens(parameters, tiny_model.config, frames)
        assert_near(tokens[row], expected_tokens)
        assert_near(attention[row], expected_attention[:, 0])


def test_proxy_guided_attention(tiny_model):
    """One layer's attention on tokens of large variance, where a wrong mask shows."""
    layer = tiny_model.vision_model.encoder.layers[0]
    hidden_states = 3 * torch.randn(2, 3 + 4 * 10, 48, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        actual = layer(hidden_states, num_frames=4, num_global_tokens=3)
    allowed = reference.make_proxy_mask(num_frames=4, num_patches=9, num_global=3)
    parameters = {f"layer.{name}": value for name, value in get_parameters(layer).items()}
    for row in range(2):
        expected, _ = reference.block(parameters, "layer", hidden_states[row], 6, allowed)
        assert_near(actual[row], expected)


@pytest.mark.parametrize(("num_frames", "num_global", "k"), [(1, 1, 3), (3, 2, 5), (4, 3, 36)])
def test_selection(num_frames, num_global, k):
    generator = torch.Generator().manual_seed(k)
    attention = torch.rand(7, 6, num_global + num_frames * 10, generator=generator).softmax(-1)
    attention[0, :, num_global:] = attention[0, :, num_global : num_global + 1]  # ties everywhere
    attention[1] = (attention[1] * 200).round() / 200  # some ties
    attention[2, :, ::10] = 1.0
    actual = select_informative_tokens(attention, num_frames, num_global, k)
    expected = [reference.select_tokens(video, num_frames, num_global, k) for video in attention]
    assert actual.tolist() == expected


def test_generator(tiny_model):
    tokens = torch.randn(2, 3 + 4 + 5, 40, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        actual = tiny_model.generator(tokens)
    expected = [
        reference.write_pseudo_query(get_parameters(tiny_model), tiny_model.config, video) for video in tokens
    ]
    assert_near(actual, torch.stack(expected))


def test_interaction(tiny_model):
    generator = torch.Generator().manual_seed(4)
    queries, tokens = (torch.randn(*shape, generator=generator) for shape in ((3, 40), (3, 7, 40)))
    with torch.no_grad():
        actual = tiny_model.interaction(queries[:, None], tokens)[:, 0]
        together = tiny_model.interaction(queries.expand(3, -1, -1), tokens)  # every query over every video
    for row in range(3):
        assert_near(actual[row], reference.interact(get_parameters(tiny_model), queries[row], tokens[row]))
        for column in range(3):
            expected = reference.interact(get_parameters(tiny_model), queries[column], tokens[row])
            assert_near(together[row, column], expected)


def test_interaction_drops_only_what_the_linear_map_adds():
    """With dropout near 1 in training mode LN2's output passes LN3 alone."""
    torch.manual_seed(0)
    interaction = FPigInteraction(16, dropout=0.999999).train()
    generator = torch.Generator().manual_seed(5)
    query, tokens = (torch.randn(*shape, generator=generator) for shape in ((2, 1, 16), (2, 5, 16)))
    actual = interaction(query, tokens)
    torch.nn.init.zeros_(interaction.linear.weight)
    torch.nn.init.zeros_(interaction.linear.bias)
    torch.testing.assert_close(actual, interaction.eval()(query, tokens))


@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_losses(scale):
    generator = torch.Generator().manual_seed(6)
    features = [torch.randn(5, 8, generator=generator) for _ in range(3)]
    texts, videos, pseudo_queries = (torch.nn.functional.normalize(feature, dim=-1) for feature in features)
    retrieval, generation = reference.compute_losses(*features, scale)
    actual = contrastive_loss(texts, videos, torch.tensor(scale).log())
    assert actual.item() == pytest.approx(retrieval, abs=1e-5)
    assert generation_loss(pseudo_queries, texts).item() == pytest.approx(generation, abs=1e-5)
