"""
How fast one GPU encodes videos and trains, which share of its matrix rate that is, and what fits into it.

    python benchmarks/gpu.py                                  # B/32 and B/16, encoding and training
    python benchmarks/gpu.py --backbones b32 --jobs encoding
    python benchmarks/gpu.py --device cpu                     # tries the code on a tiny model, nothing more

Prints a Markdown table with the date and the card, for docs/performance.md. Videos have 12 frames; weights,
frames and captions are random. Encoding is `encode_video` with weights in bfloat16. A training step is
forward, loss, backward and AdamW with weights in float32 under bfloat16 autocast, captions of 50 tokens
included. Plain CLIP is transformers' `CLIPVisionModel` on the same frames; its step trains on the sum of its
outputs and has no captions.

Every variant takes batches that double until memory runs out, then the largest batch that fits is searched
for, to one part in sixteen. Compiled variants take only the batch that was fastest without `torch.compile`.
The share is of what one large matrix product in bfloat16 reaches on the card, in operations that a count of
the model's products with eager attention gives. Peak memory is all that torch's tensors take.
"""

import argparse
import datetime
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

PATCH_SIZES = {"b32": 32, "b16": 16}
JOBS = ("encoding", "training")
NUM_FRAMES = 12
CAPTION_LENGTH = 50
MATRIX_SIZE = 8192
GIB = 2**30
# On the CPU: a model that takes moments, and no more than a few videos.
TINY_TOWER = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
TINY_IMAGE_SIZE, TINY_MATRIX_SIZE, TINY_MAX_BATCH = 64, 256, 2


@dataclass(frozen=True)
class Variant:
    """
    What is measured.

    Attributes:
        model: "F-Pig" or "CLIP".
        attention: transformers' name of the implementation.
        is_compiled: whether `torch.compile` has it.
        backbone: a key of `PATCH_SIZES`.
        job: one of `JOBS`.
        device: "cuda", or "cpu" for the tiny model.
    """

    model: str
    attention: str
    is_compiled: bool
    backbone: str
    job: str
    device: str


@dataclass(frozen=True)
class Measurement:
    """Of one variant at one batch size: its speed, and the most bytes it took (`None` on the CPU)."""

    batch_size: int
    videos_per_second: float
    peak_memory: int | None


def make_model(variant: Variant) -> "PreTrainedModel":
    """With random weights, on its device, in the dtype and the mode of its job."""
    import torch
    from transformers import AutoModel

    from modeling_fpig import FPigConfig

    towers: dict[str, dict] = {"vision_config": {"patch_size": PATCH_SIZES[variant.backbone]}}
    if variant.device == "cpu":
        towers = {"text_config": TINY_TOWER, "vision_config": towers["vision_config"] | TINY_TOWER}
        towers["vision_config"]["image_size"] = TINY_IMAGE_SIZE
    config = FPigConfig(num_frames=NUM_FRAMES, **towers)
    torch.manual_seed(0)
    config = config if variant.model == "F-Pig" else config.vision_config
    model = AutoModel.from_config(config, attn_implementation=variant.attention).to(variant.device)
    return model.train() if variant.job == "training" else model.eval().bfloat16()


def make_batch(config: Any, batch_size: int, variant: Variant) -> dict[str, "torch.Tensor"]:
    """Random frames, and for the training of F-Pig captions, under the names of the model's arguments."""
    import torch

    vision_config = config if variant.model == "CLIP" else config.vision_config
    size = vision_config.image_size
    dtype = torch.float32 if variant.job == "training" else torch.bfloat16
    frames = torch.randn(batch_size, NUM_FRAMES, 3, size, size, dtype=dtype, device=variant.device)
    if variant.model == "CLIP":
        return {"pixel_values": frames.flatten(0, 1)}
    if variant.job == "encoding":
        return {"pixel_values": frames}
    input_ids = torch.randint(1000, (batch_size, CAPTION_LENGTH), device=variant.device)
    input_ids[:, -1] = config.text_config.eos_token_id
    return {"input_ids": input_ids, "pixel_values": frames}


def compile_if_asked(function: Callable, variant: Variant) -> Callable:
    """On the CPU with a backend that needs no compiler of C++."""
    import torch

    if not variant.is_compiled:
        return function
    torch.compiler.reset()
    return torch.compile(function, backend="inductor" if variant.device == "cuda" else "aot_eager")


def make_step(model: "PreTrainedModel", batch_size: int, variant: Variant) -> Callable[[], None]:
    """One pass of the job over one batch, which stays the same."""
    import torch

    batch = make_batch(model.config, batch_size, variant)
    if variant.job == "encoding":
        encode = compile_if_asked(model.encode_video if variant.model == "F-Pig" else model, variant)

        def run_encoding() -> None:
            with torch.inference_mode():
                encode(**batch)

        return run_encoding
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    forward = compile_if_asked(model, variant)

    def run_training() -> None:
        with torch.autocast(variant.device, torch.bfloat16):
            output = forward(**batch)
        loss = output.loss if variant.model == "F-Pig" else output.pooler_output.float().sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run_training


def wait_for(device: str) -> None:
    """Returns when the device has done all it was given."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def time_repeatedly(function: Callable[[], object], device: str, min_seconds: float) -> float:
    """Seconds of one call, after two to warm up: the mean over calls that take `min_seconds` together."""
    function()
    function()
    wait_for(device)
    start, num_calls = time.perf_counter(), 0
    while num_calls < 3 or time.perf_counter() - start < min_seconds:
        function()
        wait_for(device)
        num_calls += 1
    return (time.perf_counter() - start) / num_calls


def measure_matrix_rate(device: str, min_seconds: float) -> float:
    """Operations a second of one large product in bfloat16: two for each multiplication."""
    import torch

    size = MATRIX_SIZE if device == "cuda" else TINY_MATRIX_SIZE
    left, right = torch.randn(2, size, size, device=device).bfloat16()
    return 2 * size**3 / time_repeatedly(lambda: left @ right, device, min_seconds)


def count_operations(variant: Variant) -> int:
    """Of the matrix products for one video: sdpa's kernels are not counted everywhere, eager attention is."""
    from torch.utils.flop_counter import FlopCounterMode

    variant = replace(variant, attention="eager", is_compiled=False)
    step = make_step(make_model(variant), 1, variant)
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def free_memory(device: str) -> None:
    """Gives back what no tensor uses any more, and forgets the peak."""
    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def measure(variant: Variant, batch_size: int, min_seconds: float) -> Measurement | None:
    """One batch size, or `None` where it does not fit."""
    import torch

    free_memory(variant.device)
    try:
        step = make_step(make_model(variant), batch_size, variant)
        seconds = time_repeatedly(step, variant.device, min_seconds)
    except torch.OutOfMemoryError:
        return None
    peak = torch.cuda.max_memory_allocated() if variant.device == "cuda" else None
    return Measurement(batch_size, batch_size / seconds, peak)


def measure_batches(variant: Variant, max_batch: int, min_seconds: float) -> Iterator[Measurement]:
    """Batches that double until one does not fit or is above `max_batch`, then the largest that fits."""
    fitting, batch_size = 0, 1
    while batch_size <= max_batch:
        measurement = measure(variant, batch_size, min_seconds)
        if measurement is None:
            break
        yield measurement
        fitting, batch_size = batch_size, 2 * batch_size
    else:
        return
    largest, failing = None, batch_size
    while failing - fitting > max(1, fitting // 16):
        middle = (fitting + failing) // 2
        measurement = measure(variant, middle, min_seconds=0)
        if measurement is None:
            failing = middle
        else:
            fitting, largest = middle, measurement
    if largest is not None:
        yield largest


def format_row(variant: Variant, measurement: Measurement, num_operations: int, matrix_rate: float) -> str:
    """One row of the table."""
    share = num_operations * measurement.videos_per_second / matrix_rate
    peak = "–" if measurement.peak_memory is None else f"{measurement.peak_memory / GIB:.2f} GiB"
    cells = (
        variant.backbone.upper().replace("B", "B/"),
        variant.job,
        variant.model,
        variant.attention,
        "on" if variant.is_compiled else "off",
        measurement.batch_size,
        f"{measurement.videos_per_second:,.1f}",
        f"{share:.1%}",
        peak,
    )
    return f"| {' | '.join(map(str, cells))} |"


def measure_variant(variant: Variant, options: argparse.Namespace, matrix_rate: float) -> None:
    """Prints the rows of one variant without `torch.compile`, and the one with it."""
    num_operations = count_operations(variant)
    measurements = []
    for measurement in measure_batches(variant, options.max_batch, options.seconds):
        measurements.append(measurement)
        print(format_row(variant, measurement, num_operations, matrix_rate), flush=True)
    if not measurements or variant.attention == "eager" or options.no_compile:
        return
    fastest = max(measurements, key=lambda measurement: measurement.videos_per_second)
    variant = replace(variant, is_compiled=True)
    compiled = measure(variant, fastest.batch_size, options.seconds)
    if compiled is not None:
        print(format_row(variant, compiled, num_operations, matrix_rate), flush=True)


def parse_arguments() -> argparse.Namespace:
    """The command line; refuses a device that is not there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbones", nargs="+", choices=PATCH_SIZES, default=list(PATCH_SIZES))
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=JOBS)
    parser.add_argument("--max_batch", type=int, default=1024, help="videos (default: 1024)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement (default: 3)")
    parser.add_argument("--no_compile", action="store_true", help="leave `torch.compile` out")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a tiny model")
    options = parser.parse_args()
    if options.max_batch < 1:
        parser.error(f"`--max_batch` is {options.max_batch}; it must be at least 1")
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            "error: `--device` is 'cuda' but torch sees no CUDA GPU here; run it where there is one, or pass "
            "`--device cpu` to try the code with a tiny model"
        )
    if options.device == "cpu":
        options.max_batch = min(options.max_batch, TINY_MAX_BATCH)
        options.seconds = 0.0
    return options


def main() -> None:
    """Measures and prints the table."""
    options = parse_arguments()
    import torch

    is_on_gpu = options.device == "cuda"
    card = torch.cuda.get_device_name() if is_on_gpu else "CPU, tiny model: these figures mean nothing"
    matrix_rate = measure_matrix_rate(options.device, options.seconds)
    print(f"{datetime.datetime.now(datetime.UTC).date()}, {card}, torch {torch.__version__}:", end=" ")
    print(f"{matrix_rate / 1e12:,.2f} TFLOP/s in a bfloat16 product\n")
    print("| backbone | job | model | attention | compile | videos | videos/s | share of the rate | peak |")
    print("|---" * 9 + "|", flush=True)
    for backbone in options.backbones:
        for job in options.jobs:
            for model, attention in (("F-Pig", "sdpa"), ("F-Pig", "eager"), ("CLIP", "sdpa")):
                variant = Variant(model, attention, False, backbone, job, options.device)
                measure_variant(variant, options, matrix_rate)


if __name__ == "__main__":
    main()
