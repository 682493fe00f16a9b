"""
The one file that opens a video: chosen frames of any clip as RGB, frame n being the n-th frame shown.

Safe by construction: local files alone, a list of container formats, bounded picture sizes. Nothing in a
file's name or content makes the decoder open another resource.
"""

import io
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import torch
from av.container import InputContainer as Container
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from av.video.stream import VideoStream as Stream

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif"
# These containers carry no presentation times that could be trusted: their frames are counted while decoding.
FORMATS_WITHOUT_TIMES = {"avi"}
MAX_PIXELS = 8192 * 8192
PROTOCOL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
INTERPOLATION = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

ChooseIndices = Callable[[int], list[int]]


class VideoReadError(ValueError):
    """A video that can't be read. `path` names it and `reason` says why."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"can't read the video `{self.path}`: {self.reason}"


@dataclass(frozen=True)
class PacketEntry:
    """What the frame table keeps of a packet; the table is in decode order."""

    pts: int | None
    is_keyframe: bool
    is_shown: bool


def read_frames(video: Any, choose_indices: ChooseIndices) -> torch.Tensor:
    """
    Reads chosen frames of a video.

    Args:
        video: a path; bytes or a binary file object of an encoded video; the `{"bytes", "path"}` of a
            `datasets` column `Video(decode=False)`; or decoded frames: an array [T, H, W, 3] or tensor
            [T, 3, H, W] of uint8, or a list of PIL images.
        choose_indices: number of frames in the clip → indices wanted, in any order, repeats allowed.

    Returns:
        RGB frames [T, H, W, 3] uint8. Rotation metadata is applied, an alpha channel is dropped. Where a clip
        is damaged, the nearest readable frame stands in, with a warning.

    Raises:
        VideoReadError: nothing can be read, or what `video` names is no local video.
        TypeError: `video` is of another type.
    """
    if isinstance(video, dict):
        video = video["bytes"] if video.get("bytes") is not None else video.get("path")
    if isinstance(video, np.ndarray | torch.Tensor | list | tuple):
        frames = stack_frames(video)
        return frames[choose_indices(len(frames))]
    name = str(video) if isinstance(video, str | os.PathLike) else f"<{type(video).__name__}>"
    try:
        return torch.from_numpy(decode_frames(video, name, choose_indices))
    except (av.error.FFmpegError, EOFError, MemoryError) as error:
        raise VideoReadError(name, getattr(error, "strerror", None) or type(error).__name__) from error


def stack_frames(video: np.ndarray | torch.Tensor | list) -> torch.Tensor:
    """Decoded frames in any of the accepted forms → [T, H, W, 3] uint8."""
    if isinstance(video, list | tuple):
        if not video:
            raise VideoReadError("<list of frames>", "it has no frames")
        video = np.stack([to_rgb_array(frame) for frame in video])
    frames = torch.as_tensor(video)
    if isinstance(video, torch.Tensor):
        if frames.ndim == 4 and frames.shape[1] == 3:
            frames = frames.permute(0, 2, 3, 1)
        else:
            raise VideoReadError("<tensor>", f"its shape is {tuple(frames.shape)}, not [T, 3, H, W]")
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise VideoReadError("<array>", f"its shape is {tuple(frames.shape)}, not [T, H, W, 3]")
    if frames.dtype != torch.uint8:
        raise VideoReadError("<array>", f"its type is {frames.dtype}, not uint8 in 0 … 255")
    return frames


def to_rgb_array(frame: Any) -> np.ndarray:
    """One frame of a list, a PIL image or an array [H, W, 3]."""
    if isinstance(frame, np.ndarray):
        return frame
    if isinstance(frame, torch.Tensor):
        return frame.permute(1, 2, 0).numpy()
    if type(frame).__module__.startswith("PIL."):
        return np.asarray(frame.convert("RGB"))
    raise TypeError(
        f"`videos` holds a frame of type {type(frame).__name__}; a list of frames is of PIL images or arrays"
    )


def decode_frames(source: Any, name: str, choose_indices: ChooseIndices) -> np.ndarray:
    """
    Decodes the wanted frames of an encoded video → [T, H, W, 3] uint8.

    The packets are listed first, without decoding: their times in order are the frame table. Then only the
    groups of pictures that hold a wanted frame are decoded, and frames are told apart by their times.
    Containers without times are decoded from the start and counted.
    """
    with open_clip(source, name) as (container, stream):
        table = list_packets(container, stream)
        has_times = container.format.name not in FORMATS_WITHOUT_TIMES
    if has_times and all(entry.pts is not None for entry in table):
        times = sorted(entry.pts for entry in table if entry.is_shown)
        wanted = [times[index] for index in choose_indices(len(times))] if times else []
        found = decode_groups(source, name, table, set(wanted))
        if len(found) < len(set(wanted)):
            # A stream that can't be entered at its keyframes, or a damaged one.
            found = decode_readable(source, name, set(wanted))
    else:
        num_frames = sum(1 for _ in decode_in_order(source, name))
        wanted = choose_indices(num_frames) if num_frames else []
        found = {n: to_rgb(frame) for n, frame in enumerate(decode_in_order(source, name)) if n in wanted}
    if not found:
        raise VideoReadError(name, "no frame of it can be decoded")
    return np.stack([found[key] for key in wanted])


@contextmanager
def open_clip(source: Any, name: str) -> Iterator[tuple[Container, Stream]]:
    """Opens a video with everything shut off that could reach elsewhere, at its first stream of pictures."""
    if isinstance(source, str | os.PathLike):
        target: Any = f"file:{check_path(os.fspath(source), name)}"
    elif isinstance(source, bytes | bytearray):
        target = io.BytesIO(source)
    elif callable(getattr(source, "read", None)) and callable(getattr(source, "seek", None)):
        source.seek(0)
        target = source
    else:
        raise TypeError(
            f"`videos` holds a {type(source).__name__}; a video is a path, bytes, a binary file, an array "
            "[T, H, W, 3], a tensor [T, 3, H, W] or a list of PIL images"
        )
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file", "max_pixels": str(MAX_PIXELS)}
    with av.open(target, options=options) as container:
        streams = [stream for stream in container.streams.video if not is_cover_picture(stream)]
        if not streams:
            raise VideoReadError(name, "it has no video stream")
        stream = streams[0]
        if not 0 < stream.width * stream.height <= MAX_PIXELS:
            raise VideoReadError(
                name, f"its frames are {stream.width}×{stream.height}; 1 to {MAX_PIXELS} pixels are read"
            )
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        stream.thread_type = "NONE"  # threads add latency, and automatic ones have hung in forked workers
        yield container, stream


def check_path(path: str, name: str) -> str:
    """
    The absolute path of a local file.

    Raises:
        VideoReadError: a URL or another protocol, nothing there, or no file that can be read.
    """
    if PROTOCOL.match(path):
        raise VideoReadError(name, "it names a protocol, and only local files are read: download it first")
    if "\0" in path or not os.path.exists(path):
        raise VideoReadError(name, "there is no such file")
    if not os.path.isfile(path):
        raise VideoReadError(name, "it is no file")
    if not os.path.getsize(path):
        raise VideoReadError(name, "it is empty")
    return os.path.abspath(path)


def is_cover_picture(stream: Stream) -> bool:
    """Whether a stream is the picture on the cover of a recording."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def demux(container: Container, stream: Stream) -> Iterator[av.Packet]:
    """The stream's packets that hold data, up to the end or to where the container is broken."""
    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except av.error.FFmpegError as error:
        warnings.warn(f"a video ends early: {error.strerror}", stacklevel=2)


def list_packets(container: Container, stream: Stream) -> list[PacketEntry]:
    """The frame table, in decode order."""
    return [
        PacketEntry(packet.pts, packet.is_keyframe, not packet.is_discard)
        for packet in demux(container, stream)
    ]


def decode_packet(stream: Stream, packet: av.Packet | None) -> list[av.VideoFrame]:
    """The whole frames that a packet completes, or with `None` those still inside; none of damaged data."""
    try:
        return [frame for frame in stream.codec_context.decode(packet) if not frame.is_corrupt]
    except av.error.FFmpegError:
        return []


def find_group_starts(table: list[PacketEntry]) -> list[int]:
    """
    Where decoding has to start for every packet: the keyframe at or before it in decode order.

    A picture that is shown before that keyframe may lean on the group before: it starts one keyframe earlier.
    """
    starts, previous, current = [], 0, 0
    for position, entry in enumerate(table):
        if entry.is_keyframe:
            previous, current = current, position
        leads = entry.pts < table[current].pts
        starts.append(previous if leads else current)
    return starts


def decode_groups(
    source: Any, name: str, table: list[PacketEntry], wanted: set[int]
) -> dict[int, np.ndarray]:
    """Decodes the groups of pictures that hold `wanted` times and nothing between them → RGB by time."""
    starts = find_group_starts(table)
    needed: set[int] = set()
    for position, entry in enumerate(table):
        if entry.pts in wanted:
            needed.update(range(starts[position], position + 1))
    group_ends = {position for position in needed if position + 1 not in needed}
    found = {}
    with open_clip(source, name) as (container, stream):
        for position, packet in enumerate(demux(container, stream)):
            if position not in needed:
                continue
            frames = decode_packet(stream, packet)
            if position in group_ends:
                frames += decode_packet(stream, None)
                stream.codec_context.flush_buffers()
            found |= {frame.pts: to_rgb(frame) for frame in frames if frame.pts in wanted}
            if len(found) == len(wanted):
                break
    return found


def decode_in_order(source: Any, name: str) -> Iterator[av.VideoFrame]:
    """Every readable frame of a video, from the start."""
    with open_clip(source, name) as (container, stream):
        for packet in demux(container, stream):
            yield from decode_packet(stream, packet)
        yield from decode_packet(stream, None)


def decode_readable(source: Any, name: str, wanted: set[int]) -> dict[int, np.ndarray]:
    """`wanted` times from a decode of everything; for one that is lost the nearest, with a warning."""
    readable = [frame.pts for frame in decode_in_order(source, name) if frame.pts is not None]
    if not readable:
        return {}
    nearest = {time: min(readable, key=lambda other, time=time: abs(other - time)) for time in wanted}
    num_lost = sum(time != other for time, other in nearest.items())
    if num_lost:
        warnings.warn(
            f"the video `{name}` is damaged: {num_lost} of {len(wanted)} frames were replaced by the nearest",
            stacklevel=2,
        )
    pixels = {
        frame.pts: to_rgb(frame)
        for frame in decode_in_order(source, name)
        if frame.pts in set(nearest.values())
    }
    return {time: pixels[other] for time, other in nearest.items()}


def to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """A decoded frame → [H, W, 3] uint8, by its own colour matrix and range, turned as its metadata says."""
    rgb = VideoReformatter().reformat(
        frame,
        format="rgb24",
        interpolation=INTERPOLATION,
        src_colorspace=frame.colorspace,
        src_color_range=frame.color_range,
        dst_color_range=ColorRange.JPEG,
        threads=1,
    )
    return np.rot90(rgb.to_ndarray(), k=round(frame.rotation / 90)).copy()


__all__ = ["VideoReadError", "read_frames"]
