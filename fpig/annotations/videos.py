"""The videos of a data set on this disk: where each lies, which are missing and which can't be decoded."""

import multiprocessing
import os
import stat
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm.auto import tqdm

from fpig.search import VIDEO_SUFFIXES, walk_folders

# Those of the processor, which alone decodes them; to import it takes seconds.
IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")
# What a reason begins with for which a video can't be used.
MISSING, EMPTY, UNREADABLE = "missing", "empty", "unreadable"
ON_MISSING = ("raise", "skip")  # what may be done about them
_CHUNK_SIZE = 16
_FEW = 64  # so few videos are decoded sooner than processes start


def locate_videos(root: Path, video_ids: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """
    Finds the files and folders of videos.

    An id's video is the file of that very name, or of that name and a suffix of videos, in `root/videos` or a
    subfolder of it, linked ones too; else, or where that file is empty, the folder `root/frames/ID`, whose
    pictures are its frames.

    Returns:
        Id → path, without those that are not there; and a message for each further file of an id.
    """
    wanted = set(video_ids)
    found: dict[str, str] = {}
    doubled: list[str] = []
    for folder, names in walk_folders(root / "videos"):
        for name in names:
            stem, suffix = os.path.splitext(name)
            video_id = stem if name not in wanted and suffix.lower() in VIDEO_SUFFIXES else name
            if video_id not in wanted:
                continue
            path = os.path.join(folder, name)
            first = found.setdefault(video_id, path)
            if first != path and os.path.realpath(first) != os.path.realpath(path):
                doubled.append(
                    f"`{video_id}` has two videos, {first} and {path}, and which is meant is not known; take "
                    "one out"
                )
    frames_dir = root / "frames"
    if frames_dir.is_dir():
        with os.scandir(frames_dir) as entries:
            for entry in entries:
                is_wanted = entry.name in wanted and entry.is_dir()
                if is_wanted and (entry.name not in found or _explain_absence(found[entry.name])):
                    found[entry.name] = entry.path
    return found, doubled


def explain_folders(root: Path) -> str | None:
    """A message where the data set at `root` has no folder for videos; `None` if it has one."""
    if (root / "videos").is_dir() or (root / "frames").is_dir():
        return None
    return (
        f"`{root}` has neither a folder `videos` nor a folder `frames`, so that no video can be found; put "
        "the videos into `videos`, or their frames into `frames`"
    )


def find_absent(videos: Mapping[str, str | bytes]) -> dict[str, str]:
    """Videos whose file or folder is not there or empty: id → reason. Nothing is decoded."""
    reasons = {
        video_id: _explain_absence(video) for video_id, video in videos.items() if isinstance(video, str)
    }
    return {video_id: reason for video_id, reason in reasons.items() if reason}


def _explain_absence(video: str) -> str | None:
    """Why there is no video at a path; `None` if there may be one."""
    try:
        status = os.stat(video)
    except (OSError, ValueError):
        return MISSING
    if stat.S_ISDIR(status.st_mode):
        names = os.listdir(video)
        is_empty = not any(name.lower().endswith(IMAGE_SUFFIXES) and name[0] != "." for name in names)
        return f"{EMPTY}: a folder without a picture" if is_empty else None
    if not stat.S_ISREG(status.st_mode):
        return MISSING
    return None if status.st_size else f"{EMPTY}: a file without a byte"


def find_unreadable(videos: Mapping[str, str | bytes]) -> dict[str, str]:
    """
    Videos whose first frame can't be decoded: id → reason. Many are decoded in several processes, one a core,
    with a progress bar.

    Raises:
        OSError: such a process was killed.
    """
    items = list(videos.items())
    chunks = [items[start : start + _CHUNK_SIZE] for start in range(0, len(items), _CHUNK_SIZE)]
    reasons: dict[str, str] = {}
    if len(items) <= _FEW:
        for chunk in chunks:
            reasons |= _try_videos(chunk)
        return reasons
    _load_decoder()  # before the processes fork, so that it is loaded once
    with (
        ProcessPoolExecutor(_count_workers(), multiprocessing.get_context(_choose_method())) as executor,
        tqdm(total=len(items), desc="Opening videos", unit="video") as bar,
    ):
        try:
            for chunk, unreadable in zip(chunks, executor.map(_try_videos, chunks), strict=True):
                reasons |= unreadable
                bar.update(len(chunk))
        except BrokenProcessPool as error:
            raise OSError(
                f"a process that decoded videos was killed, after {bar.n} of {len(items)} or soon later; "
                "give it more memory, or find the video by trying fewer"
            ) from error
    return reasons


def _load_decoder() -> Callable:
    # Only now, and not at the top: it takes seconds, and most of this file needs none of it.
    from processing_fpig.decoding_fpig import read_frames

    return read_frames


def _try_videos(items: list[tuple[str, str | bytes]]) -> dict[str, str]:
    """Decodes the first frame of each video: id → reason of those where it fails."""
    read_frames = _load_decoder()
    reasons = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a video that is damaged further on can be used, and says so then
        for video_id, video in items:
            try:
                read_frames(video, lambda num_available: [0])
            except (OSError, ValueError) as error:
                reason = getattr(error, "reason", None) or str(error)
                reasons[video_id] = f"{UNREADABLE}: {reason}"
    return reasons


def _choose_method() -> str | None:
    """Forked processes start at once, but are safe on Linux alone; elsewhere Python's own choice."""
    return "fork" if sys.platform == "linux" else None


def _count_workers() -> int:
    """One a core that this process may use; Windows can't wait for more than 61."""
    num_cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(num_cores, 61)


__all__ = [
    "EMPTY",
    "IMAGE_SUFFIXES",
    "MISSING",
    "ON_MISSING",
    "UNREADABLE",
    "explain_folders",
    "find_absent",
    "find_unreadable",
    "locate_videos",
]
