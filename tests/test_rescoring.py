"""Dual softmax and the query bank, against slow definitions of the whole matrix and CLIP-ViP's numbers."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from video_retrieval.embedding_ranking import BlockProducts
from video_retrieval.ranking import rank_scores, summarize_retrieval
from video_retrieval.rescoring import (
    QueryBankRanks,
    apply_dual_softmax,
    rank_with_dual_softmax,
    rank_with_query_bank,
    sum_exponentials,
    summarize_query_bank,
)

DATA = Path(__file__).parent / "data" / "metrics"
KEYS = {"R1": "R@1", "R5": "R@5", "R10": "R@10", "MedR": "MdR", "MeanR": "MnR"}
BLOCK_SIZES = [(2048, 1024), (64, 64), (100, 37), (7, 500)]


def make_data(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """
    Captions, videos, labels and a bank. Whole numbers, so that every product is exact; copies of videos and
    of captions and products of 0, so that ties are real; distractors, and captions in any order.
    """
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 150, 300)
    text_embeds, video_embeds, bank_embeds = (
        generator.integers(-2, 3, (length, 6)).astype(np.float32) for length in (300, 180, 140)
    )
    text_embeds += video_embeds[labels]
    video_embeds[[20, 70, 179]] = video_embeds[20]
    text_embeds[generator.integers(0, 300, 60)] = text_embeds[generator.integers(0, 300, 60)]
    return text_embeds, video_embeds, labels, bank_embeds


def apply_dual_softmax_slowly(scores: np.ndarray, temperature: float) -> np.ndarray:
    exponentials = np.exp(temperature * scores)
    return scores * exponentials / exponentials.sum(axis=0)


def rank_with_query_bank_slowly(
    scores: np.ndarray, labels: np.ndarray, bank_scores: np.ndarray, beta: float
) -> QueryBankRanks:
    """Word by word, caption by caption."""
    sums = np.exp(beta * bank_scores).sum(axis=0)
    hubs = {int(np.argmax(row)) for row in bank_scores}
    ranks, ties, is_rescored = [], [], []
    for row, label in zip(scores, labels, strict=True):
        is_rescored.append(int(np.argmax(row)) in hubs)
        if is_rescored[-1]:
            row = np.exp(beta * row) / sums
        others = np.delete(row, label)
        ranks.append(1 + np.sum(others >= row[label]))
        ties.append(np.sum(others == row[label]))
    return QueryBankRanks(np.array(ranks), np.array(ties), np.array(is_rescored))


def assert_same_ranks(ranks, expected):
    for name, values in vars(expected).items():
        np.testing.assert_array_equal(getattr(ranks, name), values, err_msg=name)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_dual_softmax_is_its_definition_in_blocks_of_any_size(seed, temperature):
    text_embeds, video_embeds, labels, _ = make_data(seed)
    scores = (text_embeds @ video_embeds.T).astype(np.float64)
    expected = rank_scores(apply_dual_softmax_slowly(scores, temperature), labels)
    assert expected.t2v_ties.sum() > 10
    assert expected.v2t_ties.sum() > 10
    assert not np.array_equal(expected.t2v, rank_scores(scores, labels).t2v)
    for sizes in BLOCK_SIZES:
        ranks = rank_with_dual_softmax(text_embeds, video_embeds, labels, temperature, *sizes)
        assert_same_ranks(ranks, expected)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_query_bank_is_its_definition_in_blocks_of_any_size(seed, beta):
    text_embeds, video_embeds, labels, bank_embeds = make_data(seed)
    scores, bank_scores = text_embeds @ video_embeds.T, bank_embeds @ video_embeds.T
    expected = rank_with_query_bank_slowly(scores.astype(float), labels, bank_scores.astype(float), beta)
    assert 30 < expected.is_rescored.sum() < 270
    assert expected.t2v_ties[expected.is_rescored].sum() > 0
    assert expected.t2v_ties[~expected.is_rescored].sum() > 0
    for sizes in BLOCK_SIZES:
        ranks = rank_with_query_bank(text_embeds, video_embeds, labels, bank_embeds, beta, *sizes)
        assert_same_ranks(ranks, expected)


def test_dual_softmax_is_clip_vips():
    """The same matrix, and the same numbers out of it in both directions."""
    arrays = np.load(DATA / "dsl_square_150.npz")
    # Scores as embeddings: the products with unit vectors are exact.
    scores, units = torch.from_numpy(arrays["sim"]), torch.eye(150)
    log_sums = sum_exponentials(BlockProducts(scores, units, 64, 64), 100.0)
    matrix = apply_dual_softmax(arrays["sim"], log_sums, 100.0)
    # Theirs is in float32, so the smallest numbers are 0.
    np.testing.assert_allclose(matrix, arrays["dsl_clip_vip"], rtol=1e-4, atol=1e-37)
    ranks = rank_with_dual_softmax(scores, units, np.arange(150))
    summary = summarize_retrieval(ranks)
    expected = json.loads((DATA / "expected.json").read_text())["dsl_square_150"]["clip_vip"]["dual_softmax"]
    for direction, values in expected.items():
        for peer_key, key in KEYS.items():
            assert summary[f"{direction}_{key}"] == pytest.approx(values[peer_key]), key


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_query_bank_by_hand(scale):
    """Where exp(beta·S) overflows too."""
    videos = np.eye(3, dtype=np.float32) * scale
    # The bank finds video 0, always; video 1 is near it.
    bank = np.array([[1.0, 0.9, 0.0]] * 4, np.float32) * scale
    captions = np.array(
        [
            [0.6, 0.0, 0.5],  # best is 0, a hub: 0.6 - 1 is less than 0.5 - 0
            [0.0, 0.6, 0.5],  # best is 1, no hub: left alone, though 0.6 - 0.9 is less than 0.5 - 0
            [0.6, 0.1, 0.5],  # best is 0, and true
        ],
        np.float32,
    )
    ranks = rank_with_query_bank(captions * scale, videos, np.array([2, 1, 0]), bank)
    assert list(ranks.t2v) == [1, 1, 2]
    assert list(ranks.is_rescored) == [True, False, True]
    assert summarize_query_bank(ranks) == {
        "t2v_R@1": 200 / 3,
        "t2v_R@5": 100.0,
        "t2v_R@10": 100.0,
        "t2v_SumR": pytest.approx(800 / 3),
        "t2v_MdR": 1.0,
        "t2v_MnR": 4 / 3,
        "t2v_num_tied_queries": 0,
        "num_rescored_queries": 2,
    }


def test_of_equal_best_videos_the_first_counts():
    """In a block, and over blocks."""
    videos = np.zeros((104, 2), np.float32)
    videos[1], videos[2], videos[103] = (2, 0), (0, 2), (0, 2)
    captions, bank = np.eye(2, dtype=np.float32), np.ones((1, 2), np.float32)
    ranks = rank_with_query_bank(captions, videos, np.array([103, 3]), bank, 20.0, 64, 64)
    assert list(ranks.is_rescored) == [True, False]


def test_dual_softmax_of_scores_whose_exponentials_overflow():
    embeds = np.random.default_rng(5).standard_normal((200, 64)).astype(np.float32)
    ranks = rank_with_dual_softmax(embeds, embeds, np.arange(200))
    assert set(ranks.t2v) == set(ranks.v2t) == {1}


def test_scores_far_below_the_highest_are_no_ties():
    scores = np.array([[1.2, 1.2], [0.1, 0.05]], np.float32)
    ranks = rank_with_dual_softmax(scores, np.eye(2, dtype=np.float32), np.array([1, 0]))
    assert (ranks.t2v[1], ranks.t2v_ties[1]) == (1, 0)


def test_copies_of_a_video_tie_wherever_they_stand():
    """Also where the products, the exponentials and their sums round."""
    generator = np.random.default_rng(6)
    video_embeds = generator.standard_normal((1301, 512)).astype(np.float32)
    video_embeds /= np.linalg.norm(video_embeds, axis=1, keepdims=True)
    copies = [5, 700, 1300]
    video_embeds[copies] = video_embeds[5]
    text_embeds = video_embeds + generator.standard_normal(video_embeds.shape).astype(np.float32) / 60
    bank_embeds = text_embeds[::2] + generator.standard_normal((651, 512)).astype(np.float32) / 60
    dual_softmax = rank_with_dual_softmax(text_embeds, video_embeds, np.arange(1301))
    query_bank = rank_with_query_bank(text_embeds, video_embeds, np.arange(1301), bank_embeds)
    assert list(query_bank.is_rescored[copies]) == [True] * 3
    for ranks in (dual_softmax, query_bank):
        assert list(ranks.t2v[copies]) == [3, 3, 3]
        assert list(ranks.t2v_ties[copies]) == [2, 2, 2]
        assert np.count_nonzero(ranks.t2v_ties) == 3


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_bad_temperatures_are_refused(value):
    embeds = np.eye(2)
    with pytest.raises(ValueError, match=rf"`temperature` is {value}; .* above 0: pass 100"):
        rank_with_dual_softmax(embeds, embeds, np.arange(2), value)
    with pytest.raises(ValueError, match=rf"`beta` is {value}; .* above 0: pass 20"):
        rank_with_query_bank(embeds, embeds, np.arange(2), embeds, value)


@pytest.mark.parametrize(
    ("bank", "message"),
    [
        (
            np.zeros((3, 4)),
            r"`bank_embeds` and `video_embeds` have the shapes \(3, 4\) and \(2, 2\); .* same model",
        ),
        (np.zeros(2), r"`bank_embeds` and `video_embeds` have the shapes \(2,\)"),
        (np.zeros((0, 2)), r"`video_embeds` have the shapes \(0, 2\) .* at least one"),
        (np.array([[1.0, math.nan]]), r"`bank_embeds` has 1 NaN; .* leave it out"),
    ],
)
def test_bad_banks_are_refused(bank, message):
    with pytest.raises(ValueError, match=message):
        rank_with_query_bank(np.eye(2), np.eye(2), np.arange(2), bank)


@pytest.mark.parametrize(
    ("text_embeds", "labels", "message"),
    [
        (np.zeros((2, 4)), [0, 1], r"`text_embeds` and `video_embeds` have the shapes \(2, 4\) and \(2, 2\)"),
        (np.zeros((0, 2)), [], "at least one caption and one video"),
        (np.eye(2), [0], "there are 2 captions; pass one video index per caption"),
        (np.eye(2), [0, 2], r"`caption_video_indices\[1\]` is 2 but there are 2 videos"),
        (np.array([[1.0, math.nan], [0.0, 1.0]]), [0, 1], "a NaN has no rank"),
    ],
)
def test_bad_embeddings_are_refused(text_embeds, labels, message):
    with pytest.raises(ValueError, match=message):
        rank_with_dual_softmax(text_embeds, np.eye(2), np.array(labels, int))
    with pytest.raises(ValueError, match=message):
        rank_with_query_bank(text_embeds, np.eye(2), np.array(labels, int), np.eye(2))
