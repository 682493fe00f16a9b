"""Frames to pixel values: sampling, resizing, cropping and normalising, in torch alone."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers.feature_extraction_utils import BatchFeature
from transformers.video_processing_utils import VideoProcessorMixin

from .decoding_fpig import read_frame_seconds, read_frames
from .frame_sampling_fpig import SAMPLING_MODES, sample_frame_indices, spread_candidates

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
RESIZE_MODES = ("crop", "squash")


class FPigVideoProcessor(VideoProcessorMixin):
    """
    Samples frames of videos and makes pixel values of them.

    Args:
        num_frames: frames T taken of each video, at least 1.
        size: width and height S of the pixel values.
        resize_mode: `"crop"` resizes the short side to `size` and cuts the centre, as CLIP does; `"squash"`
            resizes both sides to `size` without antialias, as the authors' code does.
        image_mean: per channel, of values in [0, 1]; CLIP's by default.
        image_std: per channel; CLIP's by default.
        keyframes_only: take the keyframe nearest to each frame, which needs no other frame to be decoded:
            faster where keyframes are far apart, but a clip with one keyframe becomes one picture.

    Raises:
        ValueError: naming the setting, its value, the rule and the repair.
    """

    model_input_names = ["pixel_values"]  # noqa: RUF012

    def __init__(
        self,
        num_frames: int = 12,
        size: int = 224,
        resize_mode: str = "crop",
        image_mean: tuple[float, ...] = CLIP_MEAN,
        image_std: tuple[float, ...] = CLIP_STD,
        keyframes_only: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, value in (("num_frames", num_frames), ("size", size)):
            check_count(name, value)
        if resize_mode not in RESIZE_MODES:
            raise ValueError(f"`resize_mode` is {resize_mode!r}; it must be one of {', '.join(RESIZE_MODES)}")
        for name, values in (("image_mean", image_mean), ("image_std", image_std)):
            is_number = [isinstance(value, int | float) and math.isfinite(value) for value in values]
            if is_number != [True] * 3:
                raise ValueError(
                    f"`{name}` is {values}; it must have 3 finite numbers, for red, green and blue"
                )
        if min(image_std) <= 0:
            raise ValueError(f"`image_std` is {image_std}; its numbers must be above 0")
        if not isinstance(keyframes_only, bool):
            raise ValueError(f"`keyframes_only` is {keyframes_only!r}; it must be True or False")
        self.num_frames = num_frames
        self.keyframes_only = keyframes_only
        self.size = size
        self.resize_mode = resize_mode
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)

    def __call__(
        self,
        videos: Any,
        num_frames: int | None = None,
        mode: str = "test",
        generator: torch.Generator | None = None,
        num_candidates: int | None = None,
        return_tensors: str | None = "pt",
        video_metadata: Any = None,
    ) -> BatchFeature:
        """
        One video or a list of them → `pixel_values` [B, T, 3, S, S] float32.

        Args:
            videos: a video is a path (of a file, or of a folder with its frames as pictures), bytes, a binary
                file, a `{"bytes", "path"}`, an array [T, H, W, 3] or tensor [T, 3, H, W] of uint8, or a list
                of PIL images or arrays [H, W, 3]. So a list of images is one video; a list of anything else
                is a list of videos.
            num_frames: instead of the processor's own.
            mode: `"test"` spreads the frames evenly; `"train"` also draws the ends and needs `generator`.
            generator: draws for train mode; equal states give equal frames.
            num_candidates: choose out of so many frames that are spread evenly over the video; out of all by
                default.
            return_tensors: `"pt"`, or `"np"` for arrays.
            video_metadata: what transformers' processors are told of decoded videos; frames are counted here,
                so it says nothing that is needed.

        Raises:
            VideoReadError: a video can't be read; it names the path and the reason.
            ValueError: a bad argument, or no video.
        """
        if return_tensors not in ("pt", "np", None):
            raise ValueError(f"`return_tensors` is {return_tensors!r}; it must be 'pt' or 'np'")
        if mode not in SAMPLING_MODES:
            raise ValueError(f"`mode` is {mode!r}; it must be one of {', '.join(SAMPLING_MODES)}")
        num_frames = self.num_frames if num_frames is None else num_frames
        check_count("num_frames", num_frames)
        batch = split_batch(videos)
        if not batch:
            raise ValueError("`videos` is an empty list; pass at least one video")
        choose_indices = partial(
            self.choose_indices,
            num_frames=num_frames,
            mode=mode,
            generator=generator,
            num_candidates=num_candidates,
        )
        pixel_values = torch.empty(len(batch), num_frames, 3, self.size, self.size)
        for clip, video in zip(pixel_values, batch, strict=True):
            self.normalize_into(clip, read_frames(video, choose_indices, self.resize, self.keyframes_only))
        return BatchFeature({"pixel_values": pixel_values}, tensor_type=return_tensors)

    def choose_indices(
        self,
        num_available: int,
        num_frames: int,
        mode: str = "test",
        generator: torch.Generator | None = None,
        num_candidates: int | None = None,
    ) -> list[int]:
        """Which frames of a clip of `num_available` are taken; arguments as those of a call."""
        candidates: Sequence[int] = range(num_available)
        if num_candidates is not None:
            check_count("num_candidates", num_candidates)
            candidates = spread_candidates(num_available, num_candidates)
        chosen = sample_frame_indices(len(candidates), num_frames, mode, generator)
        return [candidates[index] for index in chosen]

    def read_candidates(self, video: Any, num_candidates: int) -> torch.Tensor:
        """
        The frames of one video that a call with `num_candidates` chooses from, resized → [C, 3, S, S] uint8;
        C is the video's number of frames where it has fewer. They are a video themselves: a call with them
        gives the pixel values that a call with `video` gives.

        Raises:
            VideoReadError: the video can't be read.
        """
        check_count("num_candidates", num_candidates)
        choose = partial(spread_candidates, num_candidates=num_candidates)
        return read_frames(video, choose, self.resize, self.keyframes_only).permute(0, 3, 1, 2)

    def read_frame_seconds(self, video: Any) -> list[float]:
        """
        When the frames taken of an encoded video in test mode are shown: T seconds from its start.

        Raises:
            VideoReadError: the video can't be read.
        """

        choose_indices = partial(self.choose_indices, num_frames=self.num_frames)
        return read_frame_seconds(video, choose_indices, self.keyframes_only)

    def resize(self, frame: np.ndarray) -> np.ndarray:
        """A frame [H, W, 3] uint8 → [S, S, 3]."""
        return resize_frame(frame, self.size, self.resize_mode)

    def make_pictures(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Undoes the normalisation: pixel values [..., 3, S, S] → RGB uint8, what the model sees."""
        mean, std = self.get_channel_statistics()
        return (pixel_values * std + mean).mul(255).round().clamp(0, 255).to(torch.uint8)

    def normalize_into(self, pixel_values: torch.Tensor, frames: torch.Tensor) -> None:
        """Writes RGB frames [T, S, S, 3] uint8, normalised, to [T, 3, S, S] float32."""
        mean, std = self.get_channel_statistics()
        # In place: to get new memory takes longer than the arithmetic.
        pixel_values.copy_(frames.permute(0, 3, 1, 2)).div_(255).sub_(mean).div_(std)

    def get_channel_statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """`image_mean` and `image_std`, each [3, 1, 1]."""
        mean = torch.tensor(self.image_mean).view(3, 1, 1)
        std = torch.tensor(self.image_std).view(3, 1, 1)
        return mean, std


def check_count(name: str, value: Any) -> None:
    """Raises a `ValueError` unless `value` is an integer of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"`{name}` is {value!r}; it must be an integer of at least 1")


def split_batch(videos: Any) -> list[Any]:
    """The videos of a call, whether it was given one or a list; a list of images is one video."""
    if not isinstance(videos, list | tuple):
        return [videos]
    if videos and all(is_image(frame) for frame in videos):
        return [videos]
    # sentence-transformers hands on a list of images as the one video of a list.
    return [video[0] if is_list_of_list(video) else video for video in videos]


def is_list_of_list(video: Any) -> bool:
    """Whether `video` is a list that holds one list and nothing else."""
    return isinstance(video, list) and len(video) == 1 and isinstance(video[0], list)


def is_image(frame: Any) -> bool:
    """Whether `frame` is one picture: a PIL image, or an array or tensor of three dimensions."""
    if isinstance(frame, np.ndarray | torch.Tensor):
        return frame.ndim == 3
    return type(frame).__module__.startswith("PIL.")


def resize_frame(frame: np.ndarray, size: int, mode: str) -> np.ndarray:
    """
    Bicubic, [H, W, 3] uint8 → [size, size, 3]; with antialias in mode `"crop"`.

    As bytes, so that sums are rounded and cut off after each direction, as Pillow does for CLIP.
    """
    height, width = frame.shape[:2]
    if height == width == size:
        return frame
    short = min(height, width)
    is_crop = mode == "crop"
    target = (size * height // short, size * width // short) if is_crop else (size, size)
    top, left = (target[0] - size) // 2, (target[1] - size) // 2
    channels_first = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)
    resized = torch.nn.functional.interpolate(channels_first[None], target, mode="bicubic", antialias=is_crop)
    return resized[0, :, top : top + size, left : left + size].permute(1, 2, 0).numpy()


__all__ = ["FPigVideoProcessor"]
