"""Searches a collection of shots for the topics of a year of TRECVID's ad-hoc video search."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, ProcessorMixin

from fpig.annotations.v3c import AVS_YEARS
from fpig.avs_files import read_year
from fpig.avs_ranking import rank_shots
from fpig.avs_scoring import Qrels, Run, list_missing, match_topics
from fpig.datasets import CaptionedSplit, CaptionedVideo, load_split
from fpig.embedding import embed_captions, embed_videos
from fpig.index import fingerprint_model

SHOTS_PER_PART = 8192


@dataclass(frozen=True)
class AvsTask:
    """
    A year's topics, judgements and shots.

    Attributes:
        topics: number → text.
        qrels: `None` where the file is not there.
        shots: the collection.
    """

    topics: dict[str, str]
    qrels: Qrels | None
    shots: CaptionedSplit


def load_task(
    year: str, root: str | os.PathLike | None, on_missing: str, missing_topics: str = "raise"
) -> AvsTask:
    """
    Reads a year's files, which lie in `root` or `root/annotations` beside those of the collection.

    Args:
        year: one of `AVS_YEARS`, "tv19" to "tv23".
        root: folder of the collection; `data/v3c1` or `data/v3c2` by default.
        on_missing: "raise" or "skip", see `load_split`.
        missing_topics: as for `score_run`, which would refuse the run only after hours of embedding.

    Raises:
        FileNotFoundError: no topics, no list of shots, or shots that are not there.
        ValueError: a file that can't be read, not the topics of that year, or judgements of others.
    """
    collection = AVS_YEARS[year].collection
    root = Path(root or Path("data") / collection).expanduser()
    topics, qrels = read_year(year, root)
    if qrels is not None:
        matched, _ = match_topics(dict.fromkeys(topics, ()), qrels)
        list_missing(matched, qrels, missing_topics)
    return AvsTask(topics, qrels, load_split(collection, "test", root, on_missing))


def search_shots(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    task: AvsTask,
    gallery_dir: Path,
    batch_size: int = 32,
    num_workers: int = 0,
) -> Run:
    """
    The best 1,000 shots of each topic.

    Args:
        model: an `FPigModel`.
        processor: the model's.
        task: see `load_task`.
        gallery_dir: keeps the shots' embeddings, for the next start and for other topics, under a name that
            changes with the model, the list of shots and their files.
        batch_size: shots encoded together.
        num_workers: processes that decode beside this one.

    Raises:
        ValueError: a shot that can't be read.
    """
    records = task.shots.records
    folder = gallery_dir / f"{fingerprint_model(model, processor)}-{fingerprint_videos(records)}"
    shot_embeds = embed_in_parts(model, processor, records, folder, batch_size, num_workers)
    topic_embeds = embed_captions(model, processor, list(task.topics.values()))
    return rank_shots(topic_embeds, shot_embeds, [record.video_id for record in records], list(task.topics))


def fingerprint_videos(records: Sequence[CaptionedVideo]) -> str:
    """Sixteen digits that another list, order or file changes, as far as its name, size and date tell."""
    digest = hashlib.sha256()
    for record in records:
        status = os.stat(record.video)
        line = (record.video_id, os.path.realpath(record.video), status.st_size, status.st_mtime_ns)
        digest.update(repr(line).encode())
    return digest.hexdigest()[:16]


def embed_in_parts(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    records: Sequence[CaptionedVideo],
    folder: Path,
    batch_size: int,
    num_workers: int,
) -> torch.Tensor:
    """Embeddings of videos [V, D]; parts that an earlier start has written to `folder` are read."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for start in range(0, len(records), SHOTS_PER_PART):
        videos = [record.video for record in records[start : start + SHOTS_PER_PART]]
        path = folder / f"{start:08d}.safetensors"
        embeds = read_part(path, len(videos))
        if embeds is None:
            embeds = embed_videos(model, processor, videos, batch_size, num_workers)
            partial = path.with_suffix(f".{os.getpid()}.partial")  # another process may embed the same shots
            save_file({"embeds": embeds.contiguous()}, partial)
            partial.replace(path)
        parts.append(embeds)
    return torch.cat(parts)


def read_part(path: Path, num_videos: int) -> torch.Tensor | None:
    """The embeddings in a file; `None` where it is not there, damaged, or of another number of videos."""
    try:
        embeds = load_file(path)["embeds"]
    except (FileNotFoundError, SafetensorError, KeyError):
        return None
    return embeds if len(embeds) == num_videos else None


__all__ = ["AvsTask", "load_task", "search_shots"]
