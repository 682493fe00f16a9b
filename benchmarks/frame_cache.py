"""
How many videos a second training reads with and without the cache of their frames.

    python benchmarks/frame_cache.py                             # clips of 10 s, two worker processes
    python benchmarks/frame_cache.py --classes h264_320x240 --workers 0

The three ways take turns over the same items: decoded in every epoch; the first epoch with `--frame_cache`,
which decodes all candidates and keeps them; and a later one, which reads them. The median of the turns
counts. All files come from memory; the last column is what a disk would have to give a later epoch, MiB a
second.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from decoding import MIB, make_clips, print_row

if TYPE_CHECKING:
    from fpig.training_items import VideoCaptionDataset

NUM_FRAMES = 12
NUM_CANDIDATES = 48
COPIES = 8  # of a clip for each worker
LATER_ROUNDS = 16  # through them where they are read in no time


def make_items(paths: list[Path], cache_dir: Path | None) -> "VideoCaptionDataset":
    """The training items of some clips."""
    from fpig.datasets import CaptionedVideo
    from fpig.frame_cache import FrameCache
    from fpig.training_items import VideoCaptionDataset
    from processing_fpig import FPigVideoProcessor

    processor = SimpleNamespace(video_processor=FPigVideoProcessor(num_frames=NUM_FRAMES))
    records = [CaptionedVideo(path.name, str(path), ("a clip",)) for path in paths]
    cache: FrameCache | None = None
    if cache_dir is not None:
        videos = [str(path) for path in paths]
        cache = FrameCache(cache_dir, processor.video_processor, videos, NUM_CANDIDATES, 2**40)
    return VideoCaptionDataset(
        records, processor, NUM_FRAMES, num_candidates=NUM_CANDIDATES, frame_cache=cache
    )


def count_videos_per_second(
    items: "VideoCaptionDataset", epoch: int, num_workers: int, num_rounds: int
) -> float:
    """Of so many rounds through the items, after a first video of each worker, which has to start."""
    from torch.utils.data import DataLoader

    num_waited = max(1, num_workers)
    pairs = [(0, epoch)] * num_waited + [(index, epoch) for index in range(len(items))] * num_rounds
    videos = iter(DataLoader(items, None, sampler=pairs, num_workers=num_workers))
    for _ in range(num_waited):
        next(videos)
    start = time.perf_counter()
    for _ in range(len(items) * num_rounds):
        next(videos)
    return len(items) * num_rounds / (time.perf_counter() - start)


def measure(clip: Path, num_turns: int, num_workers: int) -> tuple[dict[str, float], float]:
    """Videos a second of each way, and bytes that a video takes in the cache."""
    with tempfile.TemporaryDirectory() as folder:
        copies = [Path(folder, f"{number}{clip.suffix}") for number in range(COPIES * max(1, num_workers))]
        for copy in copies:
            shutil.copy(clip, copy)
        cache_dir = Path(folder, "cache")
        rates: dict[str, list[float]] = {"decoded": [], "first epoch": [], "later epoch": []}
        for epoch in range(num_turns):
            shutil.rmtree(cache_dir, ignore_errors=True)
            cached = make_items(copies, cache_dir)
            ways = ((make_items(copies, None), 1), (cached, 1), (cached, LATER_ROUNDS))
            for values, (items, num_rounds) in zip(rates.values(), ways, strict=True):
                values.append(count_videos_per_second(items, epoch, num_workers, num_rounds))
        num_bytes = sum(path.stat().st_size for path in cache_dir.iterdir()) / len(copies)
    return {name: statistics.median(values) for name, values in rates.items()}, num_bytes


def main() -> None:
    """Measures and prints what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        default=["h264_320x240_10s", "h264_1280x720_10s"],
        help="words in names",
    )
    parser.add_argument("--turns", type=int, default=3, help="the median counts (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default: %(default)s)")
    parser.add_argument("--clips_dir", type=Path, default=Path("outputs", "benchmarks", "clips"))
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
    print_row(
        "clip", "decoded, videos/s", "first epoch", "later epoch", "later / decoded", "MiB/video", "MiB/s"
    )
    print("|---" * 7 + "|")
    for path in make_clips(arguments.clips_dir, arguments.classes):
        rates, num_bytes = measure(path, arguments.turns, arguments.workers)
        later, ratio = rates["later epoch"], rates["later epoch"] / rates["decoded"]
        read_bytes = later * num_bytes * NUM_FRAMES / NUM_CANDIDATES
        cells = (f"{rate:.1f}" for rate in rates.values())
        print_row(path.stem, *cells, f"{ratio:.2f}", f"{num_bytes / MIB:.1f}", f"{read_bytes / MIB:.0f}")


if __name__ == "__main__":
    main()
