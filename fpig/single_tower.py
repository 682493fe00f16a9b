"""
Real queries in the place of the pseudo-query: what F-Pig's interaction finds as a single-tower model does.

Every query then looks at every video, which is what the pseudo-query spares, or at the best ones alone, which
is two-stage search. Shapes: Q queries, V videos, S = G + T summary tokens, D joint space.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import normalize, pad
from tqdm.auto import tqdm
from transformers import PreTrainedModel
from video_retrieval.embedding_ranking import rank_embeddings
from video_retrieval.ranking import RetrievalRanks, check_block, check_indices, rank_blocks

BLOCK_SIZE = 128  # queries, and videos, whose pairs are scored at once: 32 MiB of features at D = 512
PAIRS_PER_BLOCK = 1024  # with keys and values of their own: 64 MiB at S = 16 and D = 512


@dataclass(frozen=True)
class ProjectedVideos:
    """What the interaction keeps of videos: keys and values [V, S, D], on the CPU."""

    keys: torch.Tensor
    values: torch.Tensor


def check_interaction(model: PreTrainedModel) -> None:
    """
    Raises:
        ValueError: the model has no interaction.
    """
    settings = model.config.to_dict()  # of a model saved by an older version, too
    if settings["video_pooling"] != "pseudo_query" or not settings.get("use_interaction"):
        raise ValueError(
            f"`video_pooling` is {settings['video_pooling']!r} and `use_interaction` is "
            f"{settings.get('use_interaction')}; real queries need a model with an interaction, saved by "
            "this version: 'pseudo_query' and True"
        )


@torch.inference_mode()
def project_videos(model: PreTrainedModel, summary_tokens: torch.Tensor) -> ProjectedVideos:
    """
    Keys and values of videos, computed once for all queries.

    Args:
        model: an `FPigModel` with an interaction, on any device, in evaluation mode.
        summary_tokens: of the videos [V, S, D], not normalised.

    Raises:
        ValueError: the model has no interaction.
    """
    check_interaction(model)
    projected = [
        [part.cpu() for part in model.interaction.project_tokens(tokens.to(model.device, model.dtype))]
        for tokens in summary_tokens.split(PAIRS_PER_BLOCK)
    ]
    keys, values = zip(*projected, strict=True)
    return ProjectedVideos(torch.cat(keys), torch.cat(values))


@torch.inference_mode()
def score_pairs(
    model: PreTrainedModel, text_features: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    """
    Cosines of queries with videos as seen by these queries.

    Args:
        model: an `FPigModel` with an interaction, on any device, in evaluation mode.
        text_features: [V, q, D], each video's own q queries, or [1, q, D], the same for all; not normalised.
        keys: of the videos [V, S, D].
        values: of the videos [V, S, D].

    Returns:
        [V, q], float32 on the CPU.
    """
    queries, keys, values = (part.to(model.device, model.dtype) for part in (text_features, keys, values))
    features = model.interaction.attend(queries, keys, values)  # [V, q, D]
    return (normalize(features.float(), dim=-1) * normalize(queries.float(), dim=-1)).sum(dim=-1).cpu()


def rank_with_queries(
    model: PreTrainedModel,
    text_features: torch.Tensor,
    videos: ProjectedVideos,
    caption_video_indices: torch.Tensor,
) -> RetrievalRanks:
    """
    Ranks of the true pairs when every query looks at every video: Q·V interactions.

    Every block has the same shape, the last ones padded, so that equal videos get equal scores.

    Args:
        model: an `FPigModel` with an interaction, on any device, in evaluation mode.
        text_features: of the queries [Q, D], not normalised.
        videos: of `project_videos`.
        caption_video_indices: the index of each query's video [Q].

    Raises:
        ValueError: an index is out of range, or a NaN.
    """
    num_videos = len(videos.keys)
    indices = check_indices(np.asarray(caption_video_indices), len(text_features), num_videos)
    order = np.argsort(indices, kind="stable")
    queries = text_features[torch.from_numpy(order)]
    progress = tqdm(total=len(queries) * num_videos, desc="Scoring pairs", unit="pair")

    def get_block(captions: slice, columns: slice) -> np.ndarray:
        keys, values = (pad_block(part[columns]) for part in (videos.keys, videos.values))
        scores = score_pairs(model, pad_block(queries[captions])[None], keys, values)
        scores = scores[: columns.stop - columns.start, : captions.stop - captions.start]
        progress.update(min(scores.numel(), progress.total - progress.n))  # some blocks are asked for twice
        return scores.T.numpy()

    # One thread: in it torch uses as many as ever, or the GPU.
    with progress, ThreadPoolExecutor(1) as thread:
        return rank_blocks(get_block, indices, order, num_videos, BLOCK_SIZE, BLOCK_SIZE, thread)


def pad_block(array: torch.Tensor) -> torch.Tensor:
    """`array` with zeros below, up to `BLOCK_SIZE` rows."""
    return pad(array, (0, 0) * (array.ndim - 1) + (0, BLOCK_SIZE - len(array)))


def rank_in_two_stages(
    model: PreTrainedModel,
    text_features: torch.Tensor,
    video_embeds: torch.Tensor,
    videos: ProjectedVideos,
    caption_video_indices: torch.Tensor,
    num_reranked: int,
) -> np.ndarray:
    """
    Text → video ranks of a search that ranks the gallery by `video_embeds` and re-ranks the top of it.

    Ties count against the model in both stages: a true video that shares the last place of the top with
    another is taken not to be in it.

    Args:
        model: an `FPigModel` with an interaction, on any device, in evaluation mode.
        text_features: of the queries [Q, D], not normalised.
        video_embeds: unit vectors [V, D].
        videos: of `project_videos`.
        caption_video_indices: the index of each query's video [Q].
        num_reranked: videos k that the second stage looks at, from 1; of fewer videos, all.

    Returns:
        The rank of each query's video [Q], from 1.

    Raises:
        ValueError: `num_reranked` is below 1, or a NaN.
    """
    if num_reranked < 1:
        raise ValueError(f"`num_reranked` is {num_reranked}; re-rank at least 1 video")
    num_reranked = min(num_reranked, len(video_embeds))
    text_embeds = normalize(text_features, dim=-1)
    ranks = rank_embeddings(text_embeds, video_embeds, caption_video_indices).t2v.copy()
    # Where the first stage misses the true video, the second changes nothing.
    reached = torch.from_numpy(np.flatnonzero(ranks <= num_reranked))
    blocks = reached.split(max(1, PAIRS_PER_BLOCK // num_reranked)) if len(reached) else ()
    for queries in tqdm(blocks, desc="Re-ranking", unit="block"):
        true_videos = caption_video_indices[queries, None]  # [q, 1]
        scores = text_embeds[queries] @ video_embeds.T
        scores.scatter_(1, true_videos, float("inf"))  # another rounding must not push it out of the top
        best_videos = scores.topk(num_reranked).indices  # [q, k]
        pair_queries = text_features[queries].repeat_interleave(num_reranked, dim=0)[:, None]
        chosen = best_videos.flatten()
        pair_scores = score_pairs(model, pair_queries, videos.keys[chosen], videos.values[chosen])
        pair_scores = pair_scores.view(best_videos.shape)
        check_block(pair_scores.numpy())
        true_scores = pair_scores[best_videos == true_videos][:, None]
        ranks[queries.numpy()] = (pair_scores >= true_scores).sum(dim=1).numpy()  # it is among them itself
    return ranks


__all__ = [
    "ProjectedVideos",
    "check_interaction",
    "project_videos",
    "rank_in_two_stages",
    "rank_with_queries",
    "score_pairs",
]
