"""
Ranks of true pairs out of embeddings, for evaluations whose matrix of scores would not fit into memory.

Shapes: Q captions, V videos, D numbers in an embedding.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch

from .ranking import (
    CAPTIONS_PER_BLOCK,
    VIDEOS_PER_BLOCK,
    RetrievalRanks,
    check_indices,
    rank_blocks,
    split_range,
)

# Block sizes are multiples of it, so that a matrix library treats all of a block alike.
ALIGNMENT = 64


def rank_embeddings(
    text_embeds: torch.Tensor | np.ndarray,
    video_embeds: torch.Tensor | np.ndarray,
    caption_video_indices: torch.Tensor | np.ndarray,
    captions_per_block: int = CAPTIONS_PER_BLOCK,
    videos_per_block: int = VIDEOS_PER_BLOCK,
) -> RetrievalRanks:
    """
    Ranks the true pairs by the dot products of embeddings; memory for one block of scores per thread is
    enough, and as many threads as torch's share the work.

    Args:
        text_embeds: [Q, D].
        video_embeds: [V, D].
        caption_video_indices: the index of each caption's video [Q], captions in any order.
        captions_per_block: rows of a block, rounded up to a multiple of 64.
        videos_per_block: columns of a block, rounded up to a multiple of 64.

    Raises:
        ValueError: the widths differ, something is empty, an index is out of range, or a NaN.
    """
    texts, videos = check_embeds(text_embeds, video_embeds)
    texts, indices, order = sort_by_video(texts, caption_video_indices, len(videos))
    products = BlockProducts(texts, videos, captions_per_block, videos_per_block)
    return products.rank(indices, order)


class BlockProducts:
    """
    The dot products of texts and videos, block by block.

    Equal videos must get equal scores, or rounding would decide between them. So every block is a product of
    the same shape, the last ones padded with zeros, and torch computes it: numpy's OpenBLAS was seen to round
    equal columns of one product differently.
    """

    def __init__(
        self, texts: torch.Tensor, videos: torch.Tensor, texts_per_block: int, videos_per_block: int
    ) -> None:
        self.texts, self.videos = texts, videos
        self.num_rows = round_up(min(texts_per_block, len(texts)))
        self.num_columns = round_up(min(videos_per_block, len(videos)))
        self.text_blocks = split_range(len(texts), self.num_rows)
        self.video_blocks = split_range(len(videos), self.num_columns)

    def multiply(self, texts: slice, videos: slice) -> torch.Tensor:
        """The scores of one of the blocks [texts, `num_columns`]; those beyond the last video are padding."""
        rows = pad_rows(self.texts[texts], self.num_rows)
        columns = pad_rows(self.videos[videos], self.num_columns)
        return torch.mm(rows, columns.T)[: texts.stop - texts.start]

    def rank(
        self,
        indices: np.ndarray,
        order: np.ndarray,
        rescore: Callable[[np.ndarray, slice, slice], np.ndarray] | None = None,
    ) -> RetrievalRanks:
        """
        Ranks the true pairs by their products.

        Args:
            indices: the index of each caption's video [Q], captions in the caller's order.
            order: sorts the captions by video, as the texts are sorted [Q].
            rescore: (products, texts, videos) → the scores to rank by instead.
        """

        def get_block(texts: slice, videos: slice) -> np.ndarray:
            block = self.multiply(texts, videos)[:, : videos.stop - videos.start].numpy()
            return block if rescore is None else rescore(block, texts, videos)

        with start_threads() as threads:
            return rank_blocks(
                get_block, indices, order, len(self.videos), self.num_rows, self.num_columns, threads
            )


@contextmanager
def start_threads() -> Iterator[ThreadPoolExecutor]:
    """
    As many threads as torch uses, to multiply a block each.

    In each of them torch uses one, and in the caller's as many as before. So what is done with a block runs
    in parallel too, and a product rounds the same with any number of threads.
    """
    num_threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,)) as threads:
            yield threads
    finally:
        torch.set_num_threads(num_threads)  # threads that start later would have one too


def check_embeds(
    text_embeds: torch.Tensor | np.ndarray,
    video_embeds: torch.Tensor | np.ndarray,
    name: str = "text_embeds",
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Both as tensors of the same type, float32 at least; `name` is what the caller calls the first.

    Raises:
        ValueError: the widths differ or something is empty.
    """
    texts, videos = torch.as_tensor(text_embeds).cpu(), torch.as_tensor(video_embeds).cpu()
    shapes = f"the shapes {tuple(texts.shape)} and {tuple(videos.shape)}"
    if texts.ndim != 2 or videos.ndim != 2 or texts.shape[1] != videos.shape[1]:
        raise ValueError(
            f"`{name}` and `video_embeds` have {shapes}; they must be [captions, width] and [videos, width]: "
            "take both from the same model"
        )
    if 0 in texts.shape or 0 in videos.shape:
        raise ValueError(
            f"`{name}` and `video_embeds` have {shapes}; there must be at least one caption and one video"
        )
    dtype = torch.promote_types(torch.promote_types(texts.dtype, videos.dtype), torch.float32)
    return texts.detach().to(dtype), videos.detach().to(dtype)


def sort_by_video(
    texts: torch.Tensor, caption_video_indices: torch.Tensor | np.ndarray, num_videos: int
) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """
    The texts [Q, D] in the order of their videos, not copied if they are; the index of each caption's video
    [Q], captions in the caller's order; and the order that sorts them [Q].

    Raises:
        ValueError: not one whole number per caption, or one that is no video's.
    """
    indices = check_indices(np.asarray(caption_video_indices), len(texts), num_videos)
    order = np.argsort(indices, kind="stable")
    is_sorted = np.all(indices[1:] >= indices[:-1])
    return texts if is_sorted else texts[torch.from_numpy(order)], indices, order


def round_up(number: int) -> int:
    """The next multiple of `ALIGNMENT`."""
    return -(-number // ALIGNMENT) * ALIGNMENT


def pad_rows(array: torch.Tensor, num_rows: int) -> torch.Tensor:
    """`array` with rows of zeros below, up to `num_rows`."""
    if len(array) == num_rows:
        return array
    return torch.cat([array, array.new_zeros(num_rows - len(array), array.shape[1])])


__all__ = ["BlockProducts", "check_embeds", "rank_embeddings", "sort_by_video", "start_threads"]
