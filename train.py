"""
Trains F-Pig, or one of its two-tower baselines, and leaves a folder that `AutoModel` loads.

    accelerate launch train.py                                  # the generated benchmark, from random weights
    accelerate launch train.py configs/shapes.yaml --seed 1     # a YAML file first; the command line wins
"""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub.errors import StrictDataclassError

from fpig.argument_parsing import parse_arguments
from fpig.settings import check_settings, get_stages_dir, write_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedModel, ProcessorMixin, TrainerCallback

    from fpig.datasets import CaptionedSplit
    from fpig.hub_target import HubTarget
    from fpig.stages import Stage
    from fpig.training_args import DataArguments, FPigTrainingArguments, ModelArguments

ROOT = Path(__file__).parent
DEFAULT_CONFIG = ROOT / "configs" / "shapes.yaml"
CARD_TEMPLATE = ROOT / "model_card.md"
METHOD_FIGURE = ROOT / "docs" / "method.png"


def load_splits(
    data_args: "DataArguments", training_args: "FPigTrainingArguments"
) -> "dict[str, CaptionedSplit]":
    """
    The splits by what they are for; a generated data set is made by the first process of a machine, and the
    first of all decides which videos are left out.
    """
    from fpig.datasets import check_videos, load_annotated

    names = {
        "train": data_args.train_split or None,  # without a name all videos
        "validation": data_args.validation_split,
        "test": data_args.test_split,
    }
    with training_args.main_process_first(desc="loading the data"):
        annotated = {
            role: load_annotated(data_args.dataset, name, data_args.data_root)
            for role, name in names.items()
            if name or role == "train"
        }
    return {
        role: check_videos(split, data_args.on_missing, is_shared=True) for role, split in annotated.items()
    }


def make_hub_target(training_args: "FPigTrainingArguments") -> "HubTarget | None":
    """Where the run pushes, if it does."""
    from fpig.hub_target import HubTarget

    if not training_args.push_to_hub:
        return None
    return HubTarget(
        training_args.hub_model_id,
        training_args.hub_revision,
        training_args.hub_private_repo or None,  # `None`: as the organisation has it
        training_args.hub_token,
    )


def make_callbacks(
    training_args: "FPigTrainingArguments", write_documents: "Callable[[Path, str], None]"
) -> "list[TrainerCallback]":
    """What pushes while training goes on, as `hub_strategy` says."""
    from fpig.hub_checkpoints import HubCheckpointCallback

    target = make_hub_target(training_args)
    if target is None or training_args.hub_strategy == "end":
        return []
    with_state = training_args.hub_strategy == "checkpoint"
    return [HubCheckpointCallback(target, write_documents, with_state, training_args.hub_always_push)]


def prepare_run(settings: tuple, stages: "list[Stage]") -> "list[Stage]":
    """Refuses a folder that is not this run's, fetches what the Hub has of it, says which stages are left."""
    from accelerate import PartialState

    from fpig.hub_checkpoints import fetch_last_checkpoint
    from fpig.stages import check_run_folder, find_unfinished

    training_args = settings[-1]
    run_dir = Path(training_args.output_dir)
    settings_path = get_stages_dir(run_dir) / "settings.yaml"
    target = make_hub_target(training_args)
    with training_args.main_process_first(desc="fetching the last checkpoint"):
        if target is not None and training_args.resume_from_checkpoint and not settings_path.exists():
            fetch_last_checkpoint(target, get_stages_dir(run_dir))
    check_run_folder(run_dir, training_args.resume_from_checkpoint)
    if training_args.resume_from_checkpoint:
        check_settings(settings, settings_path)
    PartialState().wait_for_everyone()  # no process writes before all have looked
    if training_args.should_save:
        partial_path = settings_path.with_suffix(".partial")
        write_settings(settings, partial_path)
        partial_path.replace(settings_path)  # a run that is killed here can be continued
    return find_unfinished(stages, run_dir)


def write_progress(settings: tuple, processor: "ProcessorMixin", folder: Path, progress: str) -> None:
    """What a checkpoint that is pushed while training goes on lacks of a release, numbers aside."""
    from transformers import AutoConfig

    from fpig.card import copy_method_figure, write_model_card
    from fpig.sentence_transformers_files import write_sentence_transformers_files
    from fpig.start import get_base_model

    model_args, _, training_args = settings
    config = AutoConfig.from_pretrained(folder)
    write_sentence_transformers_files(folder)
    copy_method_figure(folder, config, METHOD_FIGURE)
    write_settings(settings, folder / "settings.yaml", is_public=True)
    card = {"repository": training_args.hub_model_id, "base_model": get_base_model(model_args)}
    write_model_card(folder, config, processor, None, CARD_TEMPLATE, **card, progress=progress)


def release(settings: tuple, results: dict, model: "PreTrainedModel", processor: "ProcessorMixin") -> None:
    """Writes the release, and publishes it where the settings say so."""
    from fpig.checkpoints import explain_failed_writes
    from fpig.hub import write_release
    from fpig.publishing import publish_release
    from fpig.start import get_base_model

    model_args, _, training_args = settings
    run_dir = Path(training_args.output_dir)
    card = {"repository": training_args.hub_model_id, "base_model": get_base_model(model_args)}
    with explain_failed_writes(str(run_dir)):
        write_release(run_dir, model, processor, results, CARD_TEMPLATE, **card, method_figure=METHOD_FIGURE)
        write_settings(settings, run_dir / "settings.yaml", is_public=True)
    print(f"Released to {run_dir}")
    target = make_hub_target(training_args)
    if target is not None:
        try:
            commit = publish_release(run_dir, target, "Release")
        except (OSError, ValueError) as error:
            raise SystemExit(
                f"error: {error}\n"
                f"The release is in {run_dir}; `fpig push {run_dir} {target.repo_id}` tries again"
            ) from error
        print(f"Published {target.api.endpoint}/{target.repo_id} at {commit}")


def train(
    model_args: "ModelArguments", data_args: "DataArguments", training_args: "FPigTrainingArguments"
) -> None:
    """Runs every stage that the settings ask for, measures the test split and writes the release."""
    from transformers import set_seed

    from fpig.evaluation import describe_results, evaluate_retrieval
    from fpig.publishing import prepare_repository
    from fpig.stages import plan_stages, run_stage
    from fpig.start import load_start
    from fpig.training_record import describe_training

    settings = (model_args, data_args, training_args)
    target = make_hub_target(training_args)
    if target is not None and training_args.should_save:
        # What is wrong with it should not be found out after the training.
        prepare_repository(target, for_checkpoints=training_args.hub_strategy != "end")
    splits = load_splits(data_args, training_args)
    records = {role: split.records for role, split in splits.items()}
    set_seed(training_args.seed)
    captions = [caption for video in records["train"] for caption in video.captions]
    model, processor = load_start(model_args, captions)
    has_trained_towers = bool(model_args.clip_name_or_path or model_args.model_name_or_path)
    stages = plan_stages(model.config, has_trained_towers, training_args)
    callbacks = make_callbacks(training_args, partial(write_progress, settings, processor))
    for stage in prepare_run(settings, stages):
        set_seed(training_args.seed)
        validation_records = records.get("validation", []) if stage is stages[-1] else []
        model = run_stage(
            stage, model, processor, records["train"], validation_records, training_args, callbacks
        )
    results = {}
    if records.get("test"):
        measured = evaluate_retrieval(
            model.to(training_args.device),
            processor,
            records["test"],
            batch_size=training_args.per_device_eval_batch_size,
            num_workers=training_args.dataloader_num_workers,
        )
        results = describe_results(measured, splits["test"])
    if training_args.should_save:
        stage_dirs = [get_stages_dir(training_args.output_dir) / stage.name for stage in stages]
        results["training"] = describe_training(settings, splits, stage_dirs, model.config, processor)
        release(settings, results, model, processor)


def main() -> None:
    """Bad settings and bad data end in one line on stderr; all else is a bug and keeps its traceback."""
    model_args, data_args, training_args = parse_arguments(sys.argv[1:], DEFAULT_CONFIG)
    try:
        train(model_args, data_args, training_args)
    except (ValueError, OSError, FloatingPointError, StrictDataclassError) as error:
        # One that comes out of a data loader's worker carries a whole traceback and ends with the message.
        message = str(error).strip() or type(error).__name__
        raise SystemExit(f"error: {message.splitlines()[-1]}") from error


if __name__ == "__main__":
    main()
