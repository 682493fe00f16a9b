"""
What F-Pig's video side costs beside plain CLIP on the same frames: time and peak memory.

    python benchmarks/forward.py                                      # every row
    python benchmarks/forward.py --backbones b32 --batches 1 4

F-Pig is `encode_video`: tower, token selection, pseudo-query and interaction. Plain CLIP is transformers'
`CLIPVisionModel` on all frames as one batch, with sdpa. Weights and frames are random. The two take turns in
one process; the ratio is the median over the turns of one pair's ratio, so that what slows the machine down
for a while slows both. On a busy machine trust the ratio of processor time, with `--threads 1`: threads that
wait for each other count as busy.

Memory is what a pass takes above the loaded model and its frames, each in a process of its own, read from
Linux's /proc. There glibc hands every large tensor back when it is freed; otherwise what it keeps would hide
the peak.
"""

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from process_memory import read_memory

if TYPE_CHECKING:
    import numpy as np
    import torch

PATCH_SIZES = {"b32": 32, "b16": 16}
DTYPES = ("float32", "bfloat16")
BATCHES = (1, 4, 16)
SIDES = ("F-Pig", "CLIP")
NUM_FRAMES = 12
MIB = 2**20


def make_pass(
    side: str, backbone: str, dtype_name: str, device: str = "cpu"
) -> Callable[["torch.Tensor"], object]:
    """A function of `pixel_values` [B, T, 3, 224, 224]: one pass through a model with random weights."""
    import torch
    from transformers import CLIPVisionModel

    from modeling_fpig import FPigConfig, FPigModel

    torch.manual_seed(0)
    config = FPigConfig(vision_config={"patch_size": PATCH_SIZES[backbone]}, num_frames=NUM_FRAMES)
    dtype = getattr(torch, dtype_name)
    if side == "F-Pig":
        return FPigModel(config).eval().to(device, dtype).encode_video
    clip = CLIPVisionModel(config.vision_config).eval().to(device, dtype)
    return lambda pixel_values: clip(pixel_values=pixel_values.flatten(0, 1))


def make_frames(batch_size: int, dtype_name: str) -> "torch.Tensor":
    """Noise [B, T, 3, 224, 224]."""
    import torch

    return torch.randn(batch_size, NUM_FRAMES, 3, 224, 224).to(getattr(torch, dtype_name))


def time_in_turns(backbone: str, batch_size: int, dtype_name: str, num_turns: int) -> "np.ndarray":
    """Seconds, and seconds of all processors together, of each turn [2, sides, turns] after a first."""
    import numpy as np
    import torch

    passes = [make_pass(side, backbone, dtype_name) for side in SIDES]
    pixel_values = make_frames(batch_size, dtype_name)
    seconds = np.empty((2, len(SIDES), num_turns + 1))
    with torch.inference_mode():
        for turn in range(num_turns + 1):
            for index, run_pass in enumerate(passes):
                start = np.array([time.perf_counter(), time.process_time()])
                run_pass(pixel_values)
                seconds[:, index, turn] = np.array([time.perf_counter(), time.process_time()]) - start
    return seconds[:, :, 1:]


def measure_memory(side: str, backbone: str, batch_size: int, dtype_name: str, num_threads: int) -> int:
    """The most bytes that a pass takes above the model and its frames; for a process of its own."""
    import torch

    torch.set_num_threads(num_threads)
    run_pass = make_pass(side, backbone, dtype_name)
    pixel_values = make_frames(batch_size, dtype_name)
    with torch.inference_mode():
        run_pass(pixel_values[:1, :1])  # what threads and kernels allocate once
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = read_memory("VmRSS")
        run_pass(pixel_values)
    return read_memory("VmHWM") - before


def measure_row(backbone: str, batch_size: int, dtype_name: str, num_turns: int) -> str:
    """One row of the table."""
    import numpy as np
    import torch

    arguments = (backbone, batch_size, dtype_name)
    peaks = []
    for side in SIDES:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            future = process.submit(measure_memory, side, *arguments, torch.get_num_threads())
            peaks.append(future.result())
    seconds = time_in_turns(*arguments, num_turns)
    ratio, processor_ratio = np.median(seconds[:, 0] / seconds[:, 1], axis=-1)
    cells = (
        backbone.upper().replace("B", "B/"),
        dtype_name,
        batch_size,
        *(f"{median:.2f} s" for median in np.median(seconds[0], axis=-1)),
        f"{ratio:.3f}",
        f"{processor_ratio:.3f}",
        *(f"{peak / MIB:,.0f} MiB" for peak in peaks),
        f"{peaks[0] / peaks[1]:.3f}",
    )
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbones", nargs="+", choices=PATCH_SIZES, default=list(PATCH_SIZES))
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES, help="videos (default: 1 4 16)")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES, help="(default: both)")
    parser.add_argument("--turns", type=int, default=7, help="pairs of passes (default: 7)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: torch's)")
    arguments = parser.parse_args()
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**16)  # read by glibc when a process starts
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(f"{NUM_FRAMES} frames, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("| backbone | dtype | videos | F-Pig | CLIP | ratio of time | of processor time |", end=" ")
    print("F-Pig's peak | CLIP's | ratio of memory |")
    print("|---" * 10 + "|")
    for backbone in arguments.backbones:
        for dtype_name in arguments.dtypes:
            for batch_size in arguments.batches:
                print(measure_row(backbone, batch_size, dtype_name, arguments.turns), flush=True)


if __name__ == "__main__":
    main()
