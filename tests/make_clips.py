"""Small clips, really encoded, whose every frame shows its own number."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from typing import Any

import av
import numpy as np

from processing_fpig.decoding_fpig import read_frames

NUM_BITS = 6


def paint_frames(num_frames: int, width: int = 96, height: int = 64) -> np.ndarray:
    """
    RGB frames [T, H, W, 3] that all differ: above the number in binary, white for 1, the highest bit first;
    below a slope of colour that moves on.
    """
    frames = np.zeros((num_frames, height, width, 3), np.uint8)
    block = width // NUM_BITS
    columns = np.arange(width)[None, :]
    rows = np.arange(height - height // 2)[:, None]
    for number in range(num_frames):
        for bit in range(NUM_BITS):
            is_one = number >> (NUM_BITS - 1 - bit) & 1
            frames[number, : height // 2, bit * block : (bit + 1) * block] = 235 if is_one else 20
        below = frames[number, height // 2 :]
        below[..., 0] = 40 + (columns * 2 + number * 5) % 160
        below[..., 1] = 60 + (rows * 3 + number * 3) % 120
        below[..., 2] = 200 - number
    return frames


def read_numbers(frames: np.ndarray) -> list[int]:
    """The number that each of the frames [T, H, W, 3] shows."""
    frames = np.asarray(frames)
    block = frames.shape[2] // NUM_BITS
    top = frames.shape[1] // 8, frames.shape[1] * 3 // 8
    numbers = []
    for frame in frames:
        bits = [frame[top[0] : top[1], bit * block + 4 : (bit + 1) * block - 4] for bit in range(NUM_BITS)]
        numbers.append(sum(int(part.mean() > 128) << (NUM_BITS - 1 - bit) for bit, part in enumerate(bits)))
    return numbers


def read_all(video: Any) -> np.ndarray:
    """Every frame of a video [T, H, W, 3], through the reader that is tested."""
    return read_frames(video, lambda num_available: list(range(num_available))).numpy()


def get_scheduling() -> tuple[Any, ...] | None:
    """Policy and parameters by which this thread gets a core; `None` where a system has no such calls."""
    return (os.sched_getscheduler(0), os.sched_getparam(0)) if sys.platform == "linux" else None


@contextmanager
def keep_scheduling() -> Iterator[None]:
    """
    SVT-AV1 makes the thread that calls it a real-time one where it may, as it may for root: every test and
    every process after it would keep all others from the cores.
    """
    before = get_scheduling()
    try:
        yield
    finally:
        if before:
            os.sched_setscheduler(0, *before)


def encode_clip(
    frames: np.ndarray,
    container_format: str = "mp4",
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    times: list[int] | None = None,
    rotation: int = 0,
    container_options: dict[str, str] | None = None,
) -> bytes:
    """
    Encodes frames at 10 a second or, with `times`, at these milliseconds. `rotation` is what a player turns
    the frames by, in degrees counter-clockwise.
    """
    file = io.BytesIO()
    with av.open(file, "w", format=container_format, container_options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=10, options=options or {})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        stream.codec_context.thread_count = 1
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24" if picture.shape[-1] == 3 else "rgba")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


X264 = {"crf": "12", "preset": "veryfast", "threads": "1"}
LONG_GOP = X264 | {"g": "250", "bf": "3", "b-pyramid": "normal"}
SHORT_GOP = X264 | {"g": "8", "bf": "2", "sc_threshold": "0"}
OPEN_GOP = SHORT_GOP | {"x264-params": "open-gop=1"}
VP9 = {"crf": "15", "b": "0", "cpu-used": "8", "deadline": "realtime"}
VFR_TIMES = [number * 40 + 160 * (number // 3) for number in range(30)]

# Name → how it is encoded; `num_frames`, `width` and `height` are `paint_frames`'s, the rest `encode_clip`'s.
CLIPS = {
    "mp4_one_group_b_frames": {"options": LONG_GOP},
    "mp4_short_groups": {"options": SHORT_GOP},
    "mp4_open_groups": {"options": OPEN_GOP},
    "mp4_hevc": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=12:crf=12:pools=1"}},
    "mp4_av1": {"codec": "libsvtav1", "options": {"preset": "12", "crf": "15", "svtav1-params": "lp=1"}},
    "mp4_mpeg4": {"codec": "mpeg4", "options": {"b": "2000000", "bf": "2", "g": "12"}},
    "mkv_h264": {"container_format": "matroska", "options": SHORT_GOP},
    "mkv_ffv1": {"container_format": "matroska", "codec": "ffv1", "pixel_format": "bgr0"},
    "webm_vp9": {"container_format": "webm", "codec": "libvpx-vp9", "options": VP9},
    "webm_vp8": {
        "container_format": "webm",
        "codec": "libvpx",
        "options": {"b": "1000000", "deadline": "realtime", "g": "16"},
    },
    "webm_alpha": {
        "container_format": "webm",
        "codec": "libvpx-vp9",
        "pixel_format": "yuva420p",
        "options": VP9 | {"auto-alt-ref": "0"},
        "has_alpha": True,
    },
    "avi_mpeg4": {"container_format": "avi", "codec": "mpeg4", "options": {"b": "2000000", "g": "12"}},
    "avi_mpeg4_b_frames": {
        "container_format": "avi",
        "codec": "mpeg4",
        "options": {"b": "2000000", "bf": "2", "g": "12"},
    },
    "avi_h264_b_frames": {"container_format": "avi", "options": SHORT_GOP},
    "avi_mjpeg": {"container_format": "avi", "codec": "mjpeg", "pixel_format": "yuvj420p"},
    "mov_h264": {"container_format": "mov", "options": LONG_GOP},
    "mov_prores_10_bit": {"container_format": "mov", "codec": "prores_ks", "pixel_format": "yuv422p10le"},
    "mov_alpha": {"container_format": "mov", "codec": "qtrle", "pixel_format": "argb", "has_alpha": True},
    "ts_h264": {"container_format": "mpegts", "options": SHORT_GOP},
    "ts_h264_intra_refresh": {
        "container_format": "mpegts",
        "options": X264 | {"x264-params": "intra-refresh=1:keyint=8"},
    },
    "ts_mpeg2": {
        "container_format": "mpegts",
        "codec": "mpeg2video",
        "options": {"b": "3000000", "bf": "2", "g": "12"},
    },
    "mpeg_ps": {
        "container_format": "mpeg",
        "codec": "mpeg2video",
        "options": {"b": "3000000", "bf": "2", "g": "12"},
    },
    "gif": {"container_format": "gif", "codec": "gif", "pixel_format": "rgb8"},
    "mp4_variable_rate": {"options": SHORT_GOP, "times": VFR_TIMES},
    "mkv_variable_rate": {"container_format": "matroska", "options": SHORT_GOP, "times": VFR_TIMES},
    "mp4_10_bit": {"pixel_format": "yuv420p10le", "options": LONG_GOP},
    "mp4_444_odd_size": {"pixel_format": "yuv444p", "options": SHORT_GOP, "width": 97, "height": 61},
    "mkv_odd_size": {
        "container_format": "matroska",
        "codec": "libvpx-vp9",
        "options": VP9,
        "width": 97,
        "height": 61,
    },
    "mp4_fragments": {"options": SHORT_GOP, "container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "mkv_no_duration": {
        "container_format": "matroska",
        "options": SHORT_GOP,
        "container_options": {"live": "1"},
    },
    "mp4_one_frame": {"options": LONG_GOP, "num_frames": 1},
    "webm_one_frame": {"container_format": "webm", "codec": "libvpx-vp9", "options": VP9, "num_frames": 1},
    "avi_one_frame": {"container_format": "avi", "codec": "mpeg4", "num_frames": 1},
    "gif_one_frame": {"container_format": "gif", "codec": "gif", "pixel_format": "rgb8", "num_frames": 1},
    "ts_one_frame": {"container_format": "mpegts", "options": LONG_GOP, "num_frames": 1},
}


@cache
def make_clip(name: str) -> bytes:
    """The clip `name` of `CLIPS`, encoded once."""
    settings = dict(CLIPS[name])
    size = {key: settings.pop(key) for key in ("width", "height") if key in settings}
    frames = paint_frames(settings.pop("num_frames", 30), **size)
    if settings.pop("has_alpha", False):
        alpha = np.full((*frames.shape[:3], 1), 255, np.uint8)
        alpha[:, :, : frames.shape[2] // 2] = 90
        frames = np.concatenate([frames, alpha], axis=-1)
    with keep_scheduling():
        return encode_clip(frames, **settings)


def list_packets(clip: bytes) -> list[tuple[int, int]]:
    """Where each packet's data begins in the file and how long it is, in decode order."""
    with av.open(io.BytesIO(clip)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
