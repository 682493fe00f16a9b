"""
MSR-VTT, 10,000 videos with 20 captions each, in the two ways in which it is split.

`msrvtt1k`: 9,000 training videos, and the 1,000 of the split 1k-A with one caption each. The literature has
no validation split. `msrvtt3k`: 6,513 / 497 / 2,990 videos by the number in their id, 20 captions each.

Annotations in ROOT or ROOT/annotations, the first form whose files are all there:

1. the official json and lists: `MSRVTT_data.json` for all captions but 1k-A's; `MSRVTT_train.9k.csv` and
   `MSRVTT_JSFUSION_test.csv` list msrvtt1k, the second with its captions; msrvtt3k needs the json alone;
2. the authors' jsonl, a line `{"clip_id": …, "text": caption or captions}` a video: `train9k.jsonl` and
   `test1ka.jsonl`; msrvtt3k in the same form as `train3k.jsonl`, `val3k.jsonl` and `test3k.jsonl`;
3. msrvtt3k's validation and test videos from `MSRVTT_full_split_val.csv` and `MSRVTT_full_split_test.csv`,
   with a row for each caption.

Videos: ROOT/videos/video0.mp4, in any subfolder too and with any suffix of a video, or a folder of pictures
ROOT/frames/video0.
"""

import posixpath
import re
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fpig.annotations.files import find_file, read_json, read_json_lines, read_table, report_missing
from fpig.annotations.published import (
    AnnotatedVideo,
    PublishedDataset,
    PublishedSplit,
    read_listed,
    refuse_repeated,
)

SENTENCES_NAME = "MSRVTT_data.json"
WHERE_FROM = "github.com/ArrowLuo/CLIP4Clip (msrvtt_data.zip of its release v0.0)"
# Split → the list, the jsonl.
FILES_1K = {
    "train": ("MSRVTT_train.9k.csv", "train9k.jsonl"),
    "test": ("MSRVTT_JSFUSION_test.csv", "test1ka.jsonl"),
}
FILES_3K = {
    "train": ("", "train3k.jsonl"),
    "validation": ("MSRVTT_full_split_val.csv", "val3k.jsonl"),
    "test": ("MSRVTT_full_split_test.csv", "test3k.jsonl"),
}
NUMBERS_3K = {"train": range(6513), "validation": range(6513, 7010), "test": range(7010, 10_000)}


def read_1k(root: Path, split: str) -> Iterator[AnnotatedVideo]:
    """The videos of a split of msrvtt1k."""
    list_name, jsonl_name = FILES_1K[split]
    list_path, sentences_path = find_file(root, list_name), find_file(root, SENTENCES_NAME)
    if split == "test" and list_path:
        return read_sentence_table(list_path)
    if list_path and sentences_path:
        return read_listed(list_path, read_sentences(sentences_path))
    if jsonl_path := find_file(root, jsonl_name):
        return read_clips(jsonl_path)
    official = list_name if split == "test" else f"{list_name} with {SENTENCES_NAME}"
    raise report_missing(root, (official, jsonl_name), WHERE_FROM)


def read_3k(root: Path, split: str) -> Iterator[AnnotatedVideo]:
    """The videos of a split of msrvtt3k."""
    list_name, jsonl_name = FILES_3K[split]
    if sentences_path := find_file(root, SENTENCES_NAME):
        return read_numbered(sentences_path, NUMBERS_3K[split])
    if jsonl_path := find_file(root, jsonl_name):
        return read_clips(jsonl_path)
    if list_name and (list_path := find_file(root, list_name)):
        return read_sentence_table(list_path)
    looked_for = [name for name in (SENTENCES_NAME, jsonl_name, list_name) if name]
    raise report_missing(root, looked_for, WHERE_FROM)


def read_numbered(path: Path, numbers: range) -> Iterator[AnnotatedVideo]:
    """The videos whose number is in a range, in the order of the numbers."""
    captions = read_sentences(path)
    numbered = {read_number(video_id, path): video_id for video_id in captions}
    for number in sorted(number for number in numbered if number in numbers):
        video_id = numbered[number]
        yield AnnotatedVideo(f"video {number} of {path}", video_id, captions[video_id])


def read_number(video_id: str, path: Path) -> int:
    """
    The number of `video123`.

    Raises:
        ValueError: it has none, or one with zeros before it, which another id may have too.
    """
    match = re.fullmatch(r"video(0|[1-9][0-9]{0,8})", video_id)
    if match is None:
        raise ValueError(
            f"`{path}` has the id {video_id!r} but ids of MSR-VTT are `video` and a number without zeros "
            "before it, which decides on the split; get the file again"
        )
    return int(match[1])


def read_sentences(path: Path) -> Mapping[str, tuple[str, ...]]:
    """
    Id → captions, in the order of the json's sentences, of all videos that it has.

    Raises:
        ValueError: another layout than `{"videos": [{"video_id"}], "sentences": [{"video_id", "caption"}]}`,
            or a video twice in `videos`.
    """
    content = read_json(path)
    videos = (
        AnnotatedVideo(place, item["video_id"], ())
        for place, item in _read_items(content, "videos", ("video_id",), path)
    )
    captions: dict[str, list[str]] = {video.video_id: [] for video in refuse_repeated(videos)}
    for _, sentence in _read_items(content, "sentences", ("video_id", "caption"), path):
        captions.setdefault(sentence["video_id"], []).append(sentence["caption"])
    return {video_id: tuple(texts) for video_id, texts in captions.items()}


def _read_items(
    content: Any, key: str, fields: tuple[str, ...], path: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of the list `content[key]` with their places."""
    items = content.get(key) if isinstance(content, dict) else None
    if not isinstance(items, list):
        raise ValueError(
            f"`{path}` has no list `{key}` but must be an object with the lists `videos` and `sentences`; "
            "get the file again"
        )
    for number, item in enumerate(items):
        if not isinstance(item, dict) or not all(isinstance(item.get(field), str) for field in fields):
            raise ValueError(
                f"`{key}[{number}]` of {path} is {reprlib.repr(item)} but must have the texts "
                f"{', '.join(fields)}; get the file again"
            )
        yield f"{key}[{number}] of {path}", item


def read_sentence_table(path: Path) -> Iterator[AnnotatedVideo]:
    """The videos of a csv with a row for each caption, in the order in which they first appear."""
    captions: dict[str, list[str]] = {}
    places: dict[str, str] = {}
    for place, row in read_table(path, ("video_id", "sentence")):
        places.setdefault(row["video_id"], place)
        captions.setdefault(row["video_id"], []).append(row["sentence"])
    for video_id, texts in captions.items():
        yield AnnotatedVideo(places[video_id], video_id, tuple(texts))


def read_clips(path: Path) -> Iterator[AnnotatedVideo]:
    """
    The videos of a jsonl file of CLIP-ViP's and the authors' form.

    Raises:
        ValueError: a line lacks `clip_id`, or its `text` is neither a caption nor a list of them.
    """
    for place, row in read_json_lines(path):
        video_id, text = row.get("clip_id"), row.get("text")
        if not isinstance(video_id, str) or not isinstance(text, str | list):
            raise ValueError(
                f"`{place}` has the keys {', '.join(row) or 'none'} but must have `clip_id`, a text, and "
                "`text`, a caption or a list of captions; get the file again"
            )
        # Other projects too take the name alone of a clip whose folder is written with it.
        name = posixpath.basename(video_id)
        yield AnnotatedVideo(place, name, tuple(text) if isinstance(text, list) else (text,))


def _with_20_captions(num_videos: int) -> PublishedSplit:
    return PublishedSplit(num_videos, 20, 20, "several captions")


MSRVTT_1K = PublishedDataset(
    name="msrvtt1k",
    splits={"train": _with_20_captions(9000), "test": PublishedSplit(1000, 1, 1, "one caption")},
    where_from=WHERE_FROM,
    read_videos=read_1k,
)
MSRVTT_3K = PublishedDataset(
    name="msrvtt3k",
    splits={split: _with_20_captions(len(numbers)) for split, numbers in NUMBERS_3K.items()},
    where_from=WHERE_FROM,
    read_videos=read_3k,
)

__all__ = ["MSRVTT_1K", "MSRVTT_3K", "read_clips", "read_sentence_table", "read_sentences"]
