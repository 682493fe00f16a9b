"""
The frames that training chooses from, decoded and resized once and kept on a disk for all epochs.

One file a video, a safetensors with `frames` [C, 3, S, S] uint8 and `checksums` [C], the CRC-32 of each. What
is found damaged, made with other settings or from another version of the video is made again. A file appears
under its name when it is whole, so a run that is killed loses none and leaves none half made.
"""

import errno
import hashlib
import json
import logging
import math
import os
import re
import secrets
import shutil
import time
import warnings
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from transformers.video_processing_utils import VideoProcessorMixin

from fpig.datasets import identify_video
from fpig.sharing import is_first_process

logger = logging.getLogger(__name__)

FORMAT = 1  # another one wherever the same video gives other frames
SUFFIX = ".frames"
PARTIAL_NAME = re.compile(r"[0-9a-f]{64}\.frames-[0-9a-f]{16}\.partial")
STALE_SECONDS = 3600  # a file that has been written to for so long is not being written any more
HEADER_BYTES = 4096  # at most
GIB = 2**30
RESERVED_BYTES = GIB  # left free on the disk, where the checkpoints of the run may have to go


class DamagedCacheError(ValueError):
    """A file of the cache is not as it was written."""


class FrameCache:
    """
    Frames of the videos of a data set: read where they are kept, else decoded and kept.

    The first videos that surely fit into `max_bytes` are kept, and no others. What other data sets have left
    in the folder counts, and stays. A folder is for one run at a time, or for several with the same videos
    and settings: runs with other settings would replace each other's files, and runs with other videos that
    begin together would not see each other's.

    Args:
        folder: made if it is not there.
        video_processor: decodes and resizes.
        videos: paths, or contents.
        num_candidates: frames kept of each, spread evenly.
        max_bytes: what the folder may hold.

    Attributes:
        num_kept: how many of the videos are kept.

    Raises:
        OSError: the folder can't be made.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        video_processor: VideoProcessorMixin,
        videos: Sequence[str | bytes],
        num_candidates: int,
        max_bytes: int,
    ) -> None:
        self.folder = Path(folder)
        self.video_processor = video_processor
        self.videos = videos
        self.num_candidates = num_candidates
        self.settings = {
            "format": FORMAT,
            "num_candidates": num_candidates,
            "size": video_processor.size,
            "resize_mode": video_processor.resize_mode,
            "keyframes_only": video_processor.keyframes_only,
        }
        self.names = [f"{identify_video(video)}{SUFFIX}" for video in videos]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"`frame_cache` is '{folder}', which can't be made ({error.strerror}); name a folder"
            ) from error
        self.num_kept = self._make_room(max_bytes)
        self.is_writable = True

    def _make_room(self, max_bytes: int) -> int:
        """Clears away what killed runs, other settings and a higher bound have left; how many videos fit."""
        frame_bytes = 3 * self.settings["size"] ** 2 + 8  # with its checksum
        video_bytes = self.num_candidates * frame_bytes + HEADER_BYTES
        numbers = {name: number for number, name in enumerate(self.names)}
        own_bytes: dict[Path, int] = {}
        other_bytes = 0
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # what another process has just finished, or cleared away
                status, is_partial = path.stat(), PARTIAL_NAME.fullmatch(path.name) is not None
                if is_partial and time.time() - status.st_mtime > STALE_SECONDS:
                    path.unlink()
                elif path.name in numbers:
                    own_bytes[path] = status.st_size
                elif is_partial or path.suffix == SUFFIX:
                    other_bytes += status.st_size
        num_kept = min(len(self.names), max(0, (max_bytes - other_bytes) // video_bytes))
        for path, num_bytes in own_bytes.items():
            if numbers[path.name] >= num_kept or num_bytes > video_bytes:
                path.unlink(missing_ok=True)
        if num_kept < len(self.names) and is_first_process():
            missing_gib = (other_bytes + len(self.names) * video_bytes - max_bytes) / GIB
            logger.warning(
                "the frame cache `%s` keeps %d of %d videos, the others are decoded in every epoch: "
                "`--frame_cache_gib` is %.2f too small%s",
                self.folder,
                num_kept,
                len(self.names),
                math.ceil(100 * missing_gib) / 100,
                f", and {other_bytes / GIB:.2f} GiB in the folder are of other videos" if other_bytes else "",
            )
        return num_kept

    def read(self, index: int, choose_indices: Callable[[int], list[int]]) -> torch.Tensor | None:
        """
        Chosen ones of the candidate frames of video `index` → [T, 3, S, S] uint8; `None` if it is not kept.

        Args:
            index: of the video.
            choose_indices: number of candidates → indices wanted. Equal calls must give equal results: there
                is a second one if the file is damaged.

        Raises:
            ValueError: the video can't be read.
        """
        if index >= self.num_kept:
            return None
        path = self.folder / self.names[index]
        metadata = {"made_of": json.dumps(self.settings | describe_source(self.videos[index]))}
        try:
            frames = load_frames(path, metadata, choose_indices)
        except DamagedCacheError as error:
            warnings.warn(f"the cached frames `{path}` are damaged ({error}) and made again", stacklevel=2)
            frames = None
        if frames is not None or not self.is_writable:
            return frames
        candidates = self.video_processor.read_candidates(self.videos[index], self.num_candidates)
        try:
            write_frames(path, candidates.contiguous(), metadata)
        except OSError as error:
            self.is_writable = False
            warnings.warn(
                f"the frame cache `{self.folder}` can't be written to ({error.strerror}); what it lacks is "
                "decoded in every epoch",
                stacklevel=2,
            )
        return candidates[choose_indices(len(candidates))]


def describe_source(video: str | bytes) -> dict[str, int | str]:
    """What changes with the file that a video's name stands for, or with the pictures of its folder."""
    if isinstance(video, bytes):
        return {}
    if os.path.isdir(video):
        pictures = sorted((entry.name, entry.stat()) for entry in os.scandir(video))
        stamps = [(name, status.st_size, status.st_mtime_ns) for name, status in pictures]
        return {"pictures": hashlib.sha256(repr(stamps).encode()).hexdigest()}
    status = os.stat(video)
    return {"num_bytes": status.st_size, "modified_nanoseconds": status.st_mtime_ns}


def write_frames(path: Path, frames: torch.Tensor, metadata: dict[str, str]) -> None:
    """
    Writes frames [C, 3, S, S] uint8 and their checksums; `path` is a whole file or none.

    Raises:
        OSError: there is no room, or no permission.
    """
    checksums = torch.tensor([compute_checksum(frame) for frame in frames])
    content = save({"frames": frames, "checksums": checksums}, metadata)
    if shutil.disk_usage(path.parent).free < RESERVED_BYTES + len(content):
        raise OSError(errno.ENOSPC, f"less than {RESERVED_BYTES / GIB:.0f} GiB would be left on its disk")
    partial = path.with_name(f"{path.name}-{secrets.token_hex(8)}.partial")  # as `PARTIAL_NAME`
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_frames(
    path: Path, metadata: dict[str, str], choose_indices: Callable[[int], list[int]]
) -> torch.Tensor | None:
    """
    Chosen frames [T, 3, S, S], the only ones that are read from the disk.

    Returns:
        `None` if there is no such file, or one that was written with other `metadata`.

    Raises:
        DamagedCacheError: it is no file that `write_frames` has written, or a frame is not as it was written.
    """
    try:
        with safe_open(path, framework="pt") as file:
            if file.metadata() != metadata:
                return None
            frames, checksums = file.get_tensor("frames"), file.get_tensor("checksums")
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError) as error:
        raise DamagedCacheError(str(error)) from error
    indices = choose_indices(len(frames))
    chosen = frames[indices]
    for frame, index in zip(chosen, indices, strict=True):
        if compute_checksum(frame) != checksums[index]:
            raise DamagedCacheError(f"frame {index} has another checksum")
    return chosen


def compute_checksum(frame: torch.Tensor) -> int:
    """CRC-32 of a contiguous frame [3, S, S] uint8."""
    return zlib.crc32(frame.numpy())


__all__ = ["GIB", "FrameCache"]
