"""Which frames of a clip stand for it: integers only, nothing is decoded here."""

import numpy as np
import torch

SAMPLING_MODES = ("test", "train")


def sample_frame_indices(
    num_available: int, num_frames: int, mode: str = "test", generator: torch.Generator | None = None
) -> list[int]:
    """
    Spreads `num_frames` indices over a clip of `num_available` frames; a shorter clip repeats frames.

    Test mode takes floor(linspace(0, n − 1, T)). Train mode moves both ends inwards by up to
    g = floor(n / (T − 1)) frames: it draws the start, uniform in {0 … g}, and then the end, uniform in
    {n − 1 − g … n − 1}. With T = 1 test mode takes the first frame and train mode any. With T of 2 or 3 the
    ends may cross; they are put in order.

    Raises:
        ValueError: a count below 1, an unknown mode, or train mode without a generator.

    >>> sample_frame_indices(10, 4)
    [0, 3, 6, 9]
    >>> sample_frame_indices(2, 4)
    [0, 0, 0, 1]
    """
    for name, value in (("num_available", num_available), ("num_frames", num_frames)):
        if value < 1:
            raise ValueError(f"`{name}` is {value}; it must be at least 1")
    if mode not in SAMPLING_MODES:
        raise ValueError(f"`mode` is {mode!r}; it must be one of {', '.join(SAMPLING_MODES)}")
    first, last = 0, num_available - 1
    if mode == "train":
        if generator is None:
            raise ValueError(
                "`generator` is None; train mode draws frames: pass a `torch.Generator`, so that runs repeat"
            )
        if num_frames == 1:
            return [draw_integer(0, last, generator)]
        gap = min(num_available // (num_frames - 1), last)
        first, last = sorted((draw_integer(0, gap, generator), draw_integer(last - gap, last, generator)))
    return np.linspace(first, last, num_frames).astype(int).tolist()


def spread_candidates(num_available: int, num_candidates: int) -> list[int]:
    """
    Indices of `num_candidates` frames spread evenly over a clip; of a shorter clip all, each once.

    Raises:
        ValueError: a count below 1.
    """
    return sample_frame_indices(num_available, min(num_available, num_candidates))


def draw_integer(low: int, high: int, generator: torch.Generator) -> int:
    """Uniform in {low … high}."""
    return int(torch.randint(low, high + 1, (), generator=generator))


__all__ = ["SAMPLING_MODES", "sample_frame_indices", "spread_candidates"]
