"""
Ranks of true pairs out of embeddings, for evaluations whose matrix of scores would not fit into memory.

Shapes: Q captions, V videos, D numbers in an embedding.
"""

import numpy as np
import torch

from .ranking import RetrievalRanks, check_indices, rank_blocks

# Block sizes are multiples of it, so that a matrix library treats all of a block alike.
ALIGNMENT = 64


def rank_embeddings(
    text_embeds: torch.Tensor | np.ndarray,
    video_embeds: torch.Tensor | np.ndarray,
    caption_video_indices: torch.Tensor | np.ndarray,
    captions_per_block: int = 2048,
    videos_per_block: int = 1024,
) -> RetrievalRanks:
    """
    Ranks the true pairs by the dot products of embeddings; memory for one block of scores is enough.

    Equal videos must get equal scores, or rounding would decide between them. So every block is a product of
    the same shape, the last ones padded with zeros, and torch computes it: numpy's OpenBLAS was seen to round
    equal columns of one product differently.

    Args:
        text_embeds: [Q, D].
        video_embeds: [V, D].
        caption_video_indices: the index of each caption's video [Q], captions in any order.
        captions_per_block: rows of a block, rounded up to a multiple of 64.
        videos_per_block: columns of a block, rounded up to a multiple of 64.

    Raises:
        ValueError: the widths differ, something is empty, an index is out of range, or a NaN.
    """
    texts, videos = torch.as_tensor(text_embeds).cpu(), torch.as_tensor(video_embeds).cpu()
    if texts.ndim != 2 or videos.ndim != 2 or texts.shape[1] != videos.shape[1]:
        raise ValueError(
            f"`text_embeds` has the shape {tuple(texts.shape)} and `video_embeds` {tuple(videos.shape)}; "
            "they must be [captions, width] and [videos, width]: take both from the same model"
        )
    if 0 in texts.shape or 0 in videos.shape:
        raise ValueError(
            f"`text_embeds` has the shape {tuple(texts.shape)} and `video_embeds` {tuple(videos.shape)}; "
            "there must be at least one caption and one video"
        )
    dtype = torch.promote_types(torch.promote_types(texts.dtype, videos.dtype), torch.float32)
    texts, videos = texts.detach().to(dtype), videos.detach().to(dtype)
    indices = check_indices(np.asarray(caption_video_indices), len(texts), len(videos))
    order = np.argsort(indices, kind="stable")
    if np.any(indices[1:] < indices[:-1]):
        texts = texts[torch.from_numpy(order)]
    num_rows = round_up(min(captions_per_block, len(texts)))
    num_columns = round_up(min(videos_per_block, len(videos)))
    products = torch.empty(num_rows, num_columns, dtype=dtype)

    def get_block(captions: slice, columns: slice) -> np.ndarray:
        torch.mm(pad_rows(texts[captions], num_rows), pad_rows(videos[columns], num_columns).T, out=products)
        return products[: captions.stop - captions.start, : columns.stop - columns.start].numpy()

    return rank_blocks(get_block, indices, order, len(videos), num_rows, num_columns)


def round_up(number: int) -> int:
    """The next multiple of `ALIGNMENT`."""
    return -(-number // ALIGNMENT) * ALIGNMENT


def pad_rows(array: torch.Tensor, num_rows: int) -> torch.Tensor:
    """`array` with rows of zeros below, up to `num_rows`."""
    if len(array) == num_rows:
        return array
    return torch.cat([array, array.new_zeros(num_rows - len(array), array.shape[1])])


__all__ = ["rank_embeddings"]
