"""What a training run took: its settings, hardware and seconds, and an estimate of the energy."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedConfig, ProcessorMixin, TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_callback import ExportableState

from fpig.evaluation import cut_local_path
from fpig.training_args import DataArguments, FPigTrainingArguments, ModelArguments

if TYPE_CHECKING:
    from fpig.datasets import CaptionedSplit
    from fpig.stages import Stage
    from fpig.trainer import FPigTrainer

RECORD_NAME = "training.json"
# What the Green Algorithms calculator (Lannelongue et al., Advanced Science 2021) takes for one core of a CPU
# that it does not know. Those it knows have 4 to 24, the maker's thermal design power over the cores.
WATTS_PER_CPU_CORE = 12.0
SECONDS_PER_HOUR = 3600
ENERGY_ESTIMATES = {
    "GPU": "GPUs × the power limit of their boards × time: no more than this for the GPUs; the rest of the "
    "machine and its cooling are not counted",
    "CPU core": f"CPU cores in use × {WATTS_PER_CPU_CORE:g} W × time: the watts per core are an assumption, "
    "what the Green Algorithms calculator takes for a CPU it does not know; memory, disks and cooling are "
    "not counted",
}
SETTINGS_ON_CARD = (
    *("per_device_train_batch_size", "gradient_accumulation_steps", "optim", "lr_scheduler_type"),
    *("warmup_steps", "weight_decay", "adam_beta1", "adam_beta2", "max_grad_norm", "seed"),
)


@dataclass(frozen=True)
class Hardware:
    """
    What one stage ran on.

    Attributes:
        unit: what is counted: `"GPU"`, `"CPU core"`, or another kind of device.
        name: of the GPU or the CPU.
        num_units: GPUs, or CPU cores in use, of all processes together.
        num_processes: of the run.
        watts_per_unit: its power; `None` where it is not known.
    """

    unit: str
    name: str
    num_units: int
    num_processes: int
    watts_per_unit: float | None


class TrainingClock(TrainerCallback, ExportableState):
    """
    Counts the seconds of a stage over all its starts.

    Checkpoints keep the sum in `trainer_state.json`, so a run that was killed goes on from there; what it did
    after its last checkpoint was lost and is not counted.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.start: float | None = None

    def on_train_begin(
        self, args: FPigTrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Goes on from what the checkpoint says; without a checkpoint the state has this clock's own."""
        saved = state.stateful_callbacks.setdefault(type(self).__name__, self.state())
        self.seconds = saved["attributes"]["seconds"]
        self.start = time.monotonic()

    def on_train_end(
        self, args: FPigTrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stops."""
        self.seconds, self.start = self.read(), None

    def read(self) -> float:
        """Seconds until now."""
        return self.seconds if self.start is None else self.seconds + time.monotonic() - self.start

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, in transformers' form."""
        return {"args": {}, "attributes": {"seconds": self.read()}}


def describe_hardware(args: FPigTrainingArguments) -> Hardware:
    """What a run with `args` runs on, as its first process sees it; the others are taken to have the same."""
    device = args.device
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return Hardware(
            "GPU", properties.name, args.world_size, args.world_size, read_power_limit(str(properties.uuid))
        )
    if device.type == "cpu":
        num_cores = count_cores_in_use(args.world_size, torch.get_num_threads(), args.dataloader_num_workers)
        return Hardware("CPU core", read_cpu_name(), num_cores, args.world_size, WATTS_PER_CPU_CORE)
    return Hardware(device.type, platform.machine(), args.world_size, args.world_size, None)


def read_power_limit(uuid: str) -> float | None:
    """The power limit in watts of the GPU `uuid`; `None` if `nvidia-smi` is not there or does not say."""
    gpu = f"GPU-{uuid.removeprefix('GPU-')}"  # torch leaves out the word that nvidia-smi wants
    command = ["nvidia-smi", f"--id={gpu}", "--query-gpu=power.limit", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        return float(done.stdout)  # a board without a limit says [N/A]
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def read_cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The CPU's model name, or its architecture where the system does not say more."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), "") or platform.processor() or platform.machine()


def count_cores_in_use(num_processes: int, num_threads: int, num_workers: int) -> int:
    """CPU cores that a run keeps busy: threads and decoding workers of all processes, at most all cores."""
    num_available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    num_local = int(os.environ.get("LOCAL_WORLD_SIZE", num_processes))
    num_machines = max(1, num_processes // num_local)
    return num_machines * min(num_available, num_local * (num_threads + num_workers))


def estimate_energy(stages: list[dict[str, Any]]) -> dict[str, Any]:
    """Watt-hours of all stages together and how they were estimated; `None` where a power is not known."""
    watt_hours = 0.0
    for stage in stages:
        hardware = stage["hardware"]
        if hardware["watts_per_unit"] is None:
            reason = f"the power of {hardware['name']} is not known: `nvidia-smi` names no limit"
            return {"watt_hours": None, "estimate": reason}
        watts = hardware["num_units"] * hardware["watts_per_unit"]
        watt_hours += watts * stage["seconds"] / SECONDS_PER_HOUR
    units = dict.fromkeys(stage["hardware"]["unit"] for stage in stages)
    return {"watt_hours": watt_hours, "estimate": "; ".join(ENERGY_ESTIMATES[unit] for unit in units)}


def write_stage_record(folder: Path, stage: "Stage", trainer: "FPigTrainer", clock: TrainingClock) -> None:
    """Writes into `folder` what a finished stage took."""
    record = {
        "name": stage.name,
        "num_epochs": stage.num_epochs,
        "learning_rate": stage.learning_rate,
        "num_steps": trainer.state.global_step,
        "seconds": clock.read(),
        "hardware": asdict(describe_hardware(trainer.args)),
    }
    (folder / RECORD_NAME).write_text(json.dumps(record, indent=2) + "\n")


def describe_settings(
    args: FPigTrainingArguments, config: PreTrainedConfig, processor: ProcessorMixin
) -> dict[str, Any]:
    """The settings that matter to who compares models; `settings.yaml` has all."""
    values = args.to_dict()
    settings = {
        "num_frames": config.num_frames,
        "image_size": config.vision_config.image_size,
        "max_length": processor.max_length,
    }
    if config.video_pooling == "pseudo_query":
        settings |= {
            "num_selected_tokens": config.num_selected_tokens,
            "use_interaction": config.use_interaction,
            "generation_loss_weight": config.generation_loss_weight,
        }
    precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"
    settings |= {"num_processes": args.world_size, "precision": precision}
    return settings | {name: values[name] for name in SETTINGS_ON_CARD}


def describe_training(
    settings: tuple[ModelArguments, DataArguments, FPigTrainingArguments],
    splits: "dict[str, CaptionedSplit]",
    stage_dirs: Iterable[Path],
    config: PreTrainedConfig,
    processor: ProcessorMixin,
) -> dict[str, Any]:
    """
    The section `training` of `results.json`: plain values, without a path of this machine.

    Args:
        settings: of the run.
        splits: its videos by what they are for.
        stage_dirs: where `write_stage_record` wrote, in the order of the stages.
        config: the trained model's.
        processor: the trained model's.
    """
    model_args, data_args, training_args = settings
    stages = [json.loads((folder / RECORD_NAME).read_text()) for folder in stage_dirs]
    seconds = sum(stage["seconds"] for stage in stages)
    start = model_args.clip_name_or_path or model_args.model_name_or_path
    return {
        "start": cut_local_path(start) if start else "random weights",
        "dataset": cut_local_path(data_args.dataset),
        # Of other data nobody has said it.
        "language": "en" if data_args.dataset == "shapes" else None,
        "splits": {
            role: {
                "num_videos": len(split.records),
                "num_captions": sum(len(record.captions) for record in split.records),
                "num_published_videos": split.published_size,
                "skipped_videos": dict(split.skipped),
            }
            for role, split in splits.items()
        },
        "settings": describe_settings(training_args, config, processor),
        "stages": stages,
        "seconds": seconds,
        "hours": seconds / SECONDS_PER_HOUR,
        "energy": estimate_energy(stages),
    }


__all__ = [
    "Hardware",
    "TrainingClock",
    "count_cores_in_use",
    "describe_hardware",
    "describe_training",
    "estimate_energy",
    "read_cpu_name",
    "read_power_limit",
    "write_stage_record",
]
