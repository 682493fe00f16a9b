"""Decoded frames: libav's, arrays, tensors, pictures. And the error for videos that can't be read."""

import os
from collections.abc import Callable
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation, VideoReformatter

# Number of frames in a clip → indices of those wanted, in any order, repeats allowed.
ChooseIndices = Callable[[int], list[int]]
# A frame [H, W, 3] → what is kept of it, another such array.
Transform = Callable[[np.ndarray], np.ndarray]
MAX_ASPECT_RATIO = 32
INTERPOLATION = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


class VideoReadError(ValueError):
    """
    A video that can't be read. `path` names it and `reason` says why.

    What a worker of a `DataLoader` raises, torch makes anew in the main process from the message alone: it
    still says both, but `path` and `reason` are None then.
    """

    def __init__(self, message: str, path: str | None = None, reason: str | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.reason = reason


def make_error(path: str, reason: str) -> VideoReadError:
    """The error for a video that can't be read."""
    return VideoReadError(f"can't read the video `{path}`: {reason}", path, reason)


def name_video(video: Any) -> str:
    """What errors and warnings call a video: its path where one is known, else its type."""
    if isinstance(video, dict):
        path = video.get("path")
    else:
        path = video if isinstance(video, str | os.PathLike) else getattr(video, "name", None)
    return os.fsdecode(path) if isinstance(path, str | os.PathLike) else f"<{type(video).__name__}>"


def check_aspect_ratio(frame: np.ndarray, name: str) -> None:
    """
    Raises:
        VideoReadError: one side of a frame [H, W, 3] is so much longer that resizing the other to a model's
            input, which keeps the ratio, would need more memory than the video itself.
    """
    height, width = frame.shape[:2]
    if max(height, width) > MAX_ASPECT_RATIO * min(height, width):
        raise make_error(
            name,
            f"its frame size is {width}×{height}; one side is at most {MAX_ASPECT_RATIO} times the other",
        )


def to_rgb(frame: av.VideoFrame, reformatter: VideoReformatter) -> np.ndarray:
    """
    A decoded frame → [H, W, 3] uint8, by its own colour matrix and range, turned as its metadata says.

    One `reformatter` for all frames of a clip spares each of them its making.
    """
    # libav computes the same values of packed pixels, but one by one: four times as long.
    planar = reformatter.reformat(frame, format="gbrp", interpolation=INTERPOLATION, threads=1)
    green, blue, red = (
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : planar.width]
        for plane in planar.planes
    )
    return np.rot90(np.stack([red, green, blue], axis=-1), k=round(frame.rotation / 90))


def stack_frames(found: dict[int, np.ndarray], wanted: list[int]) -> np.ndarray:
    """`wanted` frames out of `found`, which is emptied, in the size of the first of them → [T, H, W, 3]."""
    height, width, _ = found[wanted[0]].shape
    frames = np.empty((len(wanted), height, width, 3), np.uint8)
    for key in list(found):  # taken out one by one: a large clip is never held twice
        frame = found.pop(key)
        if frame.shape != frames.shape[1:]:
            frame = (
                av.VideoFrame.from_ndarray(frame)
                .reformat(width, height, interpolation=INTERPOLATION)
                .to_ndarray()
            )
        for index, other in enumerate(wanted):
            if other == key:
                frames[index] = frame
    return frames


def take_frames(
    video: np.ndarray | torch.Tensor | list, name: str, choose_indices: ChooseIndices
) -> torch.Tensor:
    """Chosen ones of decoded frames in any of the accepted forms → [T, H, W, 3] uint8."""
    indices, layout, channel_axis = None, "[T, H, W, 3]", 3
    if isinstance(video, list | tuple):
        if not video:
            raise make_error(name, "it has no frames")
        pictures = [to_rgb_array(video[index]) for index in choose_indices(len(video))]
        shapes = sorted({picture.shape for picture in pictures})
        if len(shapes) > 1:
            raise make_error(name, f"its frames differ in shape: {shapes[0]} and {shapes[1]}")
        video, indices = np.stack(pictures), list(range(len(pictures)))
    elif isinstance(video, torch.Tensor):
        layout, channel_axis = "[T, 3, H, W]", 1
    if video.ndim != 4 or video.shape[channel_axis] != 3 or 0 in video.shape:
        raise make_error(name, f"its shape is {tuple(video.shape)}, not {layout}")
    if str(video.dtype).removeprefix("torch.") != "uint8":
        raise make_error(name, f"its type is {video.dtype}, not uint8 in 0 … 255")
    frames = video[choose_indices(len(video)) if indices is None else indices]
    if isinstance(frames, torch.Tensor):
        return frames.permute(0, 2, 3, 1).cpu()
    return torch.from_numpy(np.ascontiguousarray(frames))


def to_rgb_array(frame: Any) -> np.ndarray:
    """One frame of a list, a PIL image, an array [H, W, 3] or a tensor [3, H, W]."""
    if isinstance(frame, np.ndarray):
        return frame
    if isinstance(frame, torch.Tensor) and frame.ndim == 3:
        return frame.permute(1, 2, 0).cpu().numpy()
    if type(frame).__module__.startswith("PIL."):
        return np.asarray(frame.convert("RGB"))
    raise TypeError(
        f"`videos` holds a frame of type {type(frame).__name__}; a list of frames is of PIL images, arrays "
        "[H, W, 3] or tensors [3, H, W]"
    )


__all__ = [
    "ChooseIndices",
    "Transform",
    "VideoReadError",
    "check_aspect_ratio",
    "make_error",
    "name_video",
    "stack_frames",
    "take_frames",
    "to_rgb",
]
