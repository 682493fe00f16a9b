"""Embeddings of captions and videos: right, once each, in any batches; errors name the file."""

import pytest
import torch
from torch.nn.functional import normalize
from toys import CAPTIONS, make_model, write_clip

from fpig.embedding import (
    embed_captions,
    embed_video_batches,
    embed_videos,
)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return [str(write_clip(folder / f"{seed}.mp4", seed)) for seed in range(5)]


def assert_unit_float32(embeds, num_rows):
    assert (embeds.shape, embeds.dtype, embeds.device.type) == ((num_rows, 40), torch.float32, "cpu")
    torch.testing.assert_close(embeds.norm(dim=1), torch.ones(num_rows))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_videos_are_what_the_model_says_in_order(model, processor, clips, num_workers):
    embeds = embed_videos(model, processor, clips, batch_size=2, num_workers=num_workers)
    assert_unit_float32(embeds, 5)
    with torch.no_grad():
        one_by_one = [model.encode_video(processor(videos=[clip])["pixel_values"]) for clip in clips]
    torch.testing.assert_close(embeds, torch.cat(one_by_one), atol=1e-6, rtol=0)
    assert (embeds[:, None] - embeds[None]).norm(dim=-1).add(torch.eye(5)).min() > 1e-2, "clips look alike"


def test_captions_are_what_the_model_says_in_order(model, processor):
    captions = ["rise", *CAPTIONS, "rise"]
    embeds = embed_captions(model, processor, captions, batch_size=2)
    assert_unit_float32(embeds, 6)
    with torch.no_grad():
        one_by_one = [model.encode_text(**processor(text=[caption])) for caption in captions]
    torch.testing.assert_close(embeds, torch.cat(one_by_one), atol=1e-6, rtol=0)


def test_a_repeated_caption_is_encoded_once(model, processor):
    num_rows = []
    handle = model.text_projection.register_forward_hook(
        lambda module, inputs, output: num_rows.append(len(output))
    )
    embeds = embed_captions(model, processor, [*CAPTIONS, *CAPTIONS, CAPTIONS[2]], batch_size=3)
    handle.remove()
    assert sum(num_rows) == 4
    assert torch.equal(embeds[:4], embeds[4:8])
    assert torch.equal(embeds[2], embeds[8])


def test_all_embeddings_come_from_the_same_pass(model, processor, clips):
    num_passes = []
    handle = model.visual_projection.register_forward_hook(lambda *_: num_passes.append(1))
    batches = list(embed_video_batches(model, processor, clips, batch_size=3))
    handle.remove()
    assert len(num_passes) == 2
    baseline = make_model(processor, video_pooling="class_token")
    baseline.load_state_dict(model.state_dict(), strict=False)
    expected = embed_videos(baseline, processor, clips, batch_size=3)
    class_token_embeds = torch.cat([batch.class_token_embeds for batch in batches])
    torch.testing.assert_close(class_token_embeds, expected, atol=1e-6, rtol=0)
    embeds = torch.cat([batch.embeds for batch in batches])
    assert torch.equal(embeds, embed_videos(model, processor, clips, batch_size=3))
    assert (embeds - class_token_embeds).abs().max() > 0.05
    summary_tokens = torch.cat([batch.summary_tokens for batch in batches])
    assert summary_tokens.shape == (5, 3 + 4, 40)
    assert torch.equal(normalize(summary_tokens[:, 0], dim=-1), class_token_embeds)


@pytest.mark.parametrize("video_pooling", ["pseudo_query", "class_token", "mean"])
def test_batches_have_what_all_tokens_have(processor, clips, video_pooling):
    model = make_model(processor, video_pooling=video_pooling)
    (batch,) = embed_video_batches(model, processor, clips)
    with torch.no_grad():
        features = model.get_video_features(**processor(videos=clips))
    tokens = features.last_hidden_state
    expected = {
        "embeds": features.pooler_output,
        "class_token_embeds": tokens[:, 0],
        "frame_embeds": tokens[:, -40:].view(5, 4, 10, 40)[:, :, 0],
    }
    if video_pooling == "pseudo_query":
        expected["pseudo_query_embeds"] = features.pseudo_query
        assert torch.equal(batch.selected_token_indices, features.selected_token_indices)
    else:
        assert batch.pseudo_query_embeds is batch.selected_token_indices is batch.summary_tokens is None
    for name, values in expected.items():
        torch.testing.assert_close(getattr(batch, name), normalize(values, dim=-1), rtol=0, atol=1e-6)


def test_mean_pooling_embeds_too(processor, clips):
    model = make_model(processor, video_pooling="mean")
    assert_unit_float32(embed_videos(model, processor, clips), 5)


@pytest.mark.parametrize("was_training", [True, False])
def test_mode_is_restored_and_dropout_is_off(processor, clips, was_training):
    model = make_model(processor).train(was_training)
    embeds = embed_videos(model, processor, clips)
    captions = embed_captions(model, processor, CAPTIONS)
    assert model.training is was_training
    assert not embeds.requires_grad
    assert not captions.requires_grad
    assert torch.equal(embeds, embed_videos(model.eval(), processor, clips))
    model.train(was_training)
    with pytest.raises(ValueError, match="can't be embedded"):
        embed_videos(model, processor, ["/nowhere.mp4"])
    assert model.training is was_training


def test_half_precision_models_give_float32_unit_vectors(processor, clips):
    """Normalised in float32: rounded to bfloat16 they would have other lengths, and tie."""
    model = make_model(processor)
    expected = embed_videos(model, processor, clips)
    embeds = embed_videos(model.to(torch.bfloat16), processor, clips)
    assert_unit_float32(embeds, 5)
    assert_unit_float32(embed_captions(model, processor, CAPTIONS), 4)
    assert not torch.equal(embeds, embeds.to(torch.bfloat16).float())
    assert torch.cosine_similarity(embeds, expected).min() > 0.99


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_unreadable_video_is_named(model, processor, clips, tmp_path, num_workers):
    bad = tmp_path / "broken clip.mp4"
    bad.write_bytes(b"no video" * 50)
    videos = [clips[0], str(bad), clips[1], str(tmp_path / "missing.mp4")]
    with pytest.raises(ValueError, match=r"`videos\[1\]` can't be embedded: .*broken clip.mp4.* take it out"):
        embed_videos(model, processor, videos, num_workers=num_workers)
    batches = list(embed_video_batches(model, processor, videos, batch_size=2, num_workers=num_workers))
    assert [batch.indices for batch in batches] == [[0], [2]]
    assert [list(batch.errors) for batch in batches] == [[1], [3]]
    embeds = torch.cat([batch.embeds for batch in batches])
    torch.testing.assert_close(embeds, embed_videos(model, processor, clips[:2]), atol=1e-6, rtol=0)


def test_a_batch_without_a_readable_video(model, processor, tmp_path):
    (batch,) = embed_video_batches(model, processor, [str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")])
    assert (batch.indices, batch.embeds.shape, sorted(batch.errors)) == ([], (0, 40), [0, 1])


def test_nothing_to_embed_is_an_error(model, processor, clips):
    with pytest.raises(ValueError, match="`videos` is empty; pass at least one"):
        embed_videos(model, processor, [])
    with pytest.raises(ValueError, match="`captions` is empty; pass at least one"):
        embed_captions(model, processor, [])
    with pytest.raises(ValueError, match="`batch_size` is 0; it must be at least 1"):
        embed_videos(model, processor, clips, batch_size=0)
