"""Captioned videos: one record type, the door that loads them from anywhere, the training dataset."""

import hashlib
import os
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import ProcessorMixin

from fpig.annotation_tables import read_rows
from fpig.sampler import seed_generator
from fpig.shapes import make_shapes


@dataclass(frozen=True)
class CaptionedVideo:
    """One video and all its captions; `video` is a path, or the content where there is no file."""

    video_id: str
    video: str | bytes
    captions: tuple[str, ...]


def load_captioned_videos(source: str | os.PathLike, split: str | None = None) -> list[CaptionedVideo]:
    """Load captioned videos.

    `source` is one of

    - ``"shapes"``: the generated benchmark, made on first use; splits "train", "validation" and "test";
    - a csv, jsonl or parquet file with columns `video` (a path, relative to the file) and `caption`, and
      optionally `split`. Several rows of one video become one record; in jsonl and parquet a caption may be a
      list of captions;
    - a folder with videos and such a file named metadata.csv, metadata.jsonl or metadata.parquet, in which
      the column `video` may also be called `file_name`;
    - a `datasets` repository, or a folder saved by `datasets`, whose column `video` is a `Video` or a path.
      The content of videos embedded in it stays in memory.

    Args:
        source: See above.
        split: Keep only this split; all of them by default.

    Returns:
        One record per video, in the order of first appearance. `video_id` is the path as the annotations
        write it; videos embedded in the data set without one are named by their content.

    Raises:
        FileNotFoundError: no such source, or videos that are not there (the message counts and names them).
        ValueError: no rows, no such split, a column is missing, an empty caption, or the same video in two
            splits.
    """
    if str(source) == "shapes":
        source = make_shapes()
    records = _group_by_video(source, split)
    missing = [
        record.video
        for record in records
        if isinstance(record.video, str) and not os.path.isfile(record.video)
    ]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(records)} videos of '{source}' are missing: {', '.join(missing[:3])}"
            f"{', …' if len(missing) > 3 else ''}; put them there or take them out of the annotations"
        )
    return records


def _group_by_video(source: str | os.PathLike, split: str | None) -> list[CaptionedVideo]:
    """Gather the rows of the wanted split by video; the other splits are read too, to see that none leaks."""
    records: dict[str, CaptionedVideo] = {}
    splits_by_video: dict[str, str | None] = {}
    used_ids: set[str] = set()
    for row in read_rows(source):
        key = _identify(row.video)
        if splits_by_video.setdefault(key, row.split) != row.split:
            raise ValueError(
                f"{row.place} has video '{row.name or key[:12]}' in `split` '{row.split}' but it is also in "
                f"`split` '{splits_by_video[key]}'; a video must be in one only: take it out of the other"
            )
        if split not in (None, row.split):
            continue
        if key in records:
            records[key] = replace(records[key], captions=records[key].captions + row.captions)
        else:
            video_id = row.name if row.name and row.name not in used_ids else f"{row.name}#{key[:12]}"
            used_ids.add(video_id)
            records[key] = CaptionedVideo(video_id, row.video, row.captions)
    if not splits_by_video:
        raise ValueError(f"`source` is '{source}' but has no rows; add rows with `video` and `caption`")
    if not records:
        found = sorted({str(name) for name in splits_by_video.values() if name is not None})
        names = f"only {', '.join(found)}" if found else "no column `split`"
        raise ValueError(f"`split` is '{split}' but '{source}' has {names}; choose another or leave it out")
    return list(records.values())


def _identify(video: str | bytes) -> str:
    """Name a video file by its resolved path, an embedded one by its content."""
    content = video if isinstance(video, bytes) else os.path.realpath(video).encode()
    return hashlib.sha256(content).hexdigest()


class VideoCaptionDataset(Dataset):
    """Training items, one per video: some of its frames and one of its captions.

    `dataset[index, epoch]` draws both from (`seed`, `epoch`, `index`) and nothing else, so worker
    processes, the number of processes and a restart do not change what a run sees. `EpochSampler` yields
    these pairs.

    Args:
        records: The videos.
        processor: Its video side decodes and resizes.
        num_frames: Frames per video.
        mode: How they are chosen: "train" with random start and end, "test" evenly over the whole clip.
        seed: Seed of the draws.

    Raises:
        ValueError: no records, or another mode.
    """

    def __init__(
        self,
        records: list[CaptionedVideo],
        processor: ProcessorMixin,
        num_frames: int,
        mode: str = "train",
        seed: int = 0,
    ) -> None:
        if not records:
            raise ValueError("`records` is empty but must hold at least one video; load another split")
        if mode not in ("train", "test"):
            raise ValueError(f"`mode` is '{mode}' but must be 'train' or 'test'")
        self.records = records
        self.processor = processor
        self.num_frames = num_frames
        self.mode = mode
        self.seed = seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index_and_epoch: tuple[int, int]) -> dict[str, Any]:
        """
        Return `pixel_values` [T, 3, S, S], `caption` and `video_id`.

        Raises:
            ValueError: the video can't be read; it names the video and the reason.
        """
        index, epoch = index_and_epoch
        record = self.records[index]
        generator = seed_generator(self.seed, epoch, index)
        caption_index = int(torch.randint(len(record.captions), (), generator=generator))
        try:
            pixel_values = self.processor.video_processor(
                [record.video],
                num_frames=self.num_frames,
                mode=self.mode,
                generator=generator,
                return_tensors="pt",
            )["pixel_values"][0]
        except (OSError, ValueError) as error:
            # One plain message, because that is all of an error that comes out of a worker process.
            raise ValueError(f"`{record.video_id}` of the dataset can't be used: {error}") from error
        return {
            "pixel_values": pixel_values,
            "caption": record.captions[caption_index],
            "video_id": record.video_id,
        }
