"""Real queries in the pseudo-query's place, held against every pair by itself and against two plain sorts."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize
from toys import make_model
from video_retrieval.ranking import rank_scores

from fpig import single_tower
from fpig.single_tower import project_videos, rank_in_two_stages, rank_with_queries, score_pairs

NUM_QUERIES, NUM_VIDEOS = 11, 7
VIDEO_INDICES = torch.tensor([3, 0, 0, 6, 1, 2, 4, 5, 1, 6, 3])


@pytest.fixture(scope="module")
def inputs(model):
    """Text features [Q, D], summary tokens [V, S, D], projected too, and the embeddings that F-Pig makes."""
    generator = torch.Generator().manual_seed(3)
    text_features = torch.randn(NUM_QUERIES, 40, generator=generator)
    frames = torch.randn(NUM_VIDEOS, 4, 3, 24, 24, generator=generator)
    with torch.no_grad():
        output = model.get_video_features(frames)
    tokens = output.summary_tokens
    return text_features, tokens, project_videos(model, tokens), normalize(output.pooler_output, dim=-1)


@pytest.fixture(scope="module")
def scores(model, inputs):
    """[Q, V], one pair at a time."""
    text_features, summary_tokens, *_ = inputs
    scores = np.empty((NUM_QUERIES, NUM_VIDEOS), np.float32)
    with torch.no_grad():
        for query in range(NUM_QUERIES):
            for video in range(NUM_VIDEOS):
                feature = model.interaction(
                    text_features[None, None, query], summary_tokens[None, video]
                ).flatten()
                scores[query, video] = torch.cosine_similarity(feature, text_features[query], dim=0)
    return scores


def test_summary_tokens_are_what_the_pseudo_query_attends_over(model):
    frames = torch.randn(2, 4, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        output = model.get_video_features(frames)
        tokens, num_global = output.last_hidden_state, model.config.num_global_tokens
        expected = torch.cat([tokens[:, :num_global], tokens[:, num_global :: 1 + 9]], dim=1)
        assert torch.equal(output.summary_tokens, expected)
        pooled = model.interaction(output.pseudo_query[:, None], output.summary_tokens)
    torch.testing.assert_close(pooled[:, 0], output.pooler_output)


def test_scores_are_those_of_single_pairs(model, inputs, scores):
    text_features, _, videos, _ = inputs
    together = score_pairs(model, text_features[None], videos.keys, videos.values)
    np.testing.assert_allclose(together.T, scores, atol=1e-6)
    own = score_pairs(model, text_features[:NUM_VIDEOS, None], videos.keys, videos.values)
    np.testing.assert_allclose(own[:, 0], scores[range(NUM_VIDEOS), range(NUM_VIDEOS)], atol=1e-6)


@pytest.mark.parametrize("block_size", [128, 3, 1])
def test_ranks_are_those_of_the_scores(model, inputs, scores, monkeypatch, block_size):
    monkeypatch.setattr(single_tower, "BLOCK_SIZE", block_size)
    text_features, _, videos, _ = inputs
    ranks = rank_with_queries(model, text_features, videos, VIDEO_INDICES)
    expected = rank_scores(scores, VIDEO_INDICES.numpy())
    for name in ("t2v", "v2t", "v2t_caption_pool"):
        np.testing.assert_array_equal(getattr(ranks, name), getattr(expected, name))


def rank_slowly(first_scores, pair_scores, num_reranked):
    """Sort by the first stage, sort the top of it again by the second, look where the true video is."""
    ranks = []
    for query, true_video in enumerate(VIDEO_INDICES.tolist()):
        order = sorted(range(NUM_VIDEOS), key=lambda video: -first_scores[query, video])
        top = sorted(order[:num_reranked], key=lambda video: -pair_scores[query, video])
        ranks.append((top + order[num_reranked:]).index(true_video) + 1)
    return ranks


@pytest.mark.parametrize("num_reranked", [1, 2, 4, 7, 99])
@pytest.mark.parametrize("block", [1024, 1])
def test_two_stages_are_two_sorts(model, inputs, scores, monkeypatch, num_reranked, block):
    monkeypatch.setattr(single_tower, "PAIRS_PER_BLOCK", block)
    text_features, _, videos, video_embeds = inputs
    first_scores = (normalize(text_features, dim=-1) @ video_embeds.T).numpy()
    ranks = rank_in_two_stages(model, text_features, video_embeds, videos, VIDEO_INDICES, num_reranked)
    assert ranks.tolist() == rank_slowly(first_scores, scores, num_reranked)
    first = rank_scores(first_scores, VIDEO_INDICES.numpy()).t2v
    assert (num_reranked == 1) == (ranks.tolist() == first.tolist())


def test_ties_count_against_the_model_in_both_stages(model, inputs):
    text_features, summary_tokens, videos, video_embeds = inputs
    same_embeds = video_embeds[:1].expand(NUM_VIDEOS, -1)
    ranks = rank_in_two_stages(model, text_features, same_embeds, videos, VIDEO_INDICES, num_reranked=3)
    assert ranks.tolist() == [NUM_VIDEOS] * NUM_QUERIES
    same = project_videos(model, summary_tokens[:1].expand(NUM_VIDEOS, -1, -1))
    ranks = rank_in_two_stages(model, text_features, video_embeds, same, VIDEO_INDICES, NUM_VIDEOS)
    assert ranks.tolist() == [NUM_VIDEOS] * NUM_QUERIES


@pytest.mark.parametrize(("num_queries", "num_videos"), [(3, 17), (1, 17), (130, 129), (11, 7)])
def test_equal_videos_tie_whatever_the_sizes(model, inputs, num_queries, num_videos):
    """Rounding must not decide between them."""
    same = project_videos(model, inputs[1][:1].expand(num_videos, -1, -1))
    queries = torch.randn(num_queries, 40, generator=torch.Generator().manual_seed(5))
    ranks = rank_with_queries(model, queries, same, torch.arange(num_queries) % num_videos)
    assert ranks.t2v.tolist() == [num_videos] * num_queries
    assert ranks.t2v_ties.tolist() == [num_videos - 1] * num_queries


def test_nan_is_refused_in_both(model, inputs):
    text_features, summary_tokens, _, video_embeds = inputs
    broken = summary_tokens.clone()
    broken[2, 1, 4] = float("nan")
    videos = project_videos(model, broken)
    with pytest.raises(ValueError, match="a NaN has no rank"):
        rank_with_queries(model, text_features, videos, VIDEO_INDICES)
    with pytest.raises(ValueError, match="a NaN has no rank"):
        rank_in_two_stages(model, text_features, video_embeds, videos, VIDEO_INDICES, NUM_VIDEOS)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"video_pooling": "class_token"}, "`video_pooling` is 'class_token' and `use_interaction` is True"),
        ({"use_interaction": False}, "`video_pooling` is 'pseudo_query' and `use_interaction` is False"),
    ],
)
def test_models_without_an_interaction_are_refused(processor, inputs, overrides, message):
    with pytest.raises(ValueError, match=message):
        project_videos(make_model(processor, **overrides), inputs[1])


def test_model_of_an_older_version_is_refused(model, monkeypatch):
    settings = model.config.to_dict()
    settings.pop("use_interaction")
    monkeypatch.setattr(model.config, "to_dict", lambda: settings)
    with pytest.raises(ValueError, match="`use_interaction` is None; real queries need .* by this version"):
        single_tower.check_interaction(model)


def test_nothing_to_rerank_is_refused(model, inputs):
    text_features, _, videos, video_embeds = inputs
    with pytest.raises(ValueError, match="`num_reranked` is 0; re-rank at least 1 video"):
        rank_in_two_stages(model, text_features, video_embeds, videos, VIDEO_INDICES, 0)
