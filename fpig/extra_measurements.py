"""What can be measured beside the headline numbers of a retrieval evaluation, each under a key of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, ProcessorMixin
from video_retrieval.embedding_ranking import rank_embeddings
from video_retrieval.ranking import summarize_ranks, summarize_retrieval
from video_retrieval.rescoring import rank_with_dual_softmax, rank_with_query_bank, summarize_query_bank

from fpig.embedding import (
    VideoBatch,
    check_batch,
    embed_video_batches,
    evaluation_mode,
    raise_unreadable,
    to_unit_vectors,
)
from fpig.sharing import choose_share, join_shares
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


# Parts of a gallery, and by their positions the videos that can't be read.
Share = tuple[list[tuple[torch.Tensor | None, ...]], dict[int, Exception]]


def embed_share(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    videos: Sequence[Any],
    batch_size: int,
    num_workers: int,
    extras: ExtraMeasurements,
) -> Share:
    """Encodes this process's share of the videos, or up to the first batch with one that can't be read."""
    check_batch("videos", videos, batch_size)
    share = choose_share(len(videos), batch_size)
    own_parts, own_errors = [], {}
    if share:
        own_videos = [videos[index] for index in share]
        for batch in embed_video_batches(model, processor, own_videos, batch_size, num_workers):
            if batch.errors:
                own_errors = {share[index]: error for index, error in batch.errors.items()}
                break
            own_parts.append(pick_measured(batch, extras))
    return own_parts, own_errors


def join_gallery(model: PreTrainedModel, shares: list[Share]) -> Gallery:
    """
    What all processes have encoded.

    Raises:
        ValueError: an unreadable video.
    """
    raise_unreadable({index: error for _, errors in shares for index, error in errors.items()})
    embeds, class_token_embeds, summary_tokens = (
        None if column[0] is None else torch.cat(column)
        for column in zip(*join_shares([parts for parts, _ in shares]), strict=True)
    )
    with evaluation_mode(model):
        projected = None if summary_tokens is None else project_videos(model, summary_tokens)
    return Gallery(embeds, class_token_embeds, projected)


def pick_measured(batch: VideoBatch, extras: ExtraMeasurements) -> tuple[torch.Tensor | None, ...]:
    """Of a batch the embeddings, class tokens and summary tokens, `None` for what nobody asked for."""
    has_queries = extras.query_interaction or extras.num_reranked is not None
    return (
        batch.embeds,
        batch.class_token_embeds if extras.class_token else None,
        batch.summary_tokens if has_queries else None,
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


__all__ = ["ExtraMeasurements", "embed_share", "join_gallery", "measure_extras"]
