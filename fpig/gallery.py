"""The videos of a demo: those of the host, and those that a visitor brings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import PreTrainedModel, ProcessorMixin

from fpig.embedding import embed_captions
from fpig.index import IndexedVideo, VideoIndex, index_videos
from fpig.search import check_query, rank_embeds

# Far more than a model reads, and little enough to be tokenized at once.
MAX_QUERY_LENGTH = 500


@dataclass(frozen=True)
class Hit:
    """
    A video that was found.

    Attributes:
        video: with all that explains it.
        number: its place in the host's index; `None` if the visitor brought it.
        score: cosine of its embedding and the query's.
        seconds: when its frame that matches best is shown.
    """

    video: IndexedVideo
    number: int | None
    score: float
    seconds: float


@dataclass(frozen=True)
class Search:
    """A sentence, its embedding [D], and what was found, best first."""

    query: str
    query_embed: torch.Tensor
    hits: list[Hit]


@dataclass
class Gallery:
    """
    Videos to search in, and captions to explain them by.

    Attributes:
        model: an `FPigModel` in evaluation mode.
        processor: the model's.
        index: made with this model.
        captions: candidates for the captions nearest to a pseudo-query; may be empty.
        caption_embeds: unit vectors of the captions [C, D], made here and not at a visitor's first question;
            `None` without captions or pseudo-queries.
    """

    model: PreTrainedModel
    processor: ProcessorMixin
    index: VideoIndex
    captions: Sequence[str]
    caption_embeds: torch.Tensor | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.captions and self.model.config.video_pooling == "pseudo_query":
            self.caption_embeds = embed_captions(self.model, self.processor, self.captions)

    def search(self, query: str, brought: Sequence[VideoIndex], top_k: int) -> Search:
        """
        The best `top_k` of the host's videos and of those that a visitor brought.

        Raises:
            ValueError: an empty query, or one far beyond what the model reads.
        """
        check_query(query)
        if len(query) > MAX_QUERY_LENGTH:
            raise ValueError(f"`query` has {len(query)} characters; at most {MAX_QUERY_LENGTH} are allowed")
        query_embed = embed_captions(self.model, self.processor, [query])[0]
        # Rows of all indexes, in one order: which index, and where in it.
        indexes = [self.index, *brought]
        places = [(index, number) for index in indexes for number in range(len(index))]
        ranking = rank_embeds(torch.cat([index.embeds for index in indexes]), query_embed)
        hits = []
        for row, score in ranking[:top_k]:
            index, number = places[row]
            video = index[number]
            seconds = video.frame_seconds[video.match_frame(query_embed)]
            hits.append(Hit(video, number if index is self.index else None, score, seconds))
        return Search(query, query_embed, hits)

    def take_in(self, path: Path) -> VideoIndex:
        """
        Embeds a visitor's video.

        Raises:
            ValueError: it can't be read; the message names the file without its folder.
        """
        try:
            return index_videos(self.model, self.processor, [path])
        except ValueError as error:
            raise ValueError(str(error.__cause__ or error).replace(str(path), path.name)) from error

    def find_nearest_captions(self, video: IndexedVideo, top_k: int) -> list[tuple[str, float]]:
        """The captions nearest to a video's pseudo-query, with their cosines; both must be there."""
        ranking = rank_embeds(self.caption_embeds, video.pseudo_query_embed)
        return [(self.captions[row], score) for row, score in ranking[:top_k]]


__all__ = ["Gallery", "Hit", "Search"]
