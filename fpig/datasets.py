"""Captioned videos: one record type, and the door that loads them from anywhere."""

import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from fpig.annotations import PUBLISHED, PublishedDataset
from fpig.annotations.published import hash_captions, hash_ids, read_published
from fpig.annotations.tables import read_rows
from fpig.annotations.videos import (
    EMPTY,
    ON_MISSING,
    explain_folders,
    find_absent,
    find_unreadable,
    locate_videos,
)
from fpig.shapes import make_shapes
from fpig.sharing import run_in_first

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaptionedVideo:
    """
    One video and all its captions, of which a video that is only searched for has none. `video` is the path
    of a file, or of a folder with its frames as pictures, or the content where there is no file.
    """

    video_id: str
    video: str | bytes
    captions: tuple[str, ...]


@dataclass(frozen=True)
class CaptionedSplit:
    """
    The videos of one split of a data set, or of all.

    Attributes:
        dataset: the published name, or where the data set was loaded from.
        split: `None` for all.
        records: in the order of the annotations.
        skipped: id of a video that is annotated but not among the records → reason, which begins with
            "missing", "empty" or "unreadable".
        published_size: videos that the split has in the literature; `None` for what is not published.
        protocol: "one caption", "several captions", "paragraph" (all descriptions of a video as one caption)
            or "ad-hoc video search" (videos without captions).
    """

    dataset: str
    split: str | None
    records: list[CaptionedVideo]
    skipped: Mapping[str, str] = field(default_factory=dict)
    published_size: int | None = None
    protocol: str = "several captions"

    @property
    def id_checksum(self) -> str:
        """Equal for equal sets of ids of the records, whatever their order; see `hash_ids` for what it is."""
        return hash_ids(record.video_id for record in self.records)

    @property
    def caption_checksum(self) -> str:
        """As `id_checksum`, of ids and captions: the same videos may be annotated in several ways."""
        return hash_captions((record.video_id, record.captions) for record in self.records)


def load_captioned_videos(source: str | os.PathLike, split: str | None = None) -> list[CaptionedVideo]:
    """The records of `load_split(source, split)`, where no video may be missing."""
    return load_split(source, split).records


def load_split(
    source: str | os.PathLike,
    split: str | None = None,
    root: str | os.PathLike | None = None,
    on_missing: str = "raise",
) -> CaptionedSplit:
    """Load captioned videos.

    `source` is one of

    - the name of a published data set: "msrvtt1k", "msrvtt3k", "msvd", "vatex", "didemo", "v3c1" or "v3c2".
      `fpig.annotations` has a module for each, which says what has to lie where in `root`; a folder of the
      same name is meant by "./msvd";
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
        root: Folder of a published data set; where it is empty, `data/<name>`.
        on_missing: With "raise" every video must be there; none is decoded. With "skip" the first frame of
            every video is decoded, and videos that are missing, empty or unreadable are left out, counted and
            named in a warning and all listed in `skipped`.

    Returns:
        One record per video, in the order of first appearance. `video_id` is the id of a published data set,
        else the path as the annotations write it; videos embedded in the data set without one are named by
        their content.

    Raises:
        FileNotFoundError: no such source, no folder for a published data set's videos, or videos that are
            not there (the message counts and names them).
        ValueError: no rows, no such split, a column is missing, an empty caption, the same video in two
            splits, two files for one, or none that can be used; or a published data set with another number
            of videos or captions than published, whose numbers could not be compared.
    """
    return check_videos(load_annotated(source, split, root), on_missing)


def load_captions(
    source: str | os.PathLike, split: str | None = None, root: str | os.PathLike | None = None
) -> list[str]:
    """The captions of `load_split`, video by video; whether the videos are there makes no difference."""
    return [caption for record in load_annotated(source, split, root).records for caption in record.captions]


def load_annotated(
    source: str | os.PathLike, split: str | None, root: str | os.PathLike | None
) -> CaptionedSplit:
    """All that is annotated of a split, before anyone has looked whether its videos are there."""
    name = str(source)
    if name in PUBLISHED:
        return _load_published(PUBLISHED[name], split, Path(root or Path("data", name)).expanduser())
    if root:
        raise ValueError(
            f"`root` is '{root}' but '{source}' says itself where its videos are: leave it empty, or choose "
            f"one of {', '.join(PUBLISHED)}"
        )
    records = _group_by_video(make_shapes() if name == "shapes" else source, split)
    is_single = all(len(record.captions) == 1 for record in records)
    return CaptionedSplit(name, split, records, protocol="one caption" if is_single else "several captions")


def _load_published(dataset: PublishedDataset, split: str | None, root: Path) -> CaptionedSplit:
    """A split of a published data set. The path of a video that is not there is empty."""
    annotated = read_published(dataset, root, split)
    if no_folder := explain_folders(root):
        raise FileNotFoundError(no_folder)
    paths, doubled = locate_videos(root, (video.video_id for video in annotated))
    if doubled:
        raise ValueError(doubled[0])
    records = [
        CaptionedVideo(video.video_id, paths.get(video.video_id, ""), video.captions) for video in annotated
    ]
    splits = list(dataset.splits.values()) if split is None else [dataset.splits[split]]
    protocols = {published.protocol for published in splits}
    return CaptionedSplit(
        dataset.name,
        split,
        records,
        published_size=sum(published.num_videos for published in splits),
        protocol=protocols.pop() if len(protocols) == 1 else "several captions",
    )


def check_videos(loaded: CaptionedSplit, on_missing: str, is_shared: bool = False) -> CaptionedSplit:
    """
    The split itself if all its videos are there, or what can be used of it.

    Args:
        loaded: from `load_annotated`.
        on_missing: see `load_split`.
        is_shared: with "skip", the first of several processes, which must all call it, decides for all: each
            for itself would decode all videos, and leave out what it alone can't read for a moment.

    Raises:
        FileNotFoundError: with "raise", videos that are not there.
        ValueError: with "skip", none can be used; or another word for `on_missing`.
        OSError: a process that decoded videos was killed.
    """
    if on_missing not in ON_MISSING:
        raise ValueError(f"`on_missing` is {on_missing!r} but must be one of {', '.join(ON_MISSING)}")
    if on_missing == "raise":
        _require_videos(loaded)
        return loaded
    find = partial(_find_unusable, loaded)
    skipped = run_in_first(find) if is_shared else find()
    return replace(
        loaded,
        records=[record for record in loaded.records if record.video_id not in skipped],
        skipped=skipped,
    )


def _require_videos(loaded: CaptionedSplit) -> None:
    """Refuses a split of which videos are not there."""
    videos = {record.video_id: record.video for record in loaded.records}
    absent = find_absent(videos)
    if absent:
        names = [str(videos[video_id]) or video_id for video_id in absent]
        is_empty = any(reason.startswith(EMPTY) for reason in absent.values())
        raise FileNotFoundError(
            f"{len(absent)} of {len(videos)} videos of '{loaded.dataset}' are "
            f"missing{' or empty' if is_empty else ''}: {_join_first(names)}; add them, take them out "
            "of the annotations, or leave them out with `on_missing` 'skip'"
        )


def _find_unusable(loaded: CaptionedSplit) -> dict[str, str]:
    """Why videos of a split can't be used, which is logged: id → reason."""
    videos = {record.video_id: record.video for record in loaded.records}
    reasons = find_absent(videos)
    reasons |= find_unreadable({key: video for key, video in videos.items() if key not in reasons})
    if not reasons:
        return reasons
    skipped = {video_id: reasons[video_id] for video_id in videos if video_id in reasons}
    listed = _join_first([f"{video_id} ({reason})" for video_id, reason in skipped.items()])
    if len(skipped) == len(videos):
        raise ValueError(f"`{loaded.dataset}` has {len(videos)} videos and none can be used: {listed}")
    split = f", split '{loaded.split}'" if loaded.split else ""
    logger.warning(
        "%d of %d videos of '%s'%s are left out: %s", len(skipped), len(videos), loaded.dataset, split, listed
    )
    return skipped


def _join_first(names: list[str], num_shown: int = 3) -> str:
    return ", ".join(names[:num_shown]) + (", …" if len(names) > num_shown else "")


def _group_by_video(source: str | os.PathLike, split: str | None) -> list[CaptionedVideo]:
    """Gather the rows of the wanted split by video; the other splits are read too, to see that none leaks."""
    records: dict[str, CaptionedVideo] = {}
    splits_by_video: dict[str, str | None] = {}
    used_ids: set[str] = set()
    for row in read_rows(source):
        key = identify_video(row.video)
        if splits_by_video.setdefault(key, row.split) != row.split:
            raise ValueError(
                f"`{row.place}` has the video '{row.name or key[:12]}' in `split` '{row.split}' but is also "
                f"in `split` '{splits_by_video[key]}'; a video must be in one only: take it out of the other"
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


def identify_video(video: str | bytes) -> str:
    """Names a video by its resolved path, or by its content if there is no file."""
    content = video if isinstance(video, bytes) else os.path.realpath(video).encode()
    return hashlib.sha256(content).hexdigest()
