"""What can be measured beside the headline numbers of a retrieval evaluation, each under a key of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, ProcessorMixin
from video_retrieval.embedding_ranking import rank_embeddings
from video_retrieval.ranking import summarize_ranks, summarize_retrieval
from video_retrieval.rescoring import rank_with_dual_softmax, rank_with_query_bank, summarize_query_bank

from fpig.embedding import embed_video_batches, evaluation_mode, require_readable, to_unit_vectors
from fpig.single_tower import (
    ProjectedVideos,
    check_interaction,
    project_videos,
    rank_in_two_stages,
    rank_with_queries,
)

DUAL_SOFTMAX_TEMPERATURE, QUERY_BANK_BETA = 100.0, 20.0


@dataclass(frozen=True)
class ExtraMeasurements:
    """
    What is measured beside the headline numbers, each under a key of its own.

    Attributes:
        class_token: the video tower's class token, from the same pass.
        query_interaction: every query in the place of the pseudo-query, as a single tower has it.
        num_reranked: two-stage search: F-Pig ranks, real queries re-rank so many videos; `None` for no such.
        dual_softmax: re-scoring that sees all test queries at once.
        query_bank: other captions than the test's, whose scores normalise the gallery's; empty for none.
        query_bank_name: where they come from, for the record.
    """

    class_token: bool = False
    query_interaction: bool = False
    num_reranked: int | None = None
    dual_softmax: bool = False
    query_bank: Sequence[str] = ()
    query_bank_name: str | None = None

    def check(self, model: PreTrainedModel) -> None:
        """
        Raises:
            ValueError: the model has no class token, or no interaction, and its numbers are asked for; or
                `num_reranked` is below 1.
        """
        if self.class_token and model.config.video_pooling == "mean":
            raise ValueError(
                "`video_pooling` is 'mean', and such a model has no class token; ask for it from a model "
                "with 'pseudo_query' or 'class_token'"
            )
        if self.query_interaction or self.num_reranked is not None:
            check_interaction(model)
        if self.num_reranked is not None and self.num_reranked < 1:
            raise ValueError(f"`num_reranked` is {self.num_reranked}; re-rank at least 1 video")


@dataclass(frozen=True)
class Gallery:
    """
    What is measured of the videos; what nobody asked for is `None`.

    Attributes:
        embeds: unit vectors [V, D].
        class_token_embeds: unit vectors of the class token [V, D].
        videos: what real queries look at.
    """

    embeds: torch.Tensor
    class_token_embeds: torch.Tensor | None
    videos: ProjectedVideos | None


def embed_gallery(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    videos: Sequence[Any],
    batch_size: int,
    num_workers: int,
    extras: ExtraMeasurements,
) -> Gallery:
    """
    Encodes all videos once.

    Raises:
        ValueError: an unreadable video.
    """
    has_queries = extras.query_interaction or extras.num_reranked is not None
    embeds, class_token_embeds, summary_tokens = [], [], []
    for batch in map(
        require_readable, embed_video_batches(model, processor, videos, batch_size, num_workers)
    ):
        embeds.append(batch.embeds)
        if extras.class_token:
            class_token_embeds.append(batch.class_token_embeds)
        if has_queries:
            summary_tokens.append(batch.summary_tokens)
    with evaluation_mode(model):
        projected = project_videos(model, torch.cat(summary_tokens)) if has_queries else None
    return Gallery(
        torch.cat(embeds), torch.cat(class_token_embeds) if extras.class_token else None, projected
    )


def measure_extras(
    model: PreTrainedModel,
    extras: ExtraMeasurements,
    text_features: torch.Tensor,
    gallery: Gallery,
    caption_video_indices: torch.Tensor,
    bank_embeds: torch.Tensor | None,
) -> dict[str, dict[str, Any]]:
    """The metrics of everything that `extras` asks for, with the settings they depend on, by key."""
    pairs = (to_unit_vectors(text_features), gallery.embeds, caption_video_indices)
    measured: dict[str, dict[str, Any]] = {}
    if extras.class_token:
        ranks = rank_embeddings(pairs[0], gallery.class_token_embeds, caption_video_indices)
        measured["class_token_metrics"] = summarize_retrieval(ranks)
    with evaluation_mode(model):
        if extras.query_interaction:
            ranks = rank_with_queries(model, text_features, gallery.videos, caption_video_indices)
            measured["query_interaction_metrics"] = summarize_retrieval(ranks)
        if extras.num_reranked is not None:
            settings = {"num_reranked": extras.num_reranked}
            ranks = rank_in_two_stages(
                *(model, text_features, gallery.embeds, gallery.videos, caption_video_indices), **settings
            )
            measured["two_stage_metrics"] = summarize_ranks(ranks, "t2v_") | settings
    if extras.dual_softmax:
        settings = {"temperature": DUAL_SOFTMAX_TEMPERATURE}
        ranks = rank_with_dual_softmax(*pairs, **settings)
        measured["dual_softmax_metrics"] = summarize_retrieval(ranks) | settings
    if bank_embeds is not None:
        settings = {"beta": QUERY_BANK_BETA}
        ranks = rank_with_query_bank(*pairs, bank_embeds, **settings)
        settings |= {"bank": extras.query_bank_name, "bank_size": len(bank_embeds)}
        measured["query_bank_metrics"] = summarize_query_bank(ranks) | settings
    return measured


__all__ = ["ExtraMeasurements", "embed_gallery", "measure_extras"]
