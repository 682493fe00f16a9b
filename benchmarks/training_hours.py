"""
How long stage 2 of the paper's training runs would take here: measured steps times the epochs of the configs.

    python benchmarks/training_hours.py

Every step is a whole one of stage 2 (both towers, generator, interaction, losses, backward, AdamW) on random
frames and captions of full length; decoding and stage 1 are not in it. On a GPU in float16 with the configs'
batch of a device, else in float32 with two videos.
"""

import argparse
import statistics
import time
from pathlib import Path

import yaml

from fpig.annotations import PUBLISHED

CONFIGS = Path(__file__).parents[1] / "configs"
PATCH_SIZES = {"b32": 32, "b16": 16}


def time_step(patch_size: int, num_frames: int, max_length: int, batch_size: int, num_steps: int) -> float:
    """Median seconds of a training step with CLIP's base size and random weights."""
    import torch

    from modeling_fpig import FPigConfig, FPigModel

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    config = FPigConfig(vision_config={"patch_size": patch_size}, num_frames=num_frames)
    model = FPigModel(config).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    pixel_values = torch.randn(batch_size, num_frames, 3, 224, 224, device=device)
    input_ids = torch.randint(1000, (batch_size, max_length), device=device)
    input_ids[:, -1] = config.text_config.eos_token_id
    seconds = []
    for number in range(num_steps + 1):
        start = time.perf_counter()
        with torch.autocast(device, torch.float16, enabled=device == "cuda"):
            loss = model(input_ids, torch.ones_like(input_ids), pixel_values).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        if number:  # the first step warms up
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def name_device() -> str:
    """What the hours are of."""
    import torch

    if torch.cuda.is_available():
        return f"one {torch.cuda.get_device_name()}"
    return f"{torch.get_num_threads()} CPU threads"


def choose_batch_size(config: dict) -> int:
    """Videos of a step where none are asked for."""
    import torch

    return config["per_device_train_batch_size"] if torch.cuda.is_available() else 2


def main() -> None:
    """Measures each backbone and number of frames and of words once, and prints a row for each config."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch_size", type=int, help="videos a step (default: as above)")
    parser.add_argument("--num_steps", type=int, default=3, help="timed steps (default: %(default)s)")
    arguments = parser.parse_args()
    measured: dict[tuple[str, int, int], float] = {}
    print(
        f"| config | training videos | epochs | s/video | hours on {name_device()} |\n|---|---|---|---|---|"
    )
    for path in sorted(CONFIGS.glob("*_vit_*.yaml")):
        config = yaml.safe_load(path.read_text())
        backbone, *lengths = key = (path.stem.rpartition("_")[2], config["num_frames"], config["max_length"])
        if key not in measured:
            batch_size = arguments.batch_size or choose_batch_size(config)
            seconds = time_step(PATCH_SIZES[backbone], *lengths, batch_size, arguments.num_steps)
            measured[key] = seconds / batch_size
        num_videos = PUBLISHED[config["dataset"]].splits["train"].num_videos
        hours = measured[key] * num_videos * config["num_train_epochs"] / 3600
        row = (
            path.name,
            f"{num_videos:,}",
            config["num_train_epochs"],
            f"{measured[key]:.3f}",
            f"{hours:,.0f}",
        )
        print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
