"""
DiDeMo, 10,461 videos with one paragraph each: 8,392 / 1,065 / 1,004. A paragraph is all descriptions of a
video, in the order of the file, joined by spaces.

Annotations in ROOT or ROOT/annotations, the first form whose files are all there:

1. LisaAnne's `train_data.json`, `val_data.json` and `test_data.json`, a list of descriptions each, with
   `train_list.txt`, `val_list.txt` and `test_list.txt`, which say the videos that are kept, an id a line;
2. CLIP-ViP's `train.jsonl`, `val.jsonl` and `test.jsonl`, with a line `{"clip_id": …, "text": descriptions}`
   a video.

Ids are file names with their suffix, and one ends in a bare dot; nothing of them is cut off. Videos:
ROOT/videos/ID, or transcoded with another suffix after the first, as ROOT/videos/ID.mp4, in any subfolder
too; or a folder of pictures ROOT/frames/ID.

Cut the videos: the descriptions are of the first 30 seconds, and other projects take their frames from
seconds 0 to 31 alone. The files from Flickr may be longer; nothing here cuts them or warns of them, and
numbers measured on them can't be compared with published ones.
"""

import reprlib
from collections.abc import Iterator
from pathlib import Path

from fpig.annotations.files import find_file, read_json, report_missing
from fpig.annotations.msrvtt import read_clips
from fpig.annotations.msvd import LISTS
from fpig.annotations.published import AnnotatedVideo, PublishedDataset, PublishedSplit, read_listed

WHERE_FROM = (
    "github.com/LisaAnne/LocalizingMoments; its lists, a file name (`video` of the json) a line, come with "
    "other projects, such as misc/datasets/didemo of github.com/albanie/collaborative-experts"
)
# Split → the descriptions, the jsonl.
FILES = {
    "train": ("train_data.json", "train.jsonl"),
    "validation": ("val_data.json", "val.jsonl"),
    "test": ("test_data.json", "test.jsonl"),
}


def read_videos(root: Path, split: str) -> Iterator[AnnotatedVideo]:
    """The videos of a split, one paragraph each."""
    data_name, jsonl_name = FILES[split]
    data_path, list_path = find_file(root, data_name), find_file(root, LISTS[split])
    if data_path and list_path:
        return join_descriptions(read_listed(list_path, read_descriptions(data_path)))
    if jsonl_path := find_file(root, jsonl_name):
        return join_descriptions(read_clips(jsonl_path))
    raise report_missing(root, (f"{data_name} with {LISTS[split]}", jsonl_name), WHERE_FROM)


def read_descriptions(path: Path) -> dict[str, tuple[str, ...]]:
    """
    Id → descriptions in the order of the file.

    Raises:
        ValueError: another layout than `[{"video": …, "description": …}]`.
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise ValueError(f"`{path}` holds no list but must be a list of objects; get it from {WHERE_FROM}")
    descriptions: dict[str, list[str]] = {}
    for number, item in enumerate(content):
        is_plain = isinstance(item, dict) and isinstance(item.get("video"), str)
        if not is_plain or not isinstance(item.get("description"), str):
            raise ValueError(
                f"`item {number} of {path}` is {reprlib.repr(item)} but must have the texts `video` and "
                f"`description`; get the file from {WHERE_FROM}"
            )
        descriptions.setdefault(item["video"], []).append(item["description"])
    return {video_id: tuple(texts) for video_id, texts in descriptions.items()}


def join_descriptions(videos: Iterator[AnnotatedVideo]) -> Iterator[AnnotatedVideo]:
    """The same videos with one caption each; without descriptions they have none."""
    for video in videos:
        texts = video.captions
        is_whole = texts and all(isinstance(text, str) for text in texts)  # else it is refused as it is
        yield video._replace(captions=(" ".join(texts),)) if is_whole else video


def _with_paragraph(num_videos: int) -> PublishedSplit:
    return PublishedSplit(num_videos, 1, 1, "paragraph")


DIDEMO = PublishedDataset(
    name="didemo",
    splits={
        "train": _with_paragraph(8392),
        "validation": _with_paragraph(1065),
        "test": _with_paragraph(1004),
    },
    where_from=WHERE_FROM,
    read_videos=read_videos,
)

__all__ = ["DIDEMO"]
