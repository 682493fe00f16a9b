"""
The frames that training chooses from, decoded and resized once and kept on a disk for all epochs.

One file a video, a safetensors with `frames` [C, 3, S, S] uint8 and `checksums` [C], the CRC-32 of each. What
is found damaged, made with other settings or from another version of the video is made again. A file appears
under its name when it is whole, so a run that is killed loses none and leaves none half made.
"""

import hashlib
import json
import logging
import os
import secrets
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

logger = logging.getLogger(__name__)

SUFFIX = ".frames"
PARTIAL_SUFFIX = ".partial"
STALE_SECONDS = 3600  # a file that has been written to for so long is not being written any more
HEADER_BYTES = 4096  # at most
GIB = 2**30


class DamagedCacheError(ValueError):
    """A file of the cache is not as it was written."""


class FrameCache:
    """
    Frames of the videos of a data set: read where they are kept, else decoded and kept.

    The folder never holds more than `max_bytes`, but for what is being replaced: the first videos that surely
    fit are kept, the others are decoded each time. What other data sets have left there counts, and stays.

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
            "num_candidates": num_candidates,
            "size": video_processor.size,
            "resize_mode": video_processor.resize_mode,
            "keyframes_only": video_processor.keyframes_only,
        }
        self.names = [f"{identify_video(video)}{SUFFIX}" for video in videos]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.num_kept = self._make_room(max_bytes)

    def _make_room(self, max_bytes: int) -> int:
        """Clears away what killed runs, other settings and a higher bound have left; how many videos fit."""
        frame_bytes = 3 * self.settings["size"] ** 2 + 8  # with its checksum
        video_bytes = self.num_candidates * frame_bytes + HEADER_BYTES
        numbers = {name: number for number, name in enumerate(self.names)}
        own_bytes: dict[Path, int] = {}
        other_bytes = 0
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # what another process has just finished, or cleared away
                status = path.stat()
                if path.suffix == PARTIAL_SUFFIX and time.time() - status.st_mtime > STALE_SECONDS:
                    path.unlink()
                elif path.name in numbers:
                    own_bytes[path] = status.st_size
                elif path.suffix in (SUFFIX, PARTIAL_SUFFIX):
                    other_bytes += status.st_size
        num_kept = min(len(self.names), max(0, (max_bytes - other_bytes) // video_bytes))
        for path, num_bytes in own_bytes.items():
            if numbers[path.name] >= num_kept or num_bytes > video_bytes:
                path.unlink(missing_ok=True)
        if num_kept < len(self.names):
            logger.warning(
                "the frame cache `%s` keeps %d of %d videos, the others are decoded in every epoch: all "
                "would take %.2f GiB, and %.2f are allowed; allow more with `--frame_cache_gib`",
                self.folder,
                num_kept,
                len(self.names),
                (other_bytes + len(self.names) * video_bytes) / GIB,
                max_bytes / GIB,
            )
        return num_kept

    def __contains__(self, index: int) -> bool:
        return index < self.num_kept

    def read(self, index: int, choose_indices: Callable[[int], list[int]]) -> torch.Tensor:
        """
        Chosen ones of the candidate frames of video `index` → [T, 3, S, S] uint8.

        Args:
            index: of one that is kept.
            choose_indices: number of candidates → indices wanted. Equal calls must give equal results: there
                is a second one if the file is damaged.

        Raises:
            ValueError: the video can't be read.
        """
        path = self.folder / self.names[index]
        metadata = {"made_of": json.dumps(self.settings | describe_source(self.videos[index]))}
        try:
            candidates = open_frames(path, metadata)
            if candidates is not None:
                return take_checked(*candidates, choose_indices(len(candidates[0])))
        except DamagedCacheError as error:
            warnings.warn(f"the cached frames `{path}` are damaged ({error}) and made again", stacklevel=2)
        frames = self.video_processor.read_candidates(self.videos[index], self.num_candidates).contiguous()
        try:
            write_frames(path, frames, metadata)
        except OSError as error:
            warnings.warn(
                f"the frame cache `{self.folder}` can't be written to ({error.strerror}); what it lacks is "
                "decoded in every epoch",
                stacklevel=2,
            )
        return frames[choose_indices(len(frames))]


def identify_video(video: str | bytes) -> str:
    """Names a video by its resolved path, or by its content if there is no file."""
    return hashlib.sha256(video if isinstance(video, bytes) else os.path.realpath(video).encode()).hexdigest()


def describe_source(video: str | bytes) -> dict[str, int]:
    """What changes with the file, or with the folder of pictures, that a video's name stands for."""
    if isinstance(video, bytes):
        return {}
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
    partial = path.with_name(f"{path.name}-{secrets.token_hex(8)}{PARTIAL_SUFFIX}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def open_frames(path: Path, metadata: dict[str, str]) -> tuple[torch.Tensor, torch.Tensor] | None:
    """
    Frames [C, 3, S, S], which are read from the disk when they are used, and their checksums [C].

    Returns:
        `None` if there is no such file, or one that was written with other `metadata`.

    Raises:
        DamagedCacheError: it is no file that `write_frames` has written.
    """
    try:
        with safe_open(path, framework="pt") as file:
            if file.metadata() != metadata:
                return None
            return file.get_tensor("frames"), file.get_tensor("checksums")
    except FileNotFoundError:
        return None
    except SafetensorError as error:
        raise DamagedCacheError(str(error)) from error


def take_checked(frames: torch.Tensor, checksums: torch.Tensor, indices: list[int]) -> torch.Tensor:
    """
    Chosen frames, after a look at their checksums.

    Raises:
        DamagedCacheError: one is not as it was written.
    """
    chosen = frames[indices]
    for frame, index in zip(chosen, indices, strict=True):
        if compute_checksum(frame) != checksums[index]:
            raise DamagedCacheError(f"frame {index} has another checksum")
    return chosen


def compute_checksum(frame: torch.Tensor) -> int:
    """CRC-32 of a contiguous frame [3, S, S] uint8."""
    return zlib.crc32(frame.numpy())


__all__ = ["GIB", "FrameCache"]
