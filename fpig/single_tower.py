"""
Real queries in the place of the pseudo-query: what F-Pig's interaction finds as a single-tower model does.

Every query then looks at every video, or at the best ones alone: the ceiling that the pseudo-query is
measured against, and two-stage search. Shapes: Q queries, V videos, S = G + T summary tokens, D joint space.
"""

import numpy as np
import torch
from torch.nn.functional import normalize
from tqdm.auto import tqdm
from transformers import PreTrainedModel
from video_retrieval.embedding_ranking import rank_embeddings, start_threads
from video_retrieval.ranking import RetrievalRanks, check_indices, rank_blocks

# Pairs of a query and a video in memory at once: 16,384 of them have 32 MiB of features at D = 512.
QUERIES_PER_BLOCK, VIDEOS_PER_BLOCK = 1024, 16


def check_interaction(model: PreTrainedModel) -> None:
    """
    Raises:
        ValueError: the model has no interaction.
    """
    config = model.config
    if config.video_pooling != "pseudo_query" or not config.use_interaction:
        raise ValueError(
            f"`video_pooling` is {config.video_pooling!r} and `use_interaction` is {config.use_interaction}; "
            "real queries need a model with an interaction: 'pseudo_query' and True"
        )


@torch.inference_mode()
def score_pairs(
    model: PreTrainedModel, text_features: torch.Tensor, summary_tokens: torch.Tensor
) -> torch.Tensor:
    """
    Cosines of queries with videos as seen by these queries.

    Args:
        model: an `FPigModel` with an interaction, on any device, in evaluation mode.
        text_features: [V, q, D], each video's own q queries, or [1, q, D], the same for all; not normalised.
        summary_tokens: of the videos [V, S, D], not normalised.

    Returns:
        [V, q], float32 on the CPU.
    """
    queries = text_features.to(model.device, model.dtype)
    tokens = summary_tokens.to(model.device, model.dtype)
    features = model.interaction(queries.expand(len(tokens), -1, -1), tokens)  # [V, q, D]
    return (normalize(features.float(), dim=-1) * normalize(queries.float(), dim=-1)).sum(dim=-1).cpu()


def rank_with_queries(
    model: PreTrainedModel,
    text_features: torch.Tensor,
    summary_tokens: torch.Tensor,
    caption_video_indices: torch.Tensor,
) -> RetrievalRanks:
    """
    Ranks of the true pairs when every query looks at every video: Q·V interactions.

    Args:
        model: an `FPigModel` with an interaction, on any device, in evaluation mode.
        text_features: of the queries [Q, D], not normalised.
        summary_tokens: of the videos [V, S, D], not normalised.
        caption_video_indices: the index of each query's video [Q].

    Raises:
        ValueError: the model has no interaction, or an index is out of range.
    """
    check_interaction(model)
    num_videos = len(summary_tokens)
    indices = check_indices(np.asarray(caption_video_indices), len(text_features), num_videos)
    order = np.argsort(indices, kind="stable")
    queries = text_features[torch.from_numpy(order)]
    progress = tqdm(total=len(queries) * num_videos, desc="Scoring pairs", unit="pair")

    def get_block(captions: slice, videos: slice) -> np.ndarray:
        scores = score_pairs(model, queries[None, captions], summary_tokens[videos])
        progress.update(scores.numel())
        return scores.T.numpy()

    with progress, start_threads() as threads:
        return rank_blocks(
            get_block, indices, order, num_videos, QUERIES_PER_BLOCK, VIDEOS_PER_BLOCK, threads
        )


def rank_in_two_stages(
    model: PreTrainedModel,
    text_features: torch.Tensor,
    video_embeds: torch.Tensor,
    summary_tokens: torch.Tensor,
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
        summary_tokens: of the videos [V, S, D], not normalised.
        caption_video_indices: the index of each query's video [Q].
        num_reranked: videos k that the second stage looks at, from 1; of fewer videos, all.

    Returns:
        The rank of each query's video [Q], from 1.

    Raises:
        ValueError: the model has no interaction, or `num_reranked` is below 1.
    """
    check_interaction(model)
    if num_reranked < 1:
        raise ValueError(f"`num_reranked` is {num_reranked}; re-rank at least 1 video")
    num_reranked = min(num_reranked, len(video_embeds))
    text_embeds = normalize(text_features, dim=-1)
    ranks = rank_embeddings(text_embeds, video_embeds, caption_video_indices).t2v.copy()
    # Where the first stage misses the true video, the second changes nothing.
    reached = torch.from_numpy(np.flatnonzero(ranks <= num_reranked))
    size = max(1, QUERIES_PER_BLOCK * VIDEOS_PER_BLOCK // num_reranked)
    for queries in tqdm(reached.split(size), desc="Re-ranking", unit="block"):
        true_videos = caption_video_indices[queries, None]  # [q, 1]
        scores = text_embeds[queries] @ video_embeds.T
        scores.scatter_(1, true_videos, float("inf"))  # another rounding must not push it out of the top
        best_videos = scores.topk(num_reranked).indices  # [q, k]
        pair_queries = text_features[queries].repeat_interleave(num_reranked, dim=0)[:, None]
        pair_scores = score_pairs(model, pair_queries, summary_tokens[best_videos.flatten()])
        pair_scores = pair_scores.view(best_videos.shape)
        true_scores = pair_scores[best_videos == true_videos][:, None]
        ranks[queries.numpy()] = (pair_scores >= true_scores).sum(dim=1).numpy()  # it is among them itself
    return ranks


__all__ = ["check_interaction", "rank_in_two_stages", "rank_with_queries", "score_pairs"]
