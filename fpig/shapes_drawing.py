"""Drawing and encoding of the generated benchmark `shapes`: scene → frames (numpy) → H.264 mp4 (PyAV).

Lengths below are fractions of the frame's width; x grows to the right, y grows downwards.
"""

import io
import math
from dataclasses import dataclass

import av
import numpy as np

from fpig.shapes_scenes import Event, Scene

FRAME_SIZE = 64
NUM_FRAMES = 24
FRAMES_PER_SECOND = 8

_RGB = {
    "red": (225, 30, 30),
    "green": (30, 190, 50),
    "blue": (40, 80, 245),
    "yellow": (245, 220, 30),
    "purple": (175, 50, 225),
    "white": (240, 240, 240),
}
_RADIUS = {"small": 0.11, "big": 0.19}
_UNIT_STEP = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
_STEP = {"": 0.42, "slow": 0.22, "fast": 0.66}
_ORBIT_RADIUS = 0.2
_GROWTH = 1.8
_NUM_BLINK_FRAMES = 3
_NUM_PLACEMENTS = 12
_MARGIN = 0.02


@dataclass
class Track:
    """Where one figure is in every frame: centre [T, 2], radius [T], is_visible [T]."""

    center: np.ndarray
    radius: np.ndarray
    is_visible: np.ndarray


def draw_video(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Draw a scene: uint8 [T, H, W, 3] RGB. Places, shades, background and depth order come from `rng`."""
    frames = _draw_background(rng)
    tracks = _place_tracks([_plan_track(scene, index, rng) for index in range(len(scene.figures))], rng)
    for index in rng.permutation(len(scene.figures)):
        figure = scene.figures[index]
        color = np.asarray(_RGB[figure.color], np.float32) * rng.uniform(0.88, 1.0)
        _paint(frames, tracks[index], figure.shape, color.astype(np.float32))
    return np.clip(frames + 0.5, 0, 255).astype(np.uint8)


def encode_video(frames: np.ndarray) -> bytes:
    """Encode uint8 frames [T, H, W, 3] as H.264 (yuv420p, BT.601) in mp4; equal frames give equal bytes."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        options = {"preset": "ultrafast", "crf": "18", "x264-params": "threads=1:keyint=12"}
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.colorspace = av.video.reformatter.Colorspace.SMPTE170M
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


def _draw_background(rng: np.random.Generator) -> np.ndarray:
    """A dark pattern, smooth in space, slow in time: noise that no caption mentions; float32 [T, H, W, 3]."""
    coarse = rng.uniform(8, 80, (2, 4, 4, 1)) * rng.uniform(0.75, 1.0, (2, 1, 1, 3))
    position = np.linspace(0, 3, FRAME_SIZE)
    weights = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(4)))  # [H, 4], linear interpolation
    smooth = np.einsum("hi,kijc,wj->khwc", weights, coarse, weights).astype(np.float32)
    progress = np.linspace(0, 1, NUM_FRAMES, dtype=np.float32)[:, None, None, None]
    return smooth[0] * (1 - progress) + smooth[1] * progress


def _plan_track(scene: Scene, figure_index: int, rng: np.random.Generator) -> Track:
    """Track of one figure relative to its start."""
    base_radius = _RADIUS[scene.figures[figure_index].size] * rng.uniform(0.93, 1.07)
    track = Track(np.zeros((NUM_FRAMES, 2)), np.full(NUM_FRAMES, base_radius), np.ones(NUM_FRAMES, bool))
    for event_index, event in enumerate(scene.events):
        if event.figure_index == figure_index:
            start, end = (0, NUM_FRAMES)
            if scene.in_turn:
                start, end = event_index * NUM_FRAMES // 2, (event_index + 1) * NUM_FRAMES // 2
            _apply_event(track, event, start, end, rng)
    return track


def _apply_event(track: Track, event: Event, start: int, end: int, rng: np.random.Generator) -> None:
    """Let the event act on the track in frames `start` to `end` - 1; it stays moved and resized after it."""
    frame_indices = np.arange(NUM_FRAMES)
    progress = np.clip((frame_indices - start) / (end - start - 1), 0, 1)
    is_acting = (frame_indices >= start) & (frame_indices < end)
    is_second_half = frame_indices >= (start + end) // 2
    if event.action == "grow":
        track.radius *= _GROWTH**progress
    elif event.action == "shrink":
        track.radius *= _GROWTH**-progress
    elif event.action == "blink":
        track.is_visible &= ~is_acting | ((frame_indices - start) // _NUM_BLINK_FRAMES % 2 == 0)
    elif event.action == "appear":
        track.is_visible &= is_second_half
    elif event.action == "disappear":
        track.is_visible &= ~is_second_half
    elif event.action.startswith("circle"):
        sign = 1 if event.action == "circle clockwise" else -1  # y grows downwards: angles grow clockwise
        start_angle = rng.uniform(0, 2 * math.pi)
        angle = start_angle + sign * 2 * math.pi * progress
        orbit = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        track.center += _ORBIT_RADIUS * (orbit - [math.cos(start_angle), math.sin(start_angle)])
    elif event.action != "still":
        step = np.sum([_UNIT_STEP[word] for word in event.action.split()], axis=0)
        track.center += progress[:, None] * step * _STEP[event.speed] * rng.uniform(0.9, 1.1)


def _place_tracks(tracks: list[Track], rng: np.random.Generator) -> list[Track]:
    """Put the tracks inside the frame, shortened if too long for it; of several tries take the freest."""
    for track in tracks:
        room = 1 - 2 * (track.radius.max() + _MARGIN)
        track.center *= min(1.0, room / max(np.ptp(track.center, axis=0).max(), 1e-6))
    placements = [[_choose_offset(track, rng) for track in tracks] for _ in range(_NUM_PLACEMENTS)]
    offsets = min(placements, key=lambda offsets: _measure_overlap(tracks, offsets))
    return [
        Track(track.center + offset, track.radius, track.is_visible)
        for track, offset in zip(tracks, offsets, strict=True)
    ]


def _choose_offset(track: Track, rng: np.random.Generator) -> np.ndarray:
    margin = track.radius.max() + _MARGIN
    return rng.uniform(margin - track.center.min(axis=0), 1 - margin - track.center.max(axis=0) + 1e-9)


def _measure_overlap(tracks: list[Track], offsets: list[np.ndarray]) -> float:
    if len(tracks) == 1:
        return 0.0
    distance = np.linalg.norm(tracks[0].center + offsets[0] - tracks[1].center - offsets[1], axis=1)
    return float(np.maximum(0, 1 - distance / (tracks[0].radius + tracks[1].radius)).mean())


def _paint(frames: np.ndarray, track: Track, shape: str, color: np.ndarray) -> None:
    """Blend a figure into the frames, in place, inside a small window around it; edges are antialiased."""
    center, radius = track.center * FRAME_SIZE, track.radius * FRAME_SIZE
    reach = math.ceil(radius.max()) + 1
    corners = np.floor(center).astype(int) - reach
    window = np.arange(2 * reach + 1)
    points = corners[:, None, :] + window[None, :, None] + 0.5  # pixel centres [T, window, (x, y)]
    points = ((points - center[:, None, :]) / radius[:, None, None]).astype(np.float32)
    distance = measure_distance(shape, points[:, None, :, 0], points[:, :, None, 1])
    alpha = np.clip(0.5 - distance * radius[:, None, None], 0, 1).astype(np.float32)
    for frame_index in np.flatnonzero(track.is_visible):
        left, top = np.maximum(corners[frame_index], 0)
        right, bottom = np.minimum(corners[frame_index] + len(window), FRAME_SIZE)
        rows = slice(top - corners[frame_index, 1], bottom - corners[frame_index, 1])
        columns = slice(left - corners[frame_index, 0], right - corners[frame_index, 0])
        patch = frames[frame_index, top:bottom, left:right]
        patch += alpha[frame_index, rows, columns, None] * (color - patch)


def measure_distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance, negative inside, to the outline of a shape of radius about 1 around the origin."""
    if shape == "circle":
        return np.hypot(x, y) - 1
    if shape == "ring":
        return np.abs(np.hypot(x, y) - 0.76) - 0.24
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 0.86
    if shape == "cross":
        short, long = np.minimum(np.abs(x), np.abs(y)), np.maximum(np.abs(x), np.abs(y))
        return np.maximum(short - 0.3, long - 1)
    if shape == "triangle":
        return np.maximum(0.894 * np.abs(x) - 0.447 * (y + 1), y - 0.86)
    # A five-pointed star, one point up: fold the plane onto one of its ten equal wedges, measure one edge.
    angle = np.arctan2(x, -y)
    angle = np.abs((angle + math.pi / 5) % (2 * math.pi / 5) - math.pi / 5)
    along, across = np.hypot(x, y) * np.cos(angle), np.hypot(x, y) * np.sin(angle)
    edge = 0.48 * np.array([math.cos(math.pi / 5), math.sin(math.pi / 5)]) - np.array([1.0, 0.0])
    edge /= np.linalg.norm(edge)
    return ((along - 1) * edge[1] - across * edge[0]).astype(np.float32)
