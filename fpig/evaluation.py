"""Text-to-video and video-to-text retrieval of captioned videos, each encoded once."""

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, ProcessorMixin
from video_retrieval.embedding_ranking import rank_embeddings
from video_retrieval.ranking import RetrievalRanks, summarize_retrieval

from fpig.avs_scoring import AvsResults
from fpig.avs_search import AvsTask
from fpig.datasets import CaptionedSplit, CaptionedVideo
from fpig.embedding import compute_caption_features, embed_captions, to_unit_vectors
from fpig.extra_measurements import ExtraMeasurements, Share, embed_share, join_gallery, measure_extras
from fpig.sharing import gather_in_first, run_in_first

PROTOCOL = {
    "t2v": "every caption is a query; rank of its video among all videos",
    "v2t": "every video is a query; rank among videos by the highest score over a video's captions",
    "v2t_caption_pool": "every video is a query; rank of its best caption among the captions of other videos",
    "ties": "a wrong answer with the true one's score counts as better",
    "re-scoring": "none",
}
AVS_PROTOCOL = {
    "search": "every topic is a query; the 1,000 shots with the highest cosine are its list",
    "metrics": "extended inferred average precision, as NIST's sample_eval.pl computes it",
    "ties": "equal scores are sorted by shot id, from Z to A, as NIST's program sorts them",
}


@dataclass(frozen=True)
class RetrievalResults:
    """
    What an evaluation measured and what it measured it from.

    Attributes:
        metrics: `t2v_R@1` and so on, percent; see `summarize_retrieval`.
        extra_metrics: the same under `class_token_metrics` and so on; what was not asked for is not in it.
        ranks: of every query.
        text_embeds: [Q, D].
        video_embeds: [V, D].
        captions: Q texts, video by video.
        caption_video_indices: the index of each caption's video [Q].
    """

    metrics: dict[str, float]
    extra_metrics: dict[str, dict[str, float]]
    ranks: RetrievalRanks
    text_embeds: torch.Tensor
    video_embeds: torch.Tensor
    captions: list[str]
    caption_video_indices: torch.Tensor


def evaluate_retrieval(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    records: list[CaptionedVideo],
    batch_size: int = 32,
    num_workers: int = 0,
    extras: ExtraMeasurements | None = None,
) -> RetrievalResults:
    """
    Encodes all videos and captions once and ranks them by cosine, in both directions.

    Where several processes run (`accelerate launch`) all must call it: each encodes a share of the videos,
    the first ranks, and all get its results, to the digit those of one process.

    Args:
        model: an `FPigModel`, on any device and in any dtype.
        processor: the model's.
        records: the videos and their captions; a video without captions is a distractor.
        batch_size: videos encoded together.
        num_workers: processes that decode beside this one.
        extras: what else to measure; nothing by default.

    Raises:
        ValueError: no captions, an unreadable video, a NaN among the embeddings, or an extra that the model
            has not.
    """
    extras = extras or ExtraMeasurements()
    extras.check(model)
    if not any(record.captions for record in records):
        raise ValueError(f"`records` has {len(records)} videos and no caption; there is nothing to look for")
    videos = [record.video for record in records]
    shares = gather_in_first(embed_share(model, processor, videos, batch_size, num_workers, extras))
    return run_in_first(lambda: measure_shares(model, processor, records, extras, shares))


def measure_shares(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    records: list[CaptionedVideo],
    extras: ExtraMeasurements,
    shares: list[Share],
) -> RetrievalResults:
    """
    What all processes have encoded of `records`, ranked.

    Raises:
        ValueError: an unreadable video, or a NaN among the embeddings.
    """
    gallery = join_gallery(model, shares)
    captions = [caption for record in records for caption in record.captions]
    num_captions = torch.tensor([len(record.captions) for record in records])
    caption_video_indices = torch.repeat_interleave(num_captions)
    text_features = compute_caption_features(model, processor, captions)
    text_embeds = to_unit_vectors(text_features)
    ranks = rank_embeddings(text_embeds, gallery.embeds, caption_video_indices)
    bank_embeds = embed_captions(model, processor, extras.query_bank) if extras.query_bank else None
    measured = measure_extras(model, extras, text_features, gallery, caption_video_indices, bank_embeds)
    return RetrievalResults(
        metrics=summarize_retrieval(ranks),
        extra_metrics=measured,
        ranks=ranks,
        text_embeds=text_embeds,
        video_embeds=gallery.embeds,
        captions=captions,
        caption_video_indices=caption_video_indices,
    )


def cut_local_path(source: str) -> str:
    """A path on this machine as the public may see it, its last part; a name of the Hub as it is."""
    return Path(source).resolve().name if Path(source).exists() else source


def describe_results(results: RetrievalResults, split: CaptionedSplit) -> dict[str, Any]:
    """
    The results as plain values for `results.json` and the model card: what was measured, on what, how, with
    which versions and when. A path on this machine is cut to its last part, as the card is public.
    """
    return {
        "dataset": cut_local_path(split.dataset),
        "split": split.split,
        "num_captions": len(results.captions),
        **describe_gallery(split),
        "metrics": results.metrics,
        **results.extra_metrics,
        "protocol": {"name": split.protocol} | PROTOCOL,
        **describe_moment(),
    }


def describe_search(
    results: AvsResults | None, year: str, task: AvsTask, missing_topics: str
) -> dict[str, Any]:
    """As `describe_results`, of ad-hoc video search; `results` is `None` where there are no judgements."""
    description = {
        "dataset": year,
        "collection": task.shots.dataset,
        "num_topics": len(task.topics),
        **describe_gallery(task.shots),
        "protocol": {"name": task.shots.protocol} | AVS_PROTOCOL | {"missing topics": missing_topics},
        **describe_moment(),
    }
    if results is not None:
        description |= {
            "metrics": results.overall,
            "topics": results.topics,
            "missing_topics": results.missing_topics,
            "ignored_topics": results.ignored_topics,
            "topic_shift": results.topic_shift,
        }
    return description


def describe_gallery(split: CaptionedSplit) -> dict[str, Any]:
    """Which videos are searched, so that two galleries can be told apart."""
    return {
        "num_videos": len(split.records),
        "num_published_videos": split.published_size,
        "skipped_videos": dict(split.skipped),
        "id_checksum": split.id_checksum,
        "caption_checksum": split.caption_checksum if any(r.captions for r in split.records) else None,
    }


def describe_moment() -> dict[str, Any]:
    """With which versions, and when."""
    names = ("fpig", "torch", "transformers", "av", "numpy")
    return {
        "versions": {"python": platform.python_version()} | {name: version(name) for name in names},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


__all__ = [
    "RetrievalResults",
    "cut_local_path",
    "describe_results",
    "describe_search",
    "evaluate_retrieval",
]
