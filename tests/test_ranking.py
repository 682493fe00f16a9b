"""Ranks and their summary, against a slow definition and against what other projects' code computes."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from video_retrieval import ranking
from video_retrieval.embedding_ranking import rank_embeddings
from video_retrieval.ranking import RetrievalRanks, rank_scores, summarize_ranks, summarize_retrieval

DATA = Path(__file__).parent / "data" / "metrics"
EXPECTED = json.loads((DATA / "expected.json").read_text())
KEYS = {"R1": "R@1", "R5": "R@5", "R10": "R@10", "MeanR": "MnR"}


def rank_slowly(scores: np.ndarray, labels: np.ndarray) -> dict[str, list[int]]:
    """The definition, word by word, with Python loops."""
    captions, videos = range(len(scores)), range(scores.shape[1])
    queries = [v for v in videos if v in labels]

    def best(video: int, captions_of: int) -> float:
        return max(scores[i, video] for i in captions if labels[i] == captions_of)

    ranks = {name: [] for name in RetrievalRanks.__annotations__}
    for i in captions:
        others = [scores[i, j] for j in videos if j != labels[i]]
        ranks["t2v"].append(1 + sum(other >= scores[i, labels[i]] for other in others))
        ranks["t2v_ties"].append(sum(other == scores[i, labels[i]] for other in others))
    for j in queries:
        others = [best(j, v) for v in queries if v != j]
        ranks["v2t"].append(1 + sum(other >= best(j, j) for other in others))
        ranks["v2t_ties"].append(sum(other == best(j, j) for other in others))
        others = [scores[i, j] for i in captions if labels[i] != j]
        ranks["v2t_caption_pool"].append(1 + sum(other >= best(j, j) for other in others))
        ranks["v2t_caption_pool_ties"].append(sum(other == best(j, j) for other in others))
    return ranks


def assert_same_ranks(ranks: RetrievalRanks, expected: RetrievalRanks | dict[str, list[int]]) -> None:
    expected = expected if isinstance(expected, dict) else vars(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(getattr(ranks, name), values, err_msg=name)


@pytest.mark.parametrize("seed", range(30))
def test_ranks_are_the_definition_with_ties_ragged_captions_and_distractors(seed):
    generator = np.random.default_rng(seed)
    num_videos, num_captions = generator.integers(1, 18), generator.integers(1, 40)
    labels = generator.integers(0, num_videos, num_captions)
    # Few levels with unequal odds: ties everywhere, and not the same above as below.
    levels = np.array([-np.inf, -1.0, 0.0, 0.25, 0.5, 3.0])
    scores = generator.choice(levels, (num_captions, num_videos), p=[0.05, 0.1, 0.15, 0.2, 0.4, 0.1])
    expected = rank_slowly(scores, labels)
    for captions_per_block, videos_per_block in ((2048, 1024), (5, 3), (1, 1), (4, 9)):
        ranks = rank_scores(scores, labels, captions_per_block, videos_per_block)
        assert_same_ranks(ranks, expected)


def test_the_data_of_the_test_above_has_what_it_names():
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 9, 12)
    scores = generator.choice([0.0, 1.0], (12, 9), p=[0.8, 0.2])
    ranks = rank_scores(scores, labels)
    optimistic = ranks.t2v - ranks.t2v_ties
    assert len(ranks.v2t) < 9
    assert not np.array_equal(ranks.t2v, optimistic)
    assert not np.array_equal(ranks.v2t, ranks.v2t_caption_pool)


@pytest.mark.parametrize(("captions_per_block", "videos_per_block"), [(64, 64), (100, 37), (7, 500), (1, 1)])
def test_block_size_and_caption_order_do_not_matter(captions_per_block, videos_per_block):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 180, 300)
    # Whole numbers, so that every product is exact and ties are real.
    text_embeds = generator.integers(-2, 3, (300, 6)).astype(np.float32)
    video_embeds = generator.integers(-2, 3, (180, 6)).astype(np.float32)
    expected = rank_scores(text_embeds @ video_embeds.T, labels)
    assert expected.t2v_ties.sum() > 100
    ranks = rank_embeddings(text_embeds, video_embeds, labels, captions_per_block, videos_per_block)
    assert_same_ranks(ranks, expected)
    order = np.argsort(labels, kind="stable")
    grouped = rank_embeddings(
        text_embeds[order], video_embeds, labels[order], captions_per_block, videos_per_block
    )
    np.testing.assert_array_equal(grouped.t2v, expected.t2v[order])
    np.testing.assert_array_equal(grouped.v2t, expected.v2t)


def test_one_video_with_more_captions_than_a_block():
    generator = np.random.default_rng(1)
    labels = np.array([2] * 400 + [0] * 3)
    scores = generator.integers(0, 50, (403, 4)).astype(np.float32)
    expected = rank_slowly(scores, labels)
    assert_same_ranks(rank_scores(scores, labels, captions_per_block=150, videos_per_block=2), expected)


@pytest.mark.parametrize("num_rows", [1, 2, 5])
@pytest.mark.parametrize("seed", range(10))
def test_rows_compared_at_once_do_not_matter(monkeypatch, num_rows, seed):
    """Videos of one to many captions begin, go on and end anywhere in the rows."""
    monkeypatch.setattr(ranking, "ROWS_PER_COMPARISON", num_rows)
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(9), [1, 1, 9, 2, 3, 1, 4, 6, 1])[generator.permutation(28)]
    scores = generator.choice([0.0, 0.5, 1.0], (28, 9), p=[0.5, 0.4, 0.1])
    expected = rank_slowly(scores, labels)
    for captions_per_block in (28, 7):
        assert_same_ranks(rank_scores(scores, labels, captions_per_block, 4), expected)


def test_number_of_threads_does_not_matter_and_stays():
    generator = np.random.default_rng(4)
    labels = generator.integers(0, 700, 900)
    text_embeds = generator.integers(-2, 3, (900, 6)).astype(np.float32)
    video_embeds = generator.integers(-2, 3, (700, 6)).astype(np.float32)
    expected = rank_scores(text_embeds @ video_embeds.T, labels)
    num_threads = torch.get_num_threads()
    try:
        for wanted in (1, 3):
            torch.set_num_threads(wanted)
            assert_same_ranks(rank_embeddings(text_embeds, video_embeds, labels, 128, 64), expected)
            assert torch.get_num_threads() == wanted
    finally:
        torch.set_num_threads(num_threads)


@pytest.mark.parametrize("place", [(0, 199), (299, 0), (150, 90)])
def test_a_nan_is_found_wherever_it_is(place):
    scores = np.zeros((300, 200))
    scores[place] = np.nan
    with pytest.raises(ValueError, match=r"`scores` has 1 NaN in one block"):
        rank_scores(scores, np.arange(300) % 200, 128, 64)


@pytest.mark.parametrize("num_videos", [65, 1023, 1100, 2049])
def test_constant_model_scores_nothing(num_videos):
    """The products round, and differently in another shape of block: still nobody gains by that."""
    embedding = np.random.default_rng(2).standard_normal(512).astype(np.float32)
    embedding /= np.linalg.norm(embedding)
    embeds = np.tile(embedding, (num_videos, 1))
    ranks = rank_embeddings(embeds, embeds, np.arange(num_videos))
    assert set(ranks.t2v) == set(ranks.v2t) == set(ranks.v2t_caption_pool) == {num_videos}
    assert set(ranks.t2v_ties) == {num_videos - 1}


def test_a_perfect_model_is_perfect_where_products_round():
    """A true score computed in another way than the others would beat itself."""
    embeds = np.random.default_rng(5).standard_normal((1500, 512)).astype(np.float32)
    embeds /= np.linalg.norm(embeds, axis=1, keepdims=True)
    summary = summarize_retrieval(rank_embeddings(embeds, embeds, np.arange(1500)))
    assert summary["t2v_R@1"] == summary["v2t_R@1"] == 100.0
    assert summary["t2v_num_tied_queries"] == 0


def test_copies_of_a_video_tie_wherever_they_stand():
    generator = np.random.default_rng(6)
    video_embeds = generator.standard_normal((1301, 512)).astype(np.float32)
    video_embeds[[5, 700, 1300]] = video_embeds[5]
    text_embeds = video_embeds + generator.standard_normal(video_embeds.shape).astype(np.float32) / 10
    ranks = rank_embeddings(text_embeds, video_embeds, np.arange(1301))
    assert list(ranks.t2v[[5, 700, 1300]]) == [3, 3, 3]
    assert list(ranks.t2v_ties[[5, 700, 1300]]) == [2, 2, 2]


def read_case(name: str) -> tuple[dict[str, float], dict]:
    arrays = np.load(DATA / f"{name}.npz")
    labels = arrays["text_to_video"] if "text_to_video" in arrays else np.arange(len(arrays["sim"]))
    return summarize_retrieval(rank_scores(arrays["sim"], labels)), EXPECTED[name]


def assert_equals_peer(summary: dict[str, float], direction: str, peer: dict[str, float]) -> None:
    for peer_key, key in KEYS.items():
        # Some peers compute their percentage in float32.
        assert summary[f"{direction}_{key}"] == pytest.approx(peer[peer_key], rel=1e-7), peer_key


@pytest.mark.parametrize("case", ["multi_fixed_30x20", "multi_ragged_12", "median_even_9"])
def test_several_captions_agree_with_peers_of_the_same_convention(case):
    summary, expected = read_case(case)
    for peer in ("clip4clip", "xpool"):
        assert_equals_peer(summary, "t2v", expected[peer]["t2v"])
        assert_equals_peer(summary, "v2t", expected[peer]["v2t"])
    assert_equals_peer(summary, "t2v", expected["w2vvpp"]["t2v"])
    # Collaborative Experts and Singularity take the rank of the best true caption among all captions.
    assert_equals_peer(summary, "t2v", expected["collaborative_experts"]["t2v"])
    assert_equals_peer(summary, "v2t_caption_pool", expected["collaborative_experts"]["v2t"])
    assert summary["v2t_R@1"] == summary["v2t_caption_pool_R@1"]
    if "singularity" in expected:
        for k in (1, 5, 10):
            assert round(summary[f"t2v_R@{k}"], 2) == expected["singularity"][f"img_r{k}"]
            assert round(summary[f"v2t_caption_pool_R@{k}"], 2) == expected["singularity"][f"txt_r{k}"]


def test_the_two_conventions_of_video_to_text_differ():
    summary, _ = read_case("multi_ragged_12")
    assert (summary["v2t_MnR"], summary["v2t_caption_pool_MnR"]) == (pytest.approx(25 / 12), 2.25)


def test_captions_in_any_order_with_distractor_videos():
    summary, expected = read_case("rect_labels_60x25")
    for peer in ("clip_vip_compute_metrics_multi", "w2vvpp"):
        assert_equals_peer(summary, "t2v", expected[peer]["t2v"])
        assert summary["t2v_MdR"] == expected[peer]["t2v"]["MedR"]


def test_median_is_the_mean_of_the_middle_two():
    """As in X-Pool, Collaborative Experts and statistics; CLIP4Clip takes the lower one, W2VV++ the floor."""
    summary, expected = read_case("median_even_9")
    assert summary["t2v_MdR"] == 1.5
    assert expected["xpool"]["t2v"]["MedR"] == expected["collaborative_experts"]["t2v"]["MedR"] == 1.5
    assert expected["clip4clip"]["t2v"]["MedianR"] == expected["w2vvpp"]["t2v"]["MedR"] == 1.0


def test_ties_count_against_the_model():
    """
    Every peer treats ties in its own way, and in its favour: CLIP4Clip counts a tied query once per
    tied position (so do its followers); Collaborative Experts averages the tied ranks; users of argsort get
    what the sort's build leaves. Only the worst rank gives a model nothing for scores that tell nothing.
    """
    scores = np.load(DATA / "ties_square_40.npz")["sim"]
    ranks = rank_scores(scores, np.arange(40))
    expected = EXPECTED["ties_square_40"]
    np.testing.assert_array_equal(ranks.t2v - 1, expected["_reference_ranks"]["pessimistic"])
    np.testing.assert_array_equal(ranks.t2v - 1 - ranks.t2v_ties, expected["_reference_ranks"]["optimistic"])
    summary = summarize_retrieval(ranks)
    averaged = np.mean(ranks.t2v - ranks.t2v_ties / 2)
    assert averaged == expected["collaborative_experts_averaging"]["t2v"]["MeanR"]
    positions = np.concatenate(
        [np.arange(rank - ties, rank + 1) for rank, ties in zip(ranks.t2v, ranks.t2v_ties, strict=True)]
    )
    assert summarize_ranks(positions)["R@1"] == pytest.approx(expected["clip4clip"]["t2v"]["R1"])
    assert summary["t2v_MnR"] > max(averaged, summarize_ranks(ranks.t2v - ranks.t2v_ties)["MnR"])
    assert summary["t2v_num_tied_queries"] == np.count_nonzero(ranks.t2v_ties) == 25


def test_padded_scores_of_peers_are_ranked_without_the_padding():
    """Peers pad videos with few captions by NaN; here there is nothing to pad, and a NaN is an error."""
    padded = np.load(DATA / "nan_padding_10.npz")["sim3"]
    is_caption = ~np.isnan(padded[:, :, 0])
    labels = np.repeat(np.arange(10), is_caption.sum(axis=1))
    summary = summarize_retrieval(rank_scores(padded[is_caption], labels))
    for peer in ("clip4clip", "xpool"):
        assert_equals_peer(summary, "t2v", EXPECTED["nan_padding_10"][peer]["t2v"])
        assert_equals_peer(summary, "v2t", EXPECTED["nan_padding_10"][peer]["v2t"])
    with pytest.raises(ValueError, match=r"`scores` has 110 NaN in one block; a NaN has no rank"):
        rank_scores(padded.reshape(40, 10), np.repeat(np.arange(10), 4))


def test_summary_by_hand():
    assert summarize_ranks(np.array([1, 5, 6, 10, 11, 100]), "v2t_") == {
        "v2t_R@1": 100 / 6,
        "v2t_R@5": 200 / 6,
        "v2t_R@10": 400 / 6,
        "v2t_SumR": pytest.approx(700 / 6),
        "v2t_MdR": 8.0,
        "v2t_MnR": 133 / 6,
    }


@pytest.mark.parametrize(
    ("scores", "indices", "message"),
    [
        (np.zeros(3), [0], r"`scores` has the shape \(3,\); it must be \[captions, videos\]"),
        (np.zeros((0, 3)), [], r"`scores` has the shape \(0, 3\)"),
        (np.zeros((2, 3)), [0], r"has the shape \(1,\) but there are 2 captions; pass one video index"),
        (np.zeros((2, 3)), [0, 3], r"`caption_video_indices\[1\]` is 3 but there are 3 videos"),
        (np.zeros((2, 3)), [-1, 0], r"`caption_video_indices\[0\]` is -1 .* go from 0 to 2"),
        (np.zeros((2, 3)), [0.0, 1.0], r"is of type float64; pass whole numbers"),
        (np.array([[1, np.nan]]), [0], r"`scores` has 1 NaN"),
    ],
)
def test_bad_scores_are_refused(scores, indices, message):
    with pytest.raises(ValueError, match=message):
        rank_scores(scores, np.array(indices))


def test_bad_embeddings_are_refused():
    with pytest.raises(
        ValueError,
        match=r"`text_embeds` and `video_embeds` have the shapes \(2, 4\) and \(2, 3\); .*same model",
    ):
        rank_embeddings(np.zeros((2, 4)), np.zeros((2, 3)), np.arange(2))
    with pytest.raises(ValueError, match="at least one caption and one video"):
        rank_embeddings(np.zeros((0, 4)), np.zeros((2, 4)), np.arange(0))
    with pytest.raises(ValueError, match="a NaN has no rank"):
        rank_embeddings(np.full((2, 4), np.nan), np.zeros((2, 4)), np.arange(2))
    with pytest.raises(ValueError, match="is 0; a block needs at least 1"):
        rank_scores(np.zeros((2, 2)), np.arange(2), captions_per_block=0)


def test_threads_that_start_later_have_torchs_number_of_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        rank_embeddings(np.eye(4), np.eye(4), np.arange(4))
        with ThreadPoolExecutor(1) as thread:
            assert thread.submit(torch.get_num_threads).result() == 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("num_columns", [1, 8, 63, 64, 65, 200])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_are_merged_and_counted_in_any_order_of_memory(num_columns, order):
    hits = np.asarray(np.random.default_rng(0).random((9, num_columns)) < 0.3, order=order)
    starts = np.array([0, 1, 4])
    expected = [hits[0], hits[1:4].any(axis=0), hits[4:].any(axis=0)]
    np.testing.assert_array_equal(ranking.merge_rows(hits, starts), expected)
    np.testing.assert_array_equal(ranking.count_rows(hits), hits.sum(axis=1))
