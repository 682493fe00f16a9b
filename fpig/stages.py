"""The stages of a training run: which there are, where each starts, and how an interrupted run goes on."""

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import PartialState
from transformers import PreTrainedConfig, PreTrainedModel, ProcessorMixin, TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME

from fpig.checkpoints import ResumableTrainer, explain_failed_writes
from fpig.datasets import CaptionedVideo
from fpig.sampler import seed_generator
from fpig.settings import get_stages_dir
from fpig.training_args import FPigTrainingArguments
from fpig.training_record import TrainingClock, write_stage_record
from modeling_fpig import FPigConfig, FPigModel
from modeling_fpig.modeling_fpig import CLASS_EMBEDDING

CLIP_FORM = ("mean", 1)  # the mean over one frame is CLIP


@dataclass(frozen=True)
class Stage:
    """One training run of the recipe. `name` is its folder below the run's, `config` its model's."""

    name: str
    num_epochs: float
    learning_rate: float
    config: PreTrainedConfig
    generator_only: bool = False


def plan_stages(
    config: PreTrainedConfig, has_trained_towers: bool, args: FPigTrainingArguments
) -> list[Stage]:
    """
    The stages of a run, in order.

    Args:
        config: of the model that is wanted.
        has_trained_towers: whether it starts from CLIP or from a trained F-Pig.
        args: their epochs and learning rates.

    Raises:
        ValueError: no stage has epochs, or `args` has fewer candidates than the model takes frames.
    """
    args.check_candidates(config.num_frames)
    stages = []
    if not has_trained_towers:
        video_pooling, num_frames = CLIP_FORM
        clip_form = {"video_pooling": video_pooling, "num_frames": num_frames}
        clip_config = FPigConfig(**config.to_dict() | clip_form)
        stages.append(Stage("towers", args.tower_epochs, args.tower_learning_rate, clip_config))
    if config.video_pooling == "pseudo_query":
        stages.append(Stage("generator", args.generator_epochs, args.generator_learning_rate, config, True))
    stages.append(Stage("joint", args.num_train_epochs, args.learning_rate, config))
    stages = [stage for stage in stages if stage.num_epochs > 0]
    if not stages:
        raise ValueError(
            f"`num_train_epochs` is {args.num_train_epochs} and the other stages have none either; give a "
            "stage at least part of an epoch"
        )
    return stages


def get_form(config: PreTrainedConfig) -> tuple[str, int]:
    """What makes another model of the same towers."""
    return config.video_pooling, config.num_frames


def start_stage(stage: Stage, model: PreTrainedModel) -> PreTrainedModel:
    """
    The model that `stage` trains, from the one that came out of the stage before.

    The towers start with random weights. From trained towers every method starts as it does from CLIP.

    Raises:
        ValueError: `model` has the towers of an older version of the recipe.
    """
    if get_form(model.config) == get_form(stage.config):
        return model
    if stage.name != "towers" and get_form(model.config) != CLIP_FORM:
        raise ValueError(
            f"`video_pooling` of the towers is {model.config.video_pooling!r}, not 'mean' over one frame: "
            "they are of another version; start the run again in another `--output_dir`"
        )
    changed = FPigModel(stage.config)
    if stage.name != "towers":
        weights = model.state_dict()
        weights[CLASS_EMBEDDING] = weights["vision_model.embeddings.frame_embedding"]
        changed.load_clip_weights(weights)
        changed.logit_scale.data.copy_(model.logit_scale)  # trained, unlike the one of a new model
    return changed


def check_run_folder(run_dir: Path, resume: bool) -> None:
    """
    Refuses to mix two runs in one folder.

    Raises:
        ValueError: `run_dir` holds a run and `resume` is not given, or the other way round.
    """
    has_run = get_stages_dir(run_dir).exists()
    if has_run and not resume:
        raise ValueError(
            f"`output_dir` {run_dir} has a run already, in {get_stages_dir(run_dir)}; pass "
            "`--resume_from_checkpoint` to continue it, or another `--output_dir`"
        )
    if (run_dir / "config.json").exists() and not resume:
        raise ValueError(
            f"`output_dir` {run_dir} holds a model, which would be lost; pass another `--output_dir`"
        )
    if resume and not has_run:
        raise ValueError(
            f"`resume_from_checkpoint` is given but `output_dir` {run_dir} has no run: leave it out"
        )


def configure_stage(
    stage: Stage, args: FPigTrainingArguments, stage_dir: Path, has_validation: bool
) -> FPigTrainingArguments:
    """The run's arguments with this stage's folder, length, learning rate and seed of the draws."""
    stage_args = copy.copy(args)
    stage_args.output_dir = str(stage_dir)
    stage_args.num_train_epochs = stage.num_epochs
    stage_args.learning_rate = stage.learning_rate
    stage_args.resume_from_checkpoint = None
    stage_args.push_to_hub = False  # see `hub_checkpoints`: what the Trainer pushes can't be loaded
    stage_args.hub_token = None  # every checkpoint holds a pickle of these arguments
    # Every stage counts its epochs from 0, and must not see the captions and frames of the one before again.
    seed = args.seed if args.data_seed is None else args.data_seed
    stage_args.data_seed = seed_generator(seed, stage.name).initial_seed() % 2**31
    if not has_validation or stage.generator_only:  # the generator alone has no embedding to validate
        stage_args.eval_strategy = "no"
        stage_args.save_strategy = "epoch" if args.save_strategy == "best" else args.save_strategy
        stage_args.load_best_model_at_end = False
        stage_args.metric_for_best_model = None
    return stage_args


def find_last_checkpoint(stage_dir: Path) -> str | None:
    """The newest whole checkpoint: its state is written last, so one that a kill cut short has none."""
    checkpoints = sorted(stage_dir.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for checkpoint in reversed(checkpoints):
        try:
            json.loads((checkpoint / TRAINER_STATE_NAME).read_text())
        except (FileNotFoundError, ValueError):
            continue  # another error, of a disk, says nothing about the checkpoint
        return str(checkpoint)
    return None


def remove_torn_checkpoints(stage_dir: Path, last_checkpoint: str | None) -> None:
    """Clears away what a kill cut short after the last whole checkpoint, if there is one."""
    last_step = int(last_checkpoint.rpartition("-")[2]) if last_checkpoint else -1
    for folder in stage_dir.glob("checkpoint-*"):
        if int(folder.name.split("-")[1]) > last_step:
            # Else the Trainer, which keeps the newest folders, could take it for one of them.
            shutil.rmtree(folder)


def find_unfinished(stages: list[Stage], run_dir: Path) -> list[Stage]:
    """The stages still to run: from the last one that an earlier start of the run has begun."""
    for number in reversed(range(len(stages))):
        stage_dir = get_stages_dir(run_dir) / stages[number].name
        if (stage_dir / "final").is_dir() or find_last_checkpoint(stage_dir):
            return stages[number:]
    return stages


def place_best_checkpoint(checkpoint: Path) -> None:
    """Names the best checkpoint by where it lies now: the run may have moved, or come from the Hub."""
    path = checkpoint / TRAINER_STATE_NAME
    state = json.loads(path.read_text())
    if state["best_model_checkpoint"]:
        state["best_model_checkpoint"] = str(checkpoint.with_name(Path(state["best_model_checkpoint"]).name))
        partial_path = path.with_suffix(".partial")
        partial_path.write_text(json.dumps(state, indent=2, sort_keys=True) + "\n")
        partial_path.replace(path)


def run_stage(
    stage: Stage,
    model: PreTrainedModel,
    processor: ProcessorMixin,
    train_records: list[CaptionedVideo],
    validation_records: list[CaptionedVideo],
    args: FPigTrainingArguments,
    callbacks: Sequence[TrainerCallback] = (),
) -> PreTrainedModel:
    """
    Trains one stage, or loads its result where an earlier start of the run has finished it.

    With `validation_records` the checkpoint that validates best is kept; pass them for what is released.

    Returns:
        The trained model; for the last stage the checkpoint with the best validation R@1.
    """
    stage_dir = get_stages_dir(args.output_dir) / stage.name
    final_dir = stage_dir / "final"
    if not final_dir.is_dir():
        checkpoint = find_last_checkpoint(stage_dir)
        if args.should_save:
            remove_torn_checkpoints(stage_dir, checkpoint)
            if checkpoint:
                place_best_checkpoint(Path(checkpoint))
        PartialState().wait_for_everyone()
        trainer = ResumableTrainer(
            model=start_stage(stage, model),
            args=configure_stage(stage, args, stage_dir, bool(validation_records)),
            processor=processor,
            train_records=train_records,
            validation_records=validation_records,
            generator_only=stage.generator_only,
        )
        clock = TrainingClock()
        for callback in (clock, *callbacks):
            trainer.add_callback(callback)
        trainer.train(resume_from_checkpoint=checkpoint)
        partial_dir = stage_dir / "final.partial"
        with explain_failed_writes(str(partial_dir)):
            trainer.save_model(str(partial_dir))
        if trainer.is_world_process_zero():
            write_stage_record(stage_dir, stage, trainer, clock)
            partial_dir.replace(final_dir)  # a folder named final is a whole one
        trainer.accelerator.wait_for_everyone()
    # Loaded even where it was trained just now: what is measured is what is released, to the last bit.
    return FPigModel.from_pretrained(final_dir)


__all__ = ["Stage", "check_run_folder", "plan_stages", "run_stage"]
