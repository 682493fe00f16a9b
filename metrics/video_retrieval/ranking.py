"""
Ranks of true pairs, block by block: the whole matrix of scores never has to exist.

Shapes: Q captions, V videos. A caption has one true video, a video any number of
captions; videos without captions are distractors.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

CAPTIONS_PER_BLOCK, VIDEOS_PER_BLOCK = 2048, 1024
# Rows that are compared at once: they stay in the processor's cache, a uint8 can count 255 of them, and ten
# times as many are a block.
ROWS_PER_COMPARISON = 205


@dataclass(frozen=True)
class RetrievalRanks:
    """
    Ranks, 1 is best, with every tie counted against the model, and the number of ties per query.

    Attributes:
        t2v: rank of each caption's video among all videos [Q], captions in the caller's order.
        t2v_ties: other videos with exactly the true video's score [Q].
        v2t: for each video with captions, in ascending order, its rank among the videos with captions, where
            a video's score for a query video is the highest over its captions.
        v2t_ties: other videos whose score is exactly the true one's.
        v2t_caption_pool: for each video with captions, the rank of its best caption among all captions that
            are not its own.
        v2t_caption_pool_ties: captions of other videos with exactly the best true caption's score.
    """

    t2v: np.ndarray
    t2v_ties: np.ndarray
    v2t: np.ndarray
    v2t_ties: np.ndarray
    v2t_caption_pool: np.ndarray
    v2t_caption_pool_ties: np.ndarray


def rank_scores(
    scores: np.ndarray,
    caption_video_indices: np.ndarray,
    captions_per_block: int = CAPTIONS_PER_BLOCK,
    videos_per_block: int = VIDEOS_PER_BLOCK,
) -> RetrievalRanks:
    """
    Ranks the true pairs of a matrix of scores.

    Args:
        scores: [Q, V], higher is more similar.
        caption_video_indices: the index of each caption's video [Q], captions in any order.
        captions_per_block: no influence on the ranks.
        videos_per_block: no influence on the ranks.

    Raises:
        ValueError: the matrix is not 2-d or is empty, lengths differ, an index is out of range, or a NaN.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(
            f"`scores` has the shape {scores.shape}; it must be [captions, videos] with at least one of "
            "each: pass one row of scores per caption"
        )
    indices = check_indices(caption_video_indices, *scores.shape)
    order = np.argsort(indices, kind="stable")

    def get_block(captions: slice, videos: slice) -> np.ndarray:
        return scores[order[captions], videos]

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return rank_blocks(
            get_block, indices, order, scores.shape[1], captions_per_block, videos_per_block, threads
        )


def rank_blocks(
    get_block: Callable[[slice, slice], np.ndarray],
    caption_video_indices: np.ndarray,
    order: np.ndarray,
    num_videos: int,
    captions_per_block: int,
    videos_per_block: int,
    threads: ThreadPoolExecutor,
) -> RetrievalRanks:
    """
    Ranks the true pairs with one block of scores per thread in memory.

    The blocks with true pairs are asked for first, then all of them once; a true score is read from a block
    and compared with the same block, never computed in another way.

    Args:
        get_block: (captions, videos) → scores; the captions are counted in `order`. Any thread calls it.
        caption_video_indices: the index of each caption's video [Q].
        order: sorts the captions by video [Q].
        num_videos: V.
        captions_per_block: rows of a block; the last one may be smaller.
        videos_per_block: columns of a block; the last one may be smaller.
        threads: each takes the blocks of some videos.

    Raises:
        ValueError: a score is NaN.
    """
    labels = caption_video_indices[order]
    caption_blocks = split_range(len(labels), captions_per_block)
    video_blocks = split_range(num_videos, videos_per_block)
    read = partial(read_true_scores, get_block, labels, video_blocks)
    true_scores = np.concatenate(list(threads.map(read, caption_blocks)))
    starts = np.flatnonzero(np.diff(labels, prepend=-1))
    queries = labels[starts]
    best_scores = np.full(num_videos, np.inf, true_scores.dtype)
    best_scores[queries] = np.maximum.reduceat(true_scores, starts)

    def count(videos: slice) -> RankCounts:
        counts = RankCounts(labels, true_scores, best_scores[videos])
        for captions in caption_blocks:
            counts.add(get_block(captions, videos), captions.start)
        return counts

    counts = RankCounts(labels, true_scores, best_scores)
    for videos, part in zip(video_blocks, threads.map(count, video_blocks), strict=True):
        counts.t2v += part.t2v
        counts.v2t[:, videos], counts.pool[:, videos] = part.v2t, part.pool
    num_best_captions = np.bincount(labels, true_scores == best_scores[labels], num_videos).astype(np.int64)
    t2v, t2v_above = np.empty_like(counts.t2v)
    t2v[order], t2v_above[order] = counts.t2v
    v2t, v2t_above = counts.v2t[:, queries]
    pool, pool_above = counts.pool[:, queries]
    pool = pool - num_best_captions[queries]
    return RetrievalRanks(t2v, t2v - t2v_above - 1, v2t, v2t - v2t_above - 1, pool + 1, pool - pool_above)


class RankCounts:
    """
    How often a score is at least the true one (row 0) and above it (row 1), for some videos and the captions
    seen so far.

    A true pair is at least itself, so row 0 is the rank already.
    """

    def __init__(self, labels: np.ndarray, true_scores: np.ndarray, best_scores: np.ndarray) -> None:
        self.labels, self.true_scores, self.best_scores = labels, true_scores, best_scores
        self.t2v = np.zeros((2, len(labels)), np.int64)
        self.v2t = np.zeros((2, len(best_scores)), np.int64)
        self.pool = np.zeros((2, len(best_scores)), np.int64)
        # Of the video whose captions the last block ended with: was one of them counted, in each column?
        self.open_hits = np.zeros((2, len(best_scores)), np.uint8)

    def add(self, scores: np.ndarray, first_caption: int) -> None:
        """
        Counts in the scores of some captions [captions, videos]; the captions must come in order.

        Raises:
            ValueError: a score is NaN.
        """
        for rows in split_range(len(scores), ROWS_PER_COMPARISON):
            block = scores[rows]
            check_block(block)
            self.add_block(block, slice(first_caption + rows.start, first_caption + rows.stop))

    def add_block(self, block: np.ndarray, captions: slice) -> None:
        """Counts in a block whose rows are few enough to be compared at once."""
        starts = np.flatnonzero(np.diff(self.labels[captions], prepend=-1))

        def count_captions_and_videos(hits: np.ndarray) -> np.ndarray:
            video_hits = merge_rows(hits, starts)
            return np.stack([count_columns(hits), count_columns(video_hits), video_hits[0], video_hits[-1]])

        self.t2v[:, captions] += compare_and_count(block, self.true_scores[captions, None], count_rows)
        counted = compare_and_count(block, self.best_scores, count_captions_and_videos)
        pool, v2t, first_hits, last_hits = counted.swapaxes(0, 1)
        self.pool += pool
        self.v2t += v2t
        if captions.start and self.labels[captions.start - 1] == self.labels[captions.start]:
            # The block begins amid a video: where it had a hit already and has one again, that is one.
            self.v2t -= first_hits & self.open_hits
            if len(starts) == 1:
                last_hits = last_hits | self.open_hits
        self.open_hits = last_hits


def read_true_scores(
    get_block: Callable[[slice, slice], np.ndarray],
    labels: np.ndarray,
    video_blocks: list[slice],
    captions: slice,
) -> np.ndarray:
    """The score of each of some captions with its video [captions], out of the blocks that hold one."""
    true_scores = []
    for videos in video_blocks:
        rows = np.flatnonzero((labels[captions] >= videos.start) & (labels[captions] < videos.stop))
        if len(rows):
            true_scores.append(get_block(captions, videos)[rows, labels[captions][rows] - videos.start])
    return np.concatenate(true_scores)


def summarize_ranks(ranks: np.ndarray, prefix: str = "") -> dict[str, float]:
    """
    Recall at 1, 5 and 10 in percent, their sum, median and mean rank; full precision.

    Args:
        ranks: 1 is best.
        prefix: put before each name, for example `"t2v_"`.

    Returns:
        `R@1`, `R@5`, `R@10`, `SumR`, `MdR` (the mean of the middle two for an even number) and `MnR`.
    """
    ranks = np.asarray(ranks)
    recalls = {f"R@{k}": 100.0 * int(np.count_nonzero(ranks <= k)) / len(ranks) for k in (1, 5, 10)}
    summary = recalls | {
        "SumR": sum(recalls.values()),
        "MdR": float(np.median(ranks)),
        "MnR": float(np.mean(ranks)),
    }
    return {f"{prefix}{name}": value for name, value in summary.items()}


def summarize_retrieval(ranks: RetrievalRanks) -> dict[str, float]:
    """
    The numbers of both directions.

    Returns:
        The keys of `summarize_ranks` after `t2v_`, `v2t_` and `v2t_caption_pool_`, and after each of these
        `num_tied_queries`: how many queries have a wrong answer with exactly the true one's score.
    """
    summary: dict[str, float] = {}
    for direction, values, ties in (
        ("t2v", ranks.t2v, ranks.t2v_ties),
        ("v2t", ranks.v2t, ranks.v2t_ties),
        ("v2t_caption_pool", ranks.v2t_caption_pool, ranks.v2t_caption_pool_ties),
    ):
        summary |= summarize_ranks(values, f"{direction}_")
        summary[f"{direction}_num_tied_queries"] = int(np.count_nonzero(ties))
    return summary


def check_indices(
    indices: np.ndarray, num_captions: int, num_videos: int, name: str = "caption_video_indices"
) -> np.ndarray:
    """
    The index of each caption's video as int64 [Q]; `name` is what the caller calls it.

    Raises:
        ValueError: not one whole number per caption, or one that is no video's.
    """
    indices = np.asarray(indices)
    if indices.shape != (num_captions,):
        raise ValueError(
            f"`{name}` has the shape {indices.shape} but there are {num_captions} captions; pass one video "
            "index per caption"
        )
    if not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(f"`{name}` is of type {indices.dtype}; pass whole numbers")
    wrong = np.flatnonzero((indices < 0) | (indices >= num_videos))
    if len(wrong):
        raise ValueError(
            f"`{name}[{wrong[0]}]` is {indices[wrong[0]]} but there are {num_videos} videos; indices go from "
            f"0 to {num_videos - 1}"
        )
    return indices.astype(np.int64)


def check_block(block: np.ndarray) -> None:
    """
    Raises:
        ValueError: a score is NaN, which has no rank.
    """
    if np.isnan(np.min(block)):
        raise ValueError(
            f"`scores` has {np.count_nonzero(np.isnan(block))} NaN in one block; a NaN has no rank: look for "
            "it in the embeddings that the scores come from"
        )


def compare_and_count(
    rows: np.ndarray, limits: np.ndarray, count: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """What `count` makes of where `rows` are at least `limits`, and of where they are above them [2, ...]."""
    counted = count(rows >= limits)
    # Ties are rare, and to look for one is less work than to count.
    return np.stack([counted, count(rows > limits) if np.any(rows == limits) else counted])


def count_columns(hits: np.ndarray) -> np.ndarray:
    """How many rows are true in each column; at most 255 rows."""
    return np.add.reduce(hits.view(np.uint8), axis=0, dtype=np.uint8)


def count_rows(hits: np.ndarray) -> np.ndarray:
    """How many columns are true in each row."""
    return np.add.reduce(np.bitwise_count(pack_words(hits)), axis=1, dtype=np.int64)


def merge_rows(hits: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Whether any row of a group is true, 1 or 0, per column; groups begin at `starts`."""
    merged = np.bitwise_or.reduceat(pack_words(hits), starts, axis=0)
    return np.unpackbits(merged.view(np.uint8), axis=1, count=hits.shape[1])


def pack_words(hits: np.ndarray) -> np.ndarray:
    """64 columns in a number: eight at a time take five times as long to merge."""
    packed = np.packbits(hits, axis=1)
    if num_missing := -packed.shape[1] % 8:
        packed = np.pad(packed, ((0, 0), (0, num_missing)))
    return np.ascontiguousarray(packed).view(np.uint64)  # scores may have another order in memory


def split_range(length: int, size: int) -> list[slice]:
    """Slices of `size` that cover `range(length)`; the last may be smaller."""
    if size < 1:
        raise ValueError(f"`captions_per_block` or `videos_per_block` is {size}; a block needs at least 1")
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


__all__ = [
    "RetrievalRanks",
    "check_indices",
    "rank_blocks",
    "rank_scores",
    "summarize_ranks",
    "summarize_retrieval",
]
