"""What a published data set is: its splits, their sizes and protocol; and the checks that hold for all."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class AnnotatedVideo(NamedTuple):
    """A video of a published data set and its captions; `place` is where its id stands, for messages."""

    place: str
    video_id: str
    captions: tuple[str, ...]


@dataclass(frozen=True)
class PublishedSplit:
    """
    A split as the literature uses it.

    Attributes:
        num_videos: videos in it.
        min_captions: fewest captions of a video; 0 where videos have none.
        max_captions: most captions of a video; `None` where no number is published.
        protocol: "one caption", "several captions", "paragraph" or "ad-hoc video search".
    """

    num_videos: int
    min_captions: int
    max_captions: int | None
    protocol: str


@dataclass(frozen=True)
class PublishedDataset:
    """
    A published data set.

    Attributes:
        name: what it is called here.
        splits: by name.
        where_from: where its annotations can be had.
        read_videos: folder and split → the annotated videos in the order of the file that lists them.
    """

    name: str
    splits: Mapping[str, PublishedSplit]
    where_from: str
    read_videos: Callable[[Path, str], Iterator[AnnotatedVideo]]


def check_split_name(dataset: PublishedDataset, split: str) -> None:
    """
    Raises:
        ValueError: `dataset` has no such split.
    """
    if split not in dataset.splits:
        raise ValueError(
            f"`split` is '{split}' but '{dataset.name}' has only {', '.join(dataset.splits)}; choose one of "
            "them, or leave it empty where a run can do without"
        )


def read_split(dataset: PublishedDataset, root: Path, split: str) -> list[AnnotatedVideo]:
    """
    The annotated videos of a split, whatever their number and captions.

    Raises:
        FileNotFoundError: no such folder, or its annotations are not in it.
        ValueError: they can't be read, or list a video twice.
    """
    places: dict[str, str] = {}
    videos = []
    for video in dataset.read_videos(root, split):
        if video.video_id in places:
            raise ValueError(
                f"`{video.place}` has the video '{video.video_id}', which {places[video.video_id]} has too; "
                "take one out"
            )
        places[video.video_id] = video.place
        videos.append(video)
    return videos


def describe_deviations(dataset: PublishedDataset, split: str, videos: list[AnnotatedVideo]) -> list[str]:
    """
    How the annotations of a split differ from what is published, as messages; none if they don't. Of captions
    that are missing, empty or too few the first video is named.
    """
    published, problems = dataset.splits[split], []
    again = f"get the annotations again, from {dataset.where_from}"
    lowest, highest = published.min_captions, published.max_captions
    for video in videos:
        place, number = f"`{video.place}` has the video '{video.video_id}'", len(video.captions)
        empty = [text for text in video.captions if not isinstance(text, str) or not text.strip()]
        if empty:
            problems.append(f"{place} with the caption {empty[0]!r} but captions must be texts; {again}")
        elif lowest and not number:
            problems.append(f"{place} but the annotations have no caption of it; {again}")
        elif number < lowest or (highest is not None and number > highest):
            problems.append(
                f"{place} with {number} captions but {describe_range(published)} are published for a video "
                f"of split '{split}'; {again}"
            )
        if problems:
            break
    if len(videos) != published.num_videos:
        problems.append(
            f"`split` '{split}' of '{dataset.name}' has {count_of_published(len(videos), published)} videos; "
            f"numbers measured on others can't be compared: {again}"
        )
    return problems


def count_of_published(number: int, published: PublishedSplit) -> str:
    """A number of videos beside the published one."""
    return f"{number:,} of {published.num_videos:,} published"


def describe_range(published: PublishedSplit) -> str:
    """How many captions a video of a split has."""
    lowest, highest = published.min_captions, published.max_captions
    if highest is None:
        return f"{lowest} or more"
    return f"{lowest}" if lowest == highest else f"{lowest} to {highest}"


def find_leaks(videos_by_split: Mapping[str, list[AnnotatedVideo]]) -> list[str]:
    """Videos that are in two splits, as messages: the first of each pair of splits, and how many there."""
    problems = []
    names = list(videos_by_split)
    for number, first in enumerate(names[:-1]):
        places = {video.video_id: video.place for video in videos_by_split[first]}
        for second in names[number + 1 :]:
            shared = [video for video in videos_by_split[second] if video.video_id in places]
            if shared:
                video = shared[0]
                problems.append(
                    f"`split` '{second}' has the video '{video.video_id}' ({video.place}), which is also in "
                    f"split '{first}' ({places[video.video_id]}), and {len(shared)} such in all; a video "
                    "must be in one only: get the lists again"
                )
    return problems


def read_published(dataset: PublishedDataset, root: Path, split: str | None) -> list[AnnotatedVideo]:
    """
    The annotated videos of a split, or of all. The other splits are read too where their files are there,
    to see that none leaks.

    Raises:
        FileNotFoundError: no such folder, or the wanted annotations are not in it.
        ValueError: no such split, annotations that can't be read or differ from what is published, or a
            video that is in two splits.
    """
    if split is not None:
        check_split_name(dataset, split)
    videos_by_split: dict[str, list[AnnotatedVideo]] = {}
    for name in dataset.splits:
        try:
            videos_by_split[name] = read_split(dataset, root, name)
        except FileNotFoundError:
            if split in (None, name):
                raise
    chosen = list(dataset.splits) if split is None else [split]
    problems = [
        problem for name in chosen for problem in describe_deviations(dataset, name, videos_by_split[name])
    ]
    for problem in problems + find_leaks(videos_by_split):
        raise ValueError(problem)
    return [video for name in chosen for video in videos_by_split[name]]


def hash_ids(video_ids: Iterable[str]) -> str:
    """
    Names a set of videos: the first 16 hexadecimal digits of the SHA-256 of the ids in UTF-8, sorted by code
    point and joined by newlines.

    >>> hash_ids(["video1", "video0"])
    '01e60131d177497f'
    """
    return _hash("\n".join(sorted(video_ids)))


def hash_captions(captions_by_id: Iterable[tuple[str, Iterable[str]]]) -> str:
    """
    Names a set of videos with their captions: as `hash_ids`, of one line of JSON a video, its id and then its
    captions in their order: `["video0", "a caption", "another"]`, other than ASCII unescaped, sorted by id.
    """
    encode = json.JSONEncoder(ensure_ascii=False).encode
    pairs = sorted(captions_by_id, key=lambda pair: pair[0])
    return _hash("\n".join(encode([video_id, *captions]) for video_id, captions in pairs))


def _hash(text: str) -> str:
    # A file's name or a JSON text may hold surrogates, which UTF-8 has no place for.
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


__all__ = [
    "AnnotatedVideo",
    "PublishedDataset",
    "PublishedSplit",
    "count_of_published",
    "describe_deviations",
    "describe_range",
    "find_leaks",
    "hash_captions",
    "hash_ids",
    "read_published",
    "read_split",
]
