"""
Trains F-Pig, or one of its two-tower baselines, and leaves a folder that `AutoModel` loads.

    accelerate launch train.py                                  # the generated benchmark, from random weights
    accelerate launch train.py configs/shapes.yaml --seed 1     # a YAML file first; the command line wins
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub.errors import StrictDataclassError

from fpig.training_args import check_settings, get_stages_dir, parse_arguments, write_settings

if TYPE_CHECKING:
    from fpig.datasets import CaptionedVideo
    from fpig.training_args import DataArguments, FPigTrainingArguments, ModelArguments

ROOT = Path(__file__).parent
DEFAULT_CONFIG = ROOT / "configs" / "shapes.yaml"
CARD_TEMPLATE = ROOT / "model_card.md"
METHOD_FIGURE = ROOT / "docs" / "method.png"


def load_splits(
    data_args: "DataArguments", training_args: "FPigTrainingArguments"
) -> "dict[str, list[CaptionedVideo]]":
    """The splits by what they are for; a generated data set is made by the first process of a machine."""
    from fpig.datasets import load_captioned_videos

    names = {
        "train": data_args.train_split or None,  # without a name all videos
        "validation": data_args.validation_split,
        "test": data_args.test_split,
    }
    with training_args.main_process_first(desc="loading the data"):
        return {
            role: load_captioned_videos(data_args.dataset, name)
            for role, name in names.items()
            if name or role == "train"
        }


def train(
    model_args: "ModelArguments", data_args: "DataArguments", training_args: "FPigTrainingArguments"
) -> None:
    """Runs every stage that the settings ask for, measures the test split and writes the release."""
    from accelerate import PartialState
    from transformers import set_seed

    from fpig.evaluation import describe_results, evaluate_retrieval
    from fpig.hub import write_release
    from fpig.stages import check_run_folder, plan_stages, run_stage
    from fpig.start import get_base_model, load_start
    from fpig.training_record import describe_training

    run_dir = Path(training_args.output_dir)
    splits = load_splits(data_args, training_args)
    set_seed(training_args.seed)
    captions = [caption for video in splits["train"] for caption in video.captions]
    model, processor = load_start(model_args, captions)
    has_trained_towers = bool(model_args.clip_name_or_path or model_args.model_name_or_path)
    stages = plan_stages(model.config.video_pooling, has_trained_towers, training_args)
    check_run_folder(run_dir, training_args.resume_from_checkpoint)
    settings, settings_path = (
        (model_args, data_args, training_args),
        get_stages_dir(run_dir) / "settings.yaml",
    )
    if training_args.resume_from_checkpoint:
        check_settings(settings, settings_path)
    PartialState().wait_for_everyone()  # no process writes before all have looked
    if training_args.should_save:
        write_settings(settings, settings_path)
    for stage in stages:
        set_seed(training_args.seed)
        validation_records = splits.get("validation", []) if stage is stages[-1] else []
        model = run_stage(stage, model, processor, splits["train"], validation_records, training_args)
    results = {}
    if splits.get("test"):
        measured = evaluate_retrieval(
            model.to(training_args.device),
            processor,
            splits["test"],
            batch_size=training_args.per_device_eval_batch_size,
            num_workers=training_args.dataloader_num_workers,
        )
        results = describe_results(measured, data_args.dataset, data_args.test_split)
    if training_args.should_save:
        finals = [get_stages_dir(run_dir) / stage.name / "final" for stage in stages]
        results["training"] = describe_training(settings, splits, finals, model.config, processor)
        write_release(
            run_dir,
            model,
            processor,
            results,
            CARD_TEMPLATE,
            base_model=get_base_model(model_args),
            method_figure=METHOD_FIGURE,
        )
        write_settings(settings, run_dir / "settings.yaml", cut_local_paths=True)
        print(f"Released to {run_dir}")


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
