"""
Where the time goes from the file to the embedding, and what worker processes bring.

    python benchmarks/pipeline.py                                       # both, and the figure
    python benchmarks/pipeline.py --workers 16 --figure throughput.png  # on a machine with 16 cores

The first table has one video's milliseconds of processor time, one thread, 12 frames: stage by stage, each by
itself; `together` from the file to pixel values; then `encode_video` of a ViT-B/32 with random weights, in
float32 on the CPU and, if there is one, in bfloat16 on the GPU.

The second has videos a second against the number of worker processes of a `DataLoader`, from the file to
pixel values in the main process. Beside it the same work in as many processes that hand nothing over: what
the machine has to give. All take turns, and the workers have started before; the median of the turns counts.
It needs processes that fork, as on Linux.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from decoding import NUM_FRAMES, decode_floor, make_clips, print_row
from forward import make_frames, make_pass

if TYPE_CHECKING:
    from processing_fpig import FPigVideoProcessor

CLASSES = ("h264_320x240_10s_gop250", "h264_1280x720_10s_gop12")
VIDEOS_PER_TURN = 32


def use_one_thread(number: int = 0) -> None:
    """What a worker process does first; takes its number."""
    import torch

    torch.set_num_threads(1)


def measure(runs: list[Callable[[], object]], num_turns: int, clock: Callable[[], float]) -> list[float]:
    """Median milliseconds of what takes turns; a first turn warms up."""
    milliseconds: list[list[float]] = [[] for _ in runs]
    for _ in range(num_turns + 1):
        for run, values in zip(runs, milliseconds, strict=True):
            start = clock()
            run()
            values.append(1000 * (clock() - start))
    return [statistics.median(values[1:]) for values in milliseconds]


def time_stages(path: Path, num_turns: int) -> dict[str, float]:
    """Milliseconds of processor time from the file to pixel values, stage by stage and all together."""
    import numpy as np
    import torch
    from av.video.reformatter import VideoReformatter

    from processing_fpig import FPigVideoProcessor
    from processing_fpig.decoding_fpig import open_clip
    from processing_fpig.frame_table_fpig import list_packets
    from processing_fpig.frames_fpig import to_rgb

    processor, reformatter = FPigVideoProcessor(num_frames=NUM_FRAMES), VideoReformatter()

    def open_and_list() -> None:
        with open_clip(str(path), path.name) as (container, stream):
            list_packets(container, stream, path.name)

    with open_clip(str(path), path.name) as (container, stream):
        decoded = list(islice(container.decode(stream), NUM_FRAMES))
    pictures = [to_rgb(frame, reformatter) for frame in decoded]
    resized = torch.from_numpy(np.stack([processor.resize(picture) for picture in pictures]))
    opened, to_decoded, converted, resizing, normalised, together = measure(
        [
            open_and_list,
            partial(decode_floor, str(path)),  # opens and lists too
            lambda: [to_rgb(frame, reformatter) for frame in decoded],
            lambda: [processor.resize(picture) for picture in pictures],
            lambda: processor.normalize_into(torch.empty(NUM_FRAMES, 3, *[processor.size] * 2), resized),
            partial(processor, path),
        ],
        num_turns,
        time.process_time,
    )
    return {
        "open, list packets": opened,
        "decode": to_decoded - opened,
        "convert to RGB": converted,
        "resize": resizing,
        "normalise": normalised,
        "together": together,
    }


def time_encoding(num_turns: int) -> dict[str, float]:
    """Milliseconds of one video's way through the model, on every device that is there."""
    import torch

    with torch.inference_mode():
        run, pixel_values = make_pass("F-Pig", "b32", "float32"), make_frames(1, "float32")
        (milliseconds,) = measure([partial(run, pixel_values)], num_turns, time.process_time)
        stages = {"encode, CPU": milliseconds}
        if torch.cuda.is_available():
            run, pixel_values = (
                make_pass("F-Pig", "b32", "bfloat16", "cuda"),
                make_frames(1, "bfloat16").cuda(),
            )

            def run_to_end() -> None:
                run(pixel_values)
                torch.cuda.synchronize()

            (stages["encode, GPU"],) = measure([run_to_end], num_turns, time.perf_counter)
    return stages


def print_stages(paths: list[Path], num_turns: int) -> None:
    """The table of milliseconds."""
    encoding = time_encoding(num_turns)
    for number, path in enumerate(paths):
        stages = time_stages(path, num_turns) | encoding
        if not number:
            print_row("clip", *(f"{name}, ms" for name in stages))
            print("|---" * (1 + len(stages)) + "|")
        print_row(path.stem, *(f"{value:.1f}" for value in stages.values()))


def read_video(processor: "FPigVideoProcessor", path: str) -> None:
    """What a worker does, but for handing it over."""
    processor(path)


def count_videos_per_second(path: Path, max_workers: int, num_turns: int) -> tuple[list[float], list[float]]:
    """Of 1 to `max_workers` workers of a loader, and of as many processes that hand nothing over."""
    from torch.utils.data import DataLoader

    from processing_fpig import FPigVideoProcessor

    processor = FPigVideoProcessor(num_frames=NUM_FRAMES)
    videos = [str(path)] * VIDEOS_PER_TURN
    with ExitStack() as stack:
        turns: list[Callable[[], object]] = []
        for num_workers in range(1, max_workers + 1):
            loader = DataLoader(
                videos,
                None,
                num_workers=num_workers,
                collate_fn=lambda video: processor(video)["pixel_values"],
                worker_init_fn=use_one_thread,
                persistent_workers=True,
                multiprocessing_context="fork",
            )
            turns.append(partial(list, loader))
        for num_workers in range(1, max_workers + 1):
            pool = stack.enter_context(get_context("fork").Pool(num_workers, use_one_thread))
            turns.append(partial(pool.map, partial(read_video, processor), videos, 1))
        seconds: list[list[float]] = [[] for _ in turns]
        for _ in range(num_turns + 1):
            for run, values in zip(turns, seconds, strict=True):
                start = time.perf_counter()
                run()
                values.append(time.perf_counter() - start)
    rates = [VIDEOS_PER_TURN / statistics.median(values[1:]) for values in seconds]
    return rates[:max_workers], rates[max_workers:]


def draw_throughput(measured: dict[str, tuple[list[float], list[float]]], path: Path) -> None:
    """Videos a second against workers, one panel a clip."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(measured), figsize=(9, 3.4), layout="constrained", squeeze=False)
    for axis, (name, rates) in zip(axes[0], measured.items(), strict=True):
        for values, label, style in zip(
            rates, ("workers of a DataLoader", "processes that hand nothing over"), ("o-", "s--"), strict=True
        ):
            axis.plot(range(1, len(values) + 1), values, style, label=label)
        axis.set(title=name, xlabel="processes", xticks=range(1, len(rates[0]) + 1), ylim=(0, None))
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("videos a second")
    axes[0, 0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measures, prints and draws."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", nargs="+", default=CLASSES, help="words in the names of clips")
    parser.add_argument("--turns", type=int, default=5, help="the median counts (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="up to how many")
    parser.add_argument("--clips_dir", type=Path, default=Path("outputs", "benchmarks", "clips"))
    parser.add_argument("--figure", type=Path, default=Path("outputs", "throughput.png"))
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
    paths = make_clips(arguments.clips_dir, arguments.classes)
    print_stages(paths, arguments.turns)
    measured = {}
    print()
    print_row("clip", "processes", "workers, videos/s", "times one", "nothing handed over", "times one")
    print("|---" * 6 + "|")
    for path in paths:
        measured[path.stem] = count_videos_per_second(path, arguments.workers, arguments.turns)
        for number, (rate, alone) in enumerate(zip(*measured[path.stem], strict=True), start=1):
            first, first_alone = (rates[0] for rates in measured[path.stem])
            times = (f"{rate:.1f}", f"{rate / first:.2f}", f"{alone:.1f}", f"{alone / first_alone:.2f}")
            print_row(path.stem, number, *times)
    draw_throughput(measured, arguments.figure)
    print(f"\nDrawn to {arguments.figure}")


if __name__ == "__main__":
    main()
