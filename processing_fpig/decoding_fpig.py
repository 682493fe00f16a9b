"""
The one file that opens a video: chosen frames of any clip as RGB, frame n being the n-th frame shown.

Safe by construction: local files alone, a list of container formats, bounded picture sizes. Nothing in a
file's name or content makes the decoder open another resource.
"""

import io
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any

import av
import numpy as np
import torch
from av.container import InputContainer as Container
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream as Stream

from .frame_folder_fpig import decode_folder, list_images
from .frame_table_fpig import (
    PacketEntry,
    can_skip_unreferenced,
    demux,
    find_nearest_keyframes,
    find_needed,
    list_packets,
    list_times,
)
from .frames_fpig import (
    ChooseIndices,
    Transform,
    VideoReadError,
    check_aspect_ratio,
    make_error,
    name_video,
    stack_frames,
    take_frames,
    to_rgb,
)

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif"
MAX_PIXELS = 8192 * 4320
GUESSED_RATE = 25  # frames a second, as players guess where nothing tells
PROTOCOL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def read_frames(
    video: Any,
    choose_indices: ChooseIndices,
    transform: Transform | None = None,
    keyframes_only: bool = False,
) -> torch.Tensor:
    """
    Reads chosen frames of a video.

    Args:
        video: a path; bytes or a binary file object of an encoded video; the `{"bytes", "path"}` of a
            `datasets` column `Video(decode=False)`; or decoded frames: an array [T, H, W, 3] or tensor
            [T, 3, H, W] of uint8, or a list of PIL images. The path of a folder is a video too, whose frames
            are its pictures (jpg, png or webp) in the natural order of their names.
        choose_indices: number of frames in the clip → indices wanted, in any order, repeats allowed.
        transform: what is done to each frame [H, W, 3] as soon as it is decoded, so that no more than one is
            in memory at its full size; the frames keep it by default.
        keyframes_only: take the keyframe nearest to each wanted frame of an encoded video, which can be
            decoded alone. Avi, which doesn't tell when frames are shown, is read as without.

    Returns:
        RGB frames [T, H, W, 3] uint8, or what `transform` made of them. Rotation metadata is applied, an
        alpha channel is dropped. Where a clip is damaged, the nearest readable frame stands in, with a
        warning.

    Raises:
        VideoReadError: nothing can be read, or what `video` names is no local video.
        TypeError: `video` is of another type.
    """
    name = name_video(video)
    video = take_source(video)

    def convert(frame: np.ndarray) -> np.ndarray:
        check_aspect_ratio(frame, name)
        return frame if transform is None else transform(frame)

    if isinstance(video, np.ndarray | torch.Tensor | list | tuple):
        frames = take_frames(video, name, choose_indices)
        return torch.from_numpy(np.stack([convert(frame) for frame in frames.numpy()]))
    with explain_errors(name):
        return torch.from_numpy(decode_frames(video, name, choose_indices, convert, keyframes_only))


def read_frame_seconds(
    video: Any, choose_indices: ChooseIndices, keyframes_only: bool = False
) -> list[float]:
    """
    When the frames that `read_frames` takes of an encoded video are shown, in seconds from its start, as a
    player counts them. Where the container doesn't tell, frames are taken as evenly spaced, and those of a
    folder of pictures as 25 a second.

    Raises:
        VideoReadError: as `read_frames`.
        TypeError: `video` is of another type; decoded frames have no times.
    """
    name, source = name_video(video), take_source(video)
    if is_folder(source):
        indices = choose_indices(len(list_images(os.fspath(source), name)))
        return [index / GUESSED_RATE for index in indices]
    with explain_errors(name):
        with open_clip(source, name) as (container, stream):
            table, _ = list_packets(container, stream, name)
            times = list_times(table, container.format.name)
            start, time_base = (container.start_time or 0) / av.time_base, stream.time_base
            rate = stream.average_rate or stream.guessed_rate or GUESSED_RATE
        num_available = len(list_readable(source, name, by_time=False) if times is None else times)
    if not num_available:
        raise make_error(name, "no frame of it can be decoded")
    indices = choose_indices(num_available)
    if times is None:
        return [float(index / rate) for index in indices]
    shown = [times[index] for index in indices]
    if keyframes_only:
        shown = find_nearest_keyframes(table, shown)
    return [max(0.0, float(time * time_base) - start) for time in shown]


def take_source(video: Any) -> Any:
    """What a row of a `datasets` column holds; anything else is itself."""
    if isinstance(video, dict):
        return video["bytes"] if video.get("bytes") is not None else video.get("path")
    return video


@contextmanager
def explain_errors(name: str) -> Iterator[None]:
    """Names the video where libav or the memory fails."""
    try:
        yield
    except MemoryError as error:
        raise make_error(name, "it needs more memory than there is") from error
    except av.error.FFmpegError as error:
        reason = f"it is damaged or in none of the formats {FORMATS} ({error.strerror})"
        raise make_error(name, reason) from error


def decode_frames(
    source: Any, name: str, choose_indices: ChooseIndices, convert: Transform, keyframes_only: bool
) -> np.ndarray:
    """
    Decodes the wanted frames of an encoded video and converts each → [T, H, W, 3] uint8.

    The packets are listed first, without decoding: their times in order are the frame table. Then only the
    groups of pictures that hold a wanted frame are decoded, and frames are told apart by their times.
    Containers without times are decoded from the start and counted.
    """
    if is_folder(source):
        return decode_folder(os.fspath(source), name, choose_indices, convert, MAX_PIXELS)
    found: dict[int, np.ndarray] = {}
    with open_clip(source, name) as (container, stream):
        table, packets = list_packets(container, stream, name)
        times = list_times(table, container.format.name)
        wanted = [times[index] for index in choose_indices(len(times))] if times else []
        if keyframes_only and times:
            wanted = find_nearest_keyframes(table, wanted)
        if packets is not None:
            found = decode_groups(stream.codec_context, packets, table, set(wanted), convert)
    if packets is None and wanted:
        with open_clip(source, name) as (container, stream):
            found = decode_groups(stream.codec_context, demux(container, stream), table, set(wanted), convert)
    if times is None:
        keys = list_readable(source, name, by_time=False)
        numbers = range(len(keys))
        wanted = [numbers[index] for index in choose_indices(len(keys))] if keys else []
        found = decode_readable(source, name, set(wanted), keys, convert)
    elif len(found) < len(set(wanted)):
        # A stream that can't be entered at its keyframes, or a damaged one.
        keys = list_readable(source, name, by_time=True)
        found = decode_readable(source, name, set(wanted), keys, convert)
    if not found:
        raise make_error(name, "no frame of it can be decoded")
    return stack_frames(found, wanted)


def is_folder(source: Any) -> bool:
    """Whether `source` is the path of a folder."""
    return isinstance(source, str | os.PathLike) and os.path.isdir(source)


@contextmanager
def open_clip(source: Any, name: str) -> Iterator[tuple[Container, Stream]]:
    """Opens a video with everything shut off that could reach elsewhere, at its first stream of pictures."""
    if isinstance(source, str | os.PathLike):
        target: Any = f"file:{check_path(os.fspath(source), name)}"
    elif isinstance(source, bytes | bytearray | memoryview):
        target = check_file(io.BytesIO(source), name)
    elif callable(getattr(source, "read", None)):
        target = check_file(source, name)
    else:
        raise TypeError(
            f"`videos` holds a {type(source).__name__}; a video is a path, bytes, a binary file, an array "
            "[T, H, W, 3], a tensor [T, 3, H, W] or a list of PIL images"
        )
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file", "max_pixels": str(MAX_PIXELS)}
    with av.open(target, options=options, metadata_errors="replace") as container:
        streams = [stream for stream in container.streams.video if not is_cover_picture(stream)]
        if not streams:
            raise make_error(name, "it has no video stream")
        stream = streams[0]
        if stream.codec_context is None:
            raise make_error(name, "its codec is unknown")
        if not 0 < stream.width * stream.height <= MAX_PIXELS:
            raise make_error(
                name,
                f"its frame size is {stream.width}×{stream.height}; 1 to {MAX_PIXELS} pixels are read",
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
    if "\0" in path or not os.path.exists(path):
        if PROTOCOL.match(path):
            raise make_error(name, "it names a protocol, and only local files are read: download it first")
        raise make_error(name, "there is no such file")
    if not os.path.isfile(path):
        raise make_error(name, "it is no file")
    if not os.path.getsize(path):
        raise make_error(name, "it is empty")
    return os.path.abspath(path)


def check_file(file: Any, name: str) -> Any:
    """
    A file object at its start.

    Raises:
        VideoReadError: it can't be rewound, or it is empty.
        TypeError: it gives text.
    """
    if not (callable(getattr(file, "seekable", None)) and file.seekable()):
        raise make_error(name, "it is a stream that can't be rewound; pass `file.read()`")
    file.seek(0)
    first = file.read(1)
    if isinstance(first, str):
        raise TypeError("`videos` holds a file opened for text; open it with mode 'rb'")
    if not first:
        raise make_error(name, "it is empty")
    file.seek(0)
    return file


def is_cover_picture(stream: Stream) -> bool:
    """Whether a stream is the picture on the cover of a recording."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def decode_groups(
    decoder: av.VideoCodecContext,
    packets: Iterable[av.Packet],
    table: list[PacketEntry],
    wanted: set[int],
    convert: Transform,
) -> dict[int, np.ndarray]:
    """Decodes the groups of pictures that hold `wanted` times and nothing between them → frames by time."""
    if not wanted:
        return {}
    needed = find_needed(table, wanted)
    group_ends = {position for position in needed if position + 1 not in needed}
    can_skip = can_skip_unreferenced(decoder)
    found, reformatter = {}, VideoReformatter()
    with suppress(av.error.FFmpegError):
        for position, packet in enumerate(packets):
            if position not in needed:
                continue
            if can_skip:
                decoder.skip_frame = "DEFAULT" if table[position].pts in wanted else "NONREF"
            frames = decoder.decode(packet)
            if position in group_ends:
                frames += decoder.decode(None)
                decoder.flush_buffers()
            if any(frame.is_corrupt for frame in frames):
                break
            shown = [frame for frame in frames if frame.pts in wanted]
            found |= {frame.pts: convert(to_rgb(frame, reformatter)) for frame in shown}
            if len(found) == len(wanted):
                break
    return found


def decode_in_order(source: Any, name: str) -> Iterator[av.VideoFrame | None]:
    """Every frame of a video, from the start; None for one that can't be read."""
    with open_clip(source, name) as (container, stream):
        for packet in chain(demux(container, stream), [None]):
            try:
                frames = stream.codec_context.decode(packet)
            except av.error.FFmpegError:
                yield None
            else:
                yield from (None if frame.is_corrupt else frame for frame in frames)


def list_readable(source: Any, name: str, by_time: bool) -> list[int | None]:
    """Decodes a whole video: the time of each frame, or its number, and None for one that can't be read."""
    frames = enumerate(decode_in_order(source, name))
    keys = [None if frame is None else (frame.pts if by_time else number) for number, frame in frames]
    return keys if any(key is not None for key in keys) else []


def decode_readable(
    source: Any, name: str, wanted: set[int], keys: list[int | None], convert: Transform
) -> dict[int, np.ndarray]:
    """`wanted` frames from a decode of everything; for one that is lost the nearest, with a warning."""
    readable = [key for key in keys if key is not None]
    if not readable:
        return {}
    nearest = {key: min(readable, key=lambda other, key=key: abs(other - key)) for key in wanted}
    num_lost = sum(key != other for key, other in nearest.items())
    if num_lost or None in keys:
        warnings.warn(
            f"the video `{name}` is damaged: {keys.count(None)} of its frames can't be read, "
            f"{num_lost} of {len(wanted)} wanted ones were replaced by the nearest",
            stacklevel=2,
        )
    taken = set(nearest.values())
    frames = zip(keys, decode_in_order(source, name), strict=False)
    reformatter = VideoReformatter()
    pixels = {key: convert(to_rgb(frame, reformatter)) for key, frame in frames if key in taken}
    return {key: pixels[other] for key, other in nearest.items()}


__all__ = ["VideoReadError", "read_frame_seconds", "read_frames"]
