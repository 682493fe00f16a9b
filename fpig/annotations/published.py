"""What a published data set is: its splits, their sizes and protocol; and the checks that hold for all."""

import hashlib
import json
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fpig.annotations.files import read_lines, read_table
from fpig.search import has_surrogates

# What leads out of the folder of the videos, or can't be written: half a character of UTF-16 alone.
NO_FILE_NAME = re.compile(r"\.{0,2}|.*[/\\\0\ud800-\udfff].*", re.DOTALL)


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
        num_captions: captions of all its videos, in each of the counts that are published; empty where none
            is, or where they follow from those of a video.
    """

    num_videos: int
    min_captions: int
    max_captions: int | None
    protocol: str
    num_captions: tuple[int, ...] = ()


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
        ValueError: they can't be read, list a video twice, or have an id that is no file's name.
    """
    videos = []
    for video in refuse_repeated(dataset.read_videos(root, split)):
        if NO_FILE_NAME.fullmatch(video.video_id):
            raise ValueError(
                f"`{video.place}` has the video {video.video_id!r} but an id must be the name of a file, "
                "without a folder; correct it or take it out"
            )
        videos.append(video)
    return videos


def refuse_repeated(videos: Iterable[AnnotatedVideo]) -> Iterator[AnnotatedVideo]:
    """
    The same videos.

    Raises:
        ValueError: two of them have one id, so that the captions of one would be lost.
    """
    places: dict[str, str] = {}
    for video in videos:
        if video.video_id in places:
            raise ValueError(
                f"`{video.place}` has the video {video.video_id!r}, which {places[video.video_id]} has too; "
                "take one out"
            )
        places[video.video_id] = video.place
        yield video


def read_listed(path: Path, captions: Mapping[str, tuple[str, ...]]) -> Iterator[AnnotatedVideo]:
    """The videos whose ids a file lists, the column `video_id` of a csv or else its lines."""
    if path.suffix == ".csv":
        listed = ((place, row["video_id"]) for place, row in read_table(path, ("video_id",)))
    else:
        listed = read_lines(path)
    for place, video_id in listed:
        yield AnnotatedVideo(place, video_id, captions.get(video_id, ()))


def describe_deviations(dataset: PublishedDataset, split: str, videos: list[AnnotatedVideo]) -> list[str]:
    """
    How the annotations of a split differ from what is published, as messages; none if they don't. Of captions
    that are missing, empty or too few the first video is named, and how many there are.
    """
    published, problems = dataset.splits[split], []
    again = f"get the annotations again, from {dataset.where_from}"
    deviations = [(video, text) for video in videos if (text := _describe_deviation(video, published))]
    if deviations:
        video, text = deviations[0]
        more = f" ({len(deviations):,} such videos in split '{split}')" if len(deviations) > 1 else ""
        problems.append(f"`{video.place}` has the video '{video.video_id}' {text}{more}; {again}")
    num_captions = sum(len(video.captions) for video in videos)
    if len(videos) != published.num_videos:
        problems.append(
            f"`split` '{split}' of '{dataset.name}' has {count_of_published(len(videos), published)} videos; "
            f"numbers measured on others can't be compared: {again}"
        )
    elif published.num_captions and num_captions not in published.num_captions:
        totals = " or ".join(f"{total:,}" for total in published.num_captions)
        problems.append(
            f"`split` '{split}' of '{dataset.name}' has {num_captions:,} captions but {totals} are "
            f"published; numbers measured on others can't be compared: {again}"
        )
    return problems


def _describe_deviation(video: AnnotatedVideo, published: PublishedSplit) -> str | None:
    """How the captions of one video differ from what is published; `None` if they don't."""
    number, lowest, highest = len(video.captions), published.min_captions, published.max_captions
    empty = [text for text in video.captions if not isinstance(text, str) or not text.strip()]
    if empty:
        return f"with the caption {reprlib.repr(empty[0])} but captions must be texts"
    if broken := [text for text in video.captions if has_surrogates(text)]:
        return f"with the caption {broken[0]!r}, with half a character, but captions must be Unicode texts"
    if lowest and not number:
        return "but the annotations have no caption of it"
    if number < lowest or (highest is not None and number > highest):
        return f"with {number} captions but {describe_range(published)} are published for a video"
    return None


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
    "read_listed",
    "read_published",
    "read_split",
    "refuse_repeated",
]
