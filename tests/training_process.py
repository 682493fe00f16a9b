"""One real training step and its gradients; as a script, one of the processes that torchrun starts."""

import os
import pickle
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from toys import make_model, make_processor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fpig.checkpoints import ResumableTrainer
from fpig.datasets import CaptionedVideo
from fpig.training_args import FPigTrainingArguments

# Each: the model's settings, the stage's, and what must change no gradient.
CASES = {
    "joint": ({}, {}, {"embed_batch_size": 2}),
    "stage 1": ({}, {"generator_only": True}, {"embed_batch_size": 1}),
    "no interaction": ({"use_interaction": False}, {}, {"embed_batch_size": 2}),
    "nothing selected": ({"num_selected_tokens": 0}, {}, {}),
    "no proxies": ({"num_proxy_tokens": 0}, {}, {}),
    "class token": ({"video_pooling": "class_token"}, {}, {"embed_batch_size": 2}),
    "mean": ({"video_pooling": "mean"}, {}, {"embed_batch_size": 1}),
    "accumulated": ({}, {"gradient_accumulation_steps": 2}, {}),
    "accumulated in chunks": ({}, {"gradient_accumulation_steps": 2}, {"embed_batch_size": 2}),
    "checkpointed": ({}, {}, {"activation_checkpointing": True}),
    "stage 1 checkpointed": ({}, {"generator_only": True}, {"activation_checkpointing": True}),
    "class token checkpointed": ({"video_pooling": "class_token"}, {}, {"activation_checkpointing": True}),
    "mean checkpointed": ({"video_pooling": "mean"}, {}, {"activation_checkpointing": True}),
    "both": ({}, {}, {"embed_batch_size": 2, "activation_checkpointing": True}),
    "both in stage 1": (
        *({}, {"generator_only": True}),
        {"embed_batch_size": 1, "activation_checkpointing": True},
    ),
}


class Step(NamedTuple):
    """
    What one step did.

    Attributes:
        gradients: of each trained parameter.
        logged: what the Trainer logs of it.
        passes: how many videos went through a layer each time that it ran.
        was_averaged_early: FSDP averaged gradients before the last of the batches that the step accumulates.
    """

    gradients: dict[str, torch.Tensor]
    logged: dict[str, float]
    passes: list[int]
    was_averaged_early: bool


class StepRecorder(TrainerCallback):
    """Keeps the gradients of every step as the optimizer gets them."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, torch.Tensor]] = []
        self.was_averaged_early = False

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """FSDP keeps its part of the gradients apart, until they have been averaged."""
        gradients = [parameter.grad for parameter in kwargs["model"].parameters()]
        self.was_averaged_early |= any(isinstance(gradient, DTensor) for gradient in gradients)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """After all processes' gradients have been averaged."""
        self.gradients.append(
            {
                name.removeprefix("module."): read_whole(parameter.grad)
                for name, parameter in kwargs["model"].named_parameters()
                if parameter.grad is not None and parameter.numel()
            }
        )


def read_whole(tensor: torch.Tensor) -> torch.Tensor:
    """A copy, with the parts that other processes have of it; the scale that FSDP needs long is a number."""
    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.clone()
    return whole.reshape(()) if whole.shape == (1,) else whole


def train_one_step(
    records: list[CaptionedVideo],
    model_settings: dict[str, Any],
    generator_only: bool = False,
    **settings: Any,
) -> Step:
    """The first step of a run on `records`."""
    processor = make_processor()
    model = make_model(processor, **{"interaction_dropout": 0.0} | model_settings)
    passes = []
    encoder = (
        model.generator.encoder
        if model.config.video_pooling == "pseudo_query"
        else model.vision_model.encoder
    )
    encoder.layers[0].mlp.register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs[0])))
    arguments = {"disable_tqdm": True, "save_strategy": "no", "eval_strategy": "no", "num_train_epochs": 0.5}
    arguments |= {"load_best_model_at_end": False, "max_grad_norm": 0.0, "logging_steps": 1, "seed": 5}
    arguments |= {"use_cpu": "ACCELERATE_TORCH_DEVICE" not in os.environ, "dataloader_pin_memory": False}
    args = FPigTrainingArguments(**arguments | settings)
    trainer = ResumableTrainer(model, args, processor, records, generator_only=generator_only)
    recorder = StepRecorder()
    trainer.add_callback(recorder)
    trainer.train()
    return Step(*recorder.gradients, trainer.state.log_history[0], passes, recorder.was_averaged_early)


def main() -> None:
    """Writes what this process has of every case to the folder named by the argument."""
    folder = Path(sys.argv[1])
    records = pickle.loads((folder / "records.pickle").read_bytes())
    steps = {}
    for name, (model_settings, settings, changes) in CASES.items():
        settings = {"output_dir": str(folder), "per_device_train_batch_size": 3} | settings | changes
        steps[name] = tuple(train_one_step(records, model_settings, **settings))
    torch.save(steps, folder / f"{dist.get_rank()}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
