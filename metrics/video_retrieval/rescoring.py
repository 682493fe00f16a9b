"""
Test-time re-scoring: scores that depend on other queries, ranked block by block.

A search engine that answers one query has no other queries, so these numbers stand beside the plain ones,
under names of their own, and never replace them.

Shapes: Q captions, V videos, M queries of a bank, D numbers in an embedding.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from .embedding_ranking import BlockProducts, check_embeds, sort_by_video, start_threads
from .ranking import CAPTIONS_PER_BLOCK, VIDEOS_PER_BLOCK, RetrievalRanks, summarize_ranks


@dataclass(frozen=True)
class QueryBankRanks:
    """
    Ranks after the normalisation with a query bank, captions in the caller's order; 1 is best.

    Attributes:
        t2v: rank of each caption's video among all videos, with every tie counted against the model [Q].
        t2v_ties: other videos with exactly the true video's score [Q].
        is_rescored: whether the caption's best video is one that the bank finds too often [Q].
    """

    t2v: np.ndarray
    t2v_ties: np.ndarray
    is_rescored: np.ndarray


def rank_with_dual_softmax(
    text_embeds: torch.Tensor | np.ndarray,
    video_embeds: torch.Tensor | np.ndarray,
    caption_video_indices: torch.Tensor | np.ndarray,
    temperature: float = 100.0,
    captions_per_block: int = CAPTIONS_PER_BLOCK,
    videos_per_block: int = VIDEOS_PER_BLOCK,
) -> RetrievalRanks:
    """
    Ranks the true pairs by S·softmax(temperature·S), softmax over all captions of the evaluation for a video.

    A video that is near many captions loses by that; it takes all captions of the test set at once. As in
    CLIP-ViP (`microsoft/XPretrain`, `CLIP-ViP/src/utils/metrics.py`) both directions are read from this one
    matrix, so that video to text hardly changes. TeachCLIP's code takes another matrix for that direction,
    with the softmax over videos, and a temperature of 1.

    Computed in float64: in float32 a cosine that is 1 below the highest has a softmax of 0 and so a tie with
    all others of that kind.

    Args:
        text_embeds: [Q, D].
        video_embeds: [V, D].
        caption_video_indices: the index of each caption's video [Q], captions in any order.
        temperature: above 0.
        captions_per_block: rows of a block, rounded up to a multiple of 64.
        videos_per_block: columns of a block, rounded up to a multiple of 64.

    Raises:
        ValueError: the temperature isn't above 0, or as in `rank_embeddings`.
    """
    check_temperature("temperature", temperature, 100)
    texts, videos = check_embeds(text_embeds, video_embeds)
    texts, indices, order = sort_by_video(texts, caption_video_indices, len(videos))
    products = BlockProducts(texts, videos, captions_per_block, videos_per_block)
    log_sums = sum_exponentials(products, temperature)

    def rescore(block: np.ndarray, captions: slice, columns: slice) -> np.ndarray:
        return apply_dual_softmax(block, log_sums[columns], temperature)

    return products.rank(indices, order, rescore)


def rank_with_query_bank(
    text_embeds: torch.Tensor | np.ndarray,
    video_embeds: torch.Tensor | np.ndarray,
    caption_video_indices: torch.Tensor | np.ndarray,
    bank_embeds: torch.Tensor | np.ndarray,
    beta: float = 20.0,
    captions_per_block: int = CAPTIONS_PER_BLOCK,
    videos_per_block: int = VIDEOS_PER_BLOCK,
) -> QueryBankRanks:
    """
    Ranks each caption's video after query bank normalisation with the dynamic inverted softmax.

    A video is a hub if it is the best one for a query of the bank. A caption whose best video is a hub is
    ranked by exp(beta·S) / Σ exp(beta·S of the bank's queries), every other caption by S. Of equal best
    videos the first counts. It is text to video alone.

    Source: Bogolin et al., Cross Modal Retrieval with Querybank Normalisation, CVPR 2022, with one best video
    per query of the bank (k = 1) and beta = 20 as in its code (`ioanacroi/qb-norm`). Here S - log(Σ) / beta
    is compared, which has the same order and can't overflow.

    Args:
        text_embeds: [Q, D].
        video_embeds: [V, D].
        caption_video_indices: the index of each caption's video [Q], captions in any order.
        bank_embeds: captions that are not tested, as a rule those of the training set [M, D].
        beta: inverse temperature, above 0.
        captions_per_block: rows of a block, rounded up to a multiple of 64.
        videos_per_block: columns of a block, rounded up to a multiple of 64.

    Raises:
        ValueError: the bank is empty, has another width or a NaN; beta isn't above 0; or as in
            `rank_embeddings`.
    """
    check_temperature("beta", beta, 20)
    texts, videos = check_embeds(text_embeds, video_embeds)
    texts, indices, order = sort_by_video(texts, caption_video_indices, len(videos))
    bank, bank_videos = check_embeds(bank_embeds, video_embeds, "bank_embeds")
    num_nans = int(torch.count_nonzero(torch.isnan(bank)))
    if num_nans:
        raise ValueError(
            f"`bank_embeds` has {num_nans} NaN; a query without a score can't normalise others: leave it out"
        )
    bank_products = BlockProducts(bank, bank_videos, captions_per_block, videos_per_block)
    offsets = sum_exponentials(bank_products, beta) / beta
    is_hub = np.zeros(len(videos), bool)
    is_hub[find_best_videos(bank_products)] = True
    products = BlockProducts(texts, videos, captions_per_block, videos_per_block)
    is_rescored = is_hub[find_best_videos(products)]

    def rescore(block: np.ndarray, captions: slice, columns: slice) -> np.ndarray:
        return block - np.where(is_rescored[captions, None], offsets[columns], 0.0)

    ranks = products.rank(indices, order, rescore)
    is_rescored_in_callers_order = np.empty(len(order), bool)
    is_rescored_in_callers_order[order] = is_rescored
    return QueryBankRanks(ranks.t2v, ranks.t2v_ties, is_rescored_in_callers_order)


def apply_dual_softmax(block: np.ndarray, log_sums: np.ndarray, temperature: float) -> np.ndarray:
    """
    S·softmax(temperature·S) in float64.

    Args:
        block: scores of some captions for some videos [captions, videos].
        log_sums: logarithm of the sum of exp(temperature·S) over all captions, for each of the videos.
        temperature: above 0.
    """
    scores = block.astype(np.float64)
    return scores * np.exp(temperature * scores - log_sums)


def sum_exponentials(products: BlockProducts, temperature: float) -> np.ndarray:
    """
    For each video the logarithm of the sum of exp(temperature·S) over all texts [V], in float64.

    Equal videos get equal sums: numpy adds up the rows of a block one by one, for all columns alike. Torch
    was seen to take another order for the last columns. So would numpy for a single one; padding prevents it.
    """

    def sum_columns(videos: slice) -> np.ndarray:
        log_sums = np.full(products.num_columns, -np.inf)
        for texts in products.text_blocks:
            exponents = temperature * products.multiply(texts, videos).numpy().astype(np.float64)
            highest = exponents.max(axis=0)
            block_sums = highest + np.log(np.exp(exponents - highest).sum(axis=0))
            with np.errstate(invalid="ignore"):  # the ranking refuses a NaN
                log_sums = np.logaddexp(log_sums, block_sums)
        return log_sums[: videos.stop - videos.start]

    with start_threads() as threads:
        return np.concatenate(list(threads.map(sum_columns, products.video_blocks)))


def find_best_videos(products: BlockProducts) -> np.ndarray:
    """For each text the index of the video with the highest score, of equal ones the first [texts]."""

    def find_best_columns(texts: slice) -> torch.Tensor:
        best_scores, best_videos = torch.tensor(-math.inf), torch.tensor(0)
        for videos in products.video_blocks:
            scores, columns = products.multiply(texts, videos)[:, : videos.stop - videos.start].max(dim=1)
            is_better = scores > best_scores
            best_scores = torch.where(is_better, scores, best_scores)
            best_videos = torch.where(is_better, videos.start + columns, best_videos)
        return best_videos

    with start_threads() as threads:
        return torch.cat(list(threads.map(find_best_columns, products.text_blocks))).numpy()


def summarize_query_bank(ranks: QueryBankRanks) -> dict[str, float]:
    """
    The numbers of text to video.

    Returns:
        The keys of `summarize_ranks` after `t2v_`; `t2v_num_tied_queries`, how many captions have a wrong
        video with exactly the true one's score; and `num_rescored_queries`.
    """
    return summarize_ranks(ranks.t2v, "t2v_") | {
        "t2v_num_tied_queries": int(np.count_nonzero(ranks.t2v_ties)),
        "num_rescored_queries": int(np.count_nonzero(ranks.is_rescored)),
    }


def check_temperature(name: str, value: float, published: float) -> None:
    """
    Raises:
        ValueError: not a finite number above 0.
    """
    if not 0 < value < math.inf:
        raise ValueError(
            f"`{name}` is {value}; it must be finite and above 0: pass {published}, as published"
        )


__all__ = [
    "QueryBankRanks",
    "rank_with_dual_softmax",
    "rank_with_query_bank",
    "summarize_query_bank",
]
