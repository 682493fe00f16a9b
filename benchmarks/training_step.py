"""
What one training step takes: memory above the loaded model, and time, in four ways.

    python benchmarks/training_step.py                  # about fifteen minutes on two cores
    python benchmarks/training_step.py --only memory --ways plain checkpointing

A step is forward, joint loss and backward of F-Pig on a CLIP ViT-B/32 with random weights: 4 videos of 12
frames with captions of 50 tokens, float32, on the CPU. Each way is measured in a process of its own, and
chunks also with 4 times as many videos. All that comes on top of the loaded model counts: the batch, what the
forward pass keeps, and the gradients, which are as large as the weights. `process` is what the system gave a
process at most (VmHWM of Linux's /proc, less VmRSS after loading), with what the C library's allocator keeps
beside the tensors; it differs from run to run, and the median counts. `tensors` is what torch's profiler
counts of them; on a GPU that is what has to fit, beside weights and optimizer. The ratio is of `process`, to
the authors' public code. Times are medians of turns that the ways take in one process, ratios to the plain
step.
"""

import argparse
import ctypes
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from process_memory import read_memory

if TYPE_CHECKING:
    from torch import Tensor

    from modeling_fpig import FPigModel

# Measured by us on the authors' public code: the same sizes, above a process of 1,054 MiB with the model.
AUTHORS_MIB = 4050
NUM_CAPTION_TOKENS = 50
LARGE_FACTOR = 4  # how many times as many videos the chunks are measured with too
MIB = 2**20
PLAIN = "plain"
# Name → fields of `FPigTrainingArguments`.
WAYS = {
    PLAIN: {},
    "checkpointing": {"activation_checkpointing": True},
    "chunks": {"embed_batch_size": 1},
    "both": {"embed_batch_size": 1, "activation_checkpointing": True},
}


def make_model() -> "FPigModel":
    """F-Pig on a ViT-B/32 with random weights, ready to train."""
    from modeling_fpig import FPigConfig, FPigModel

    return FPigModel(FPigConfig()).train()


def make_batch(model: "FPigModel", num_videos: int, num_frames: int) -> "dict[str, Tensor]":
    """Videos of noise and captions without padding."""
    import torch

    config = model.config.text_config
    input_ids = torch.randint(
        1, min(config.bos_token_id, config.eos_token_id), (num_videos, NUM_CAPTION_TOKENS)
    )
    input_ids[:, 0], input_ids[:, -1] = config.bos_token_id, config.eos_token_id
    size = model.config.vision_config.image_size
    pixel_values = torch.randn(num_videos, num_frames, 3, size, size)
    return {
        "input_ids": input_ids,
        "attention_mask": torch.ones_like(input_ids),
        "pixel_values": pixel_values,
    }


def take_step(
    model: "FPigModel",
    batch: "dict[str, Tensor]",
    activation_checkpointing: bool = False,
    embed_batch_size: int | None = None,
) -> None:
    """What `FPigTrainer` does with a batch, up to the gradients."""
    from fpig.cached_gradients import embed_chunks, read_embeds

    if activation_checkpointing:
        model.activation_checkpointing_enable()
    else:
        model.activation_checkpointing_disable()
    if embed_batch_size is None:
        embeds = read_embeds(model(**batch, return_loss=False))
        model.compute_loss(*embeds)[0].backward()
        return
    chunks, embeds = embed_chunks(model, batch, embed_batch_size)
    model.compute_loss(*embeds)[0].backward()
    for chunk in chunks:
        chunk.embed_again().backward()


def measure_process(settings: dict[str, Any], num_videos: int, num_frames: int) -> tuple[int, int]:
    """The most bytes that a step took on top of the model, and those of the process with the model."""
    model = make_model()
    ctypes.CDLL(None).malloc_trim(0)  # what loading has freed must not be there for the step to use
    before = read_memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from here
    take_step(model, make_batch(model, num_videos, num_frames), **settings)
    return read_memory("VmHWM") - before, before


def measure_tensors(settings: dict[str, Any], num_videos: int, num_frames: int) -> int:
    """The most bytes of tensors that lived at once in a step, those of the model aside."""
    from torch.profiler import ProfilerActivity, profile

    model = make_model()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        take_step(model, make_batch(model, num_videos, num_frames), **settings)
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    living = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        living += event.nbytes()
        peak = max(peak, living)
    return peak


def run_alone(measure: Callable[..., Any], *arguments: Any) -> Any:
    """What `measure` returns in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(measure, *arguments).result()


def format_memory(way: str, num_turns: int, num_videos: int, num_frames: int) -> str:
    """One row of the table of memory."""
    arguments = (WAYS[way], num_videos, num_frames)
    runs = sorted(run_alone(measure_process, *arguments) for _ in range(num_turns))
    added, model = runs[num_turns // 2]
    tensors = run_alone(measure_tensors, *arguments)
    cells = (
        *(way, f"{num_videos}", f"{model / MIB:,.0f} MiB", f"{added / MIB:,.0f} MiB"),
        *(f"{added / MIB / AUTHORS_MIB:.2f}", f"{tensors / MIB:,.0f} MiB"),
    )
    return f"| {' | '.join(cells)} |"


def time_in_turns(ways: list[str], num_turns: int, num_videos: int, num_frames: int) -> dict[str, float]:
    """Median seconds of a step in each way; the first turn, which warms up, doesn't count."""
    model = make_model()
    batch = make_batch(model, num_videos, num_frames)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(num_turns + 1):
        for way in ways:
            model.zero_grad()
            start = time.perf_counter()
            take_step(model, batch, **WAYS[way])
            seconds[way].append(time.perf_counter() - start)
    return {way: statistics.median(measured[1:]) for way, measured in seconds.items()}


def print_memory(ways: list[str], num_turns: int, num_videos: int, num_frames: int) -> None:
    """The table of memory."""
    print(f"| step | videos | model | process | of the authors' {AUTHORS_MIB:,} MiB | tensors |")
    print("|---" * 6 + "|")
    for way in ways:
        print(format_memory(way, num_turns, num_videos, num_frames), flush=True)
    for way in ways:
        if "embed_batch_size" in WAYS[way]:  # more chunks of one video take no more than their pixels
            print(format_memory(way, num_turns, LARGE_FACTOR * num_videos, num_frames), flush=True)


def print_times(ways: list[str], num_turns: int, num_videos: int, num_frames: int) -> None:
    """The table of times."""
    ways = list(dict.fromkeys([PLAIN, *ways]))
    seconds = run_alone(time_in_turns, ways, num_turns, num_videos, num_frames)
    print("| step | seconds | of the plain step |")
    print("|---|---|---|")
    for way, median in seconds.items():
        print(f"| {way} | {median:.2f} | {median / seconds[PLAIN]:.2f} |")


def main() -> None:
    """Measures and prints both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="(default: all)")
    parser.add_argument("--videos", type=int, default=4, help="videos of the batch (default: 4)")
    parser.add_argument("--frames", type=int, default=12, help="frames of a video (default: 12)")
    parser.add_argument("--turns", type=int, default=3, help="runs of each measurement (default: 3)")
    parser.add_argument("--only", choices=("memory", "times"), help="(default: both)")
    arguments = parser.parse_args()
    settings = (arguments.ways, arguments.turns, arguments.videos, arguments.frames)
    if arguments.only != "times":
        print_memory(*settings)
    if arguments.only != "memory":
        print_times(*settings)


if __name__ == "__main__":
    main()
