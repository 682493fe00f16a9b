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

from fpig.datasets import CaptionedVideo
from fpig.embedding import embed_captions, embed_videos, embed_videos_and_class_tokens

PROTOCOL = {
    "t2v": "every caption is a query; rank of its video among all videos",
    "v2t": "every video is a query; rank among videos by the highest score over a video's captions",
    "v2t_caption_pool": "every video is a query; rank of its best caption among the captions of other videos",
    "ties": "a wrong answer with the true one's score counts as better",
    "re-scoring": "none",
}


@dataclass(frozen=True)
class RetrievalResults:
    """
    What an evaluation measured and what it measured it from.

    Attributes:
        metrics: `t2v_R@1` and so on, percent; see `summarize_retrieval`.
        class_token_metrics: the same for the video tower's class token, or `None` if not asked for.
        ranks: of every query.
        text_embeds: [Q, D].
        video_embeds: [V, D].
        captions: Q texts, video by video.
        caption_video_indices: the index of each caption's video [Q].
    """

    metrics: dict[str, float]
    class_token_metrics: dict[str, float] | None
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
    with_class_token: bool = False,
) -> RetrievalResults:
    """
    Encodes all videos and captions once and ranks them by cosine, in both directions.

    Args:
        model: an `FPigModel`, on any device and in any dtype.
        processor: the model's.
        records: the videos and their captions; a video without captions is a distractor.
        batch_size: videos encoded together.
        num_workers: processes that decode beside this one.
        with_class_token: also measure the class token's embedding of the same model.

    Raises:
        ValueError: no captions, an unreadable video, or a NaN among the embeddings.
    """
    captions = [caption for record in records for caption in record.captions]
    if not captions:
        raise ValueError(f"`records` has {len(records)} videos and no caption; there is nothing to look for")
    num_captions = torch.tensor([len(record.captions) for record in records])
    caption_video_indices = torch.repeat_interleave(num_captions)
    text_embeds = embed_captions(model, processor, captions)
    videos = [record.video for record in records]
    class_token_metrics = None
    if with_class_token:
        video_embeds, class_token_embeds = embed_videos_and_class_tokens(
            model, processor, videos, batch_size, num_workers
        )
        class_token_ranks = rank_embeddings(text_embeds, class_token_embeds, caption_video_indices)
        class_token_metrics = summarize_retrieval(class_token_ranks)
    else:
        video_embeds = embed_videos(model, processor, videos, batch_size, num_workers)
    ranks = rank_embeddings(text_embeds, video_embeds, caption_video_indices)
    return RetrievalResults(
        metrics=summarize_retrieval(ranks),
        class_token_metrics=class_token_metrics,
        ranks=ranks,
        text_embeds=text_embeds,
        video_embeds=video_embeds,
        captions=captions,
        caption_video_indices=caption_video_indices,
    )


def cut_local_path(source: str) -> str:
    """A path on this machine as the public may see it, its last part; a name of the Hub as it is."""
    return Path(source).resolve().name if Path(source).exists() else source


def describe_results(results: RetrievalResults, dataset: str, split: str | None) -> dict[str, Any]:
    """
    The results as plain values for `results.json` and the model card: what was measured, on what, how, with
    which versions and when. A path on this machine is cut to its last part, as the card is public.
    """
    return {
        "dataset": cut_local_path(dataset),
        "split": split,
        "num_captions": len(results.captions),
        "num_videos": len(results.video_embeds),
        "metrics": results.metrics,
        "class_token_metrics": results.class_token_metrics,
        "protocol": PROTOCOL,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("fpig", "torch", "transformers", "av", "numpy")},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


__all__ = ["RetrievalResults", "cut_local_path", "describe_results", "evaluate_retrieval"]
