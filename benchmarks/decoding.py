"""
How long 12 frames of a video take, from the file to pixel values, beside torchcodec and decord.

    python benchmarks/decoding.py                          # all classes of clips, encoded on first use
    python benchmarks/decoding.py --classes h264_320x240   # those whose name holds one of the words
    python benchmarks/decoding.py --memory                 # also: the most memory that a 4K clip takes

One thread each, in turns; the median of the processor time counts, as other programs disturb it less. All
resize and normalise with fpig's code. The floor is the decoding alone, by the same library: open the file,
list its packets, decode those that the wanted frames need, convert none. `keyframes` is fpig with
`keyframes_only`, which takes the nearest keyframe for each frame. torchcodec and decord are left out where
they are not installed: `pip install torchcodec decord`.
"""

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from process_memory import read_memory

if TYPE_CHECKING:
    import numpy as np

NUM_FRAMES = 12
RATE = 25
ENCODERS = {
    "h264": ("libx264", "mp4", {"preset": "veryfast", "crf": "23"}),
    "hevc": (
        "libx265",
        "mp4",
        {"preset": "ultrafast", "crf": "26", "x265-params": "log-level=error:bframes=3"},
    ),
    "vp9": ("libvpx-vp9", "webm", {"deadline": "realtime", "cpu-used": "8", "crf": "34", "b": "0"}),
}
SIZES = ((320, 240), (1280, 720))
SECONDS = (10, 60)
GROUPS = (12, 250)  # frames from one keyframe to the next
MIB = 2**20


def paint_scene(num_frames: int, width: int, height: int) -> "Iterator[np.ndarray]":
    """Coarse, middle and fine noise, each moving at its own pace: frames [H, W, 3] uint8."""
    import numpy as np
    import torch

    generator = torch.Generator().manual_seed(0)
    layers = []
    for cells, contrast in ((16, 70), (64, 35), (320, 15)):
        noise = torch.randn(1, 3, cells, cells, generator=generator) * contrast
        large = torch.nn.functional.interpolate(noise, (2 * height, 2 * width), mode="bicubic")
        layers.append(large[0].permute(1, 2, 0).numpy())
    for number in range(num_frames):
        picture = np.full((height, width, 3), 120, np.float32)
        for pace, layer in enumerate(layers, start=1):
            left = int(width / 2 * (1 + np.sin(0.010 * pace * number)))
            top = int(height / 2 * (1 + np.cos(0.013 * pace * number)))
            picture += layer[top : top + height, left : left + width]
        yield np.clip(picture, 0, 255).astype(np.uint8)


def encode_clip(path: Path, codec: str, size: tuple[int, int], num_seconds: int, group: int) -> None:
    """Writes the scene to a file, which is whole if it is there."""
    import av

    encoder, container_format, options = ENCODERS[codec]
    options = options | {"g": str(group)} | ({} if codec == "vp9" else {"keyint_min": str(group)})
    partial = path.with_suffix(".partial")
    with av.open(str(partial), "w", format=container_format) as container:
        stream = container.add_stream(encoder, rate=RATE, options=options)
        (stream.width, stream.height), stream.pix_fmt = size, "yuv420p"
        for picture in paint_scene(num_seconds * RATE, *size):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))
    partial.rename(path)


def make_clips(folder: Path, words: list[str]) -> list[Path]:
    """The clips of the benchmark whose names hold one of `words`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for size in SIZES:
        for codec, (_, container_format, _) in ENCODERS.items():
            for num_seconds in SECONDS:
                for group in GROUPS:
                    name = f"{codec}_{size[0]}x{size[1]}_{num_seconds}s_gop{group}.{container_format}"
                    if not any(word in name for word in words):
                        continue
                    paths.append(folder / name)
                    if not paths[-1].exists():
                        print(f"encoding {name}", flush=True)
                        encode_clip(paths[-1], codec, size, num_seconds, group)
    return paths


def decode_floor(path: str) -> None:
    """Decodes what the wanted frames need and converts nothing."""
    from processing_fpig.decoding_fpig import open_clip
    from processing_fpig.frame_sampling_fpig import sample_frame_indices
    from processing_fpig.frame_table_fpig import can_skip_unreferenced, find_needed, list_packets, list_times

    with open_clip(path, path) as (container, stream):
        table, packets = list_packets(container, stream, path)
        times = list_times(table, container.format.name)
        wanted = {times[index] for index in sample_frame_indices(len(times), NUM_FRAMES)}
        needed = find_needed(table, wanted)
        if packets is None:
            container.seek(0)
            packets = [packet for packet in container.demux(stream) if packet.size]
        decoder = stream.codec_context
        for position in sorted(needed):
            if can_skip_unreferenced(decoder):
                decoder.skip_frame = "DEFAULT" if table[position].pts in wanted else "NONREF"
            decoder.decode(packets[position])
            if position + 1 not in needed:
                decoder.decode(None)
                decoder.flush_buffers()


def make_contenders() -> dict[str, Callable[[str], object]]:
    """What is timed, by name; each takes a path."""
    import numpy as np
    import torch

    from processing_fpig import FPigVideoProcessor
    from processing_fpig.frame_sampling_fpig import sample_frame_indices
    from processing_fpig.video_processing_fpig import resize_frame

    processor = FPigVideoProcessor(num_frames=NUM_FRAMES)
    keyframes = FPigVideoProcessor(num_frames=NUM_FRAMES, keyframes_only=True)

    def finish(frames: np.ndarray) -> torch.Tensor:
        pixel_values = torch.empty(len(frames), 3, processor.size, processor.size)
        resized = [resize_frame(frame, processor.size, processor.resize_mode) for frame in frames]
        processor.normalize_into(pixel_values, torch.from_numpy(np.stack(resized)))
        return pixel_values

    def read_torchcodec(path: str) -> torch.Tensor:
        from torchcodec.decoders import VideoDecoder

        decoder = VideoDecoder(path, num_ffmpeg_threads=1, dimension_order="NHWC")
        indices = sample_frame_indices(decoder.metadata.num_frames, NUM_FRAMES)
        return finish(decoder.get_frames_at(indices).data.numpy())

    def read_decord(path: str) -> torch.Tensor:
        import decord

        reader = decord.VideoReader(path, num_threads=1)
        return finish(reader.get_batch(sample_frame_indices(len(reader), NUM_FRAMES)).asnumpy())

    contenders = {
        "fpig": lambda path: processor(path),
        "floor": decode_floor,
        "keyframes": lambda path: keyframes(path),
    }
    others = {"torchcodec": read_torchcodec, "decord": read_decord}
    return contenders | {name: read for name, read in others.items() if importlib.util.find_spec(name)}


def time_clip(path: Path, contenders: dict[str, Callable[[str], object]], num_turns: int) -> dict[str, float]:
    """Median milliseconds of processor time of each contender; a first turn warms up."""
    milliseconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(num_turns + 1):
        for name, read in contenders.items():
            start = time.process_time()
            read(str(path))
            if turn:
                milliseconds[name].append(1000 * (time.process_time() - start))
    return {name: statistics.median(values) for name, values in milliseconds.items()}


def print_row(*cells: object) -> None:
    """One row of a Markdown table."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def compare(paths: list[Path], num_turns: int) -> None:
    """The table of milliseconds, and of fpig's time as a share of the others'."""
    contenders = make_contenders()
    shares = [name for name in ("torchcodec", "decord", "floor") if name in contenders]
    print_row("clip", *(f"{name}, ms" for name in contenders), *(f"fpig / {name}" for name in shares))
    print("|---" * (1 + len(contenders) + len(shares)) + "|")
    for path in paths:
        median = time_clip(path, contenders, num_turns)
        ratios = (f"{median['fpig'] / median[name]:.2f}" for name in shares)
        print_row(path.stem, *(f"{median[name]:.1f}" for name in contenders), *ratios)


def measure_memory(path: str) -> tuple[int, int]:
    """Bytes that this process has at most while it reads the clip, and those it had before."""
    from processing_fpig import FPigVideoProcessor

    processor = FPigVideoProcessor(num_frames=NUM_FRAMES)
    before = read_memory("VmRSS")
    processor(path)
    return read_memory("VmHWM"), before


def compare_memory(folder: Path) -> None:
    """The memory of a 4K clip, in a process of its own."""
    path = folder / "h264_3840x2160_4s_gop50.mp4"
    if not path.exists():
        encode_clip(path, "h264", (3840, 2160), 4, 50)
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        peak, before = process.submit(measure_memory, str(path)).result()
    full_size = NUM_FRAMES * 3840 * 2160 * 3
    print(
        f"{path.stem}: {(peak - before) / MIB:.0f} MiB above the {before / MIB:.0f} MiB of the libraries; "
        f"its {NUM_FRAMES} frames at full size would be {full_size / MIB:.0f} MiB"
    )


def main() -> None:
    """Measures and prints what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--classes", nargs="+", default=[""], help="words in the names of clips (default: all)"
    )
    parser.add_argument("--turns", type=int, default=5, help="the median counts (default: %(default)s)")
    parser.add_argument("--clips_dir", type=Path, default=Path("outputs", "benchmarks", "clips"))
    parser.add_argument("--memory", action="store_true", help="also measure a 4K clip")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
    paths = make_clips(arguments.clips_dir, arguments.classes)
    compare(paths, arguments.turns)
    if arguments.memory:
        compare_memory(arguments.clips_dir)


if __name__ == "__main__":
    main()
