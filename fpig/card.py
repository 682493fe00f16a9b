"""The model card and `.eval_results`: every number in them comes from `results.json`."""

import shutil
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import (
    EvalResult,
    EvalResultEntry,
    ModelCard,
    ModelCardData,
    eval_result_entries_to_yaml,
    hf_hub_url,
)
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import PreTrainedConfig, ProcessorMixin

METHODS = {
    "pseudo_query": ("F-Pig", "https://arxiv.org/abs/2509.04773"),
    "class_token": ("the CLIP-ViP two-tower baseline of F-Pig", "https://arxiv.org/abs/2209.06430"),
    "mean": ("the CLIP4Clip mean-pooling baseline of F-Pig", "https://arxiv.org/abs/2104.08860"),
}
CARD_METRICS = ("R@1", "R@5", "R@10", "SumR", "MdR", "MnR")
DIRECTIONS = {
    "t2v": "text → video",
    "v2t": "video → text",
    "v2t_caption_pool": "video → text, caption pool",
}
TASKS = {
    "t2v": ("text-to-video-retrieval", "Text-to-video retrieval"),
    "v2t": ("video-to-text-retrieval", "Video-to-text retrieval"),
    "v2t_caption_pool": ("video-to-text-retrieval", "Video-to-text retrieval"),
}
FIGURE_NAME = "method.png"
NOT_MEASURED = "Not measured."


def write_model_card(
    folder: Path,
    config: PreTrainedConfig,
    processor: ProcessorMixin,
    results: dict[str, Any] | None,
    card_template: Path,
    repository: str | None = None,
    base_model: str | None = None,
    progress: str | None = None,
) -> None:
    """
    Writes `README.md`, and `.eval_results/` where something was measured; every number is one of `results`.

    Args:
        folder: of the release; with the method's figure in it (`copy_method_figure`) the card shows it.
        config: the model's.
        processor: the model's.
        results: what `results.json` holds; without its `metrics` or its `training` the card says so.
        card_template: a Jinja template.
        repository: "owner/name" on the Hub; by default the folder's name stands for it.
        base_model: the Hub's name of the checkpoint that training started from.
        progress: a sentence for the top of a card that is written while the model trains.
    """
    results = results or {}
    name = (repository or folder.name).split("/")[-1]
    method, method_url = METHODS[config.video_pooling]
    training = results.get("training")
    card = ModelCard.from_template(
        make_card_data(name, results, base_model),
        template_path=str(card_template),
        title=name,
        repository=repository or folder.name,
        base_model=base_model,
        progress=progress,
        video_pooling=config.video_pooling,
        use_interaction=config.use_interaction,
        num_selected_tokens=config.num_selected_tokens,
        method=method,
        method_url=method_url,
        figure=FIGURE_NAME if (folder / FIGURE_NAME).is_file() else None,
        num_frames=config.num_frames,
        image_size=config.vision_config.image_size,
        max_length=processor.max_length,
        results=results,
        results_table=make_results_table(results),
        training=training,
        stages_table=make_stages_table(training) if training else NOT_MEASURED,
        settings_table=make_settings_table(training) if training else None,
        resources=describe_resources(training) if training else NOT_MEASURED,
    )
    card.save(folder / "README.md")
    write_eval_results(folder, results, repository)


def copy_method_figure(folder: Path, config: PreTrainedConfig, figure: Path) -> None:
    """Puts the method's figure into `folder`; it shows all of F-Pig, so others' releases have none."""
    is_whole = config.use_interaction and config.num_selected_tokens > 0
    if config.video_pooling == "pseudo_query" and is_whole:
        shutil.copyfile(figure, folder / FIGURE_NAME)


def make_card_data(name: str, results: dict[str, Any], base_model: str | None) -> ModelCardData:
    """The card's metadata, with the measured numbers as the Hub's model index."""
    training = results.get("training") or {}
    dataset = results.get("dataset") or training.get("dataset") or ""
    return ModelCardData(
        library_name="transformers",
        license="apache-2.0",
        language=training.get("language"),
        pipeline_tag="feature-extraction",
        tags=[
            *("fpig", "video-text-retrieval", "text-to-video-retrieval", "custom_code"),
            "sentence-transformers",  # so that the Hub offers it beside transformers
        ],
        datasets=[dataset] if "/" in dataset else None,  # paths have been cut, so this is one of the Hub
        base_model=base_model,
        base_model_relation="finetune" if base_model else None,
        model_name=name,
        eval_results=make_eval_results(results) or None,
    )


def make_eval_results(results: dict[str, Any]) -> list[EvalResult]:
    """All numbers of all protocols for the model index."""
    if not results.get("metrics"):
        return []
    return [
        EvalResult(
            task_type=TASKS[direction][0],
            task_name=TASKS[direction][1],
            dataset_type=results["dataset"],
            dataset_name=f"{results['dataset']} ({results['split']})",
            dataset_split=results["split"],
            metric_type=metric,
            metric_name=f"{title} {metric}",
            metric_value=results["metrics"][f"{direction}_{metric}"],
        )
        for direction, title in DIRECTIONS.items()
        for metric in CARD_METRICS
    ]


def write_eval_results(folder: Path, results: dict[str, Any], repository: str | None) -> None:
    """
    Writes `.eval_results/<data set>.yaml`, where the Hub looks for a model's numbers on a benchmark.

    The Hub knows data sets by their names there: one whose name no repository can have gets no file. A task
    has the number's name in `results.json`.
    """
    if not results.get("metrics"):
        return
    try:
        validate_repo_id(results["dataset"])
    except HFValidationError:
        return
    if results["dataset"].count("/") != 1 and results["dataset"] != "shapes":  # a file on this machine
        return
    source = {}
    if repository:
        source = {"source_url": hf_hub_url(repository, "results.json"), "source_name": "results.json"}
    protocol = results["protocol"]
    entries = [
        EvalResultEntry(
            dataset_id=results["dataset"],
            task_id=f"{direction}_{metric}",
            value=results["metrics"][f"{direction}_{metric}"],
            date=results["date"],
            notes=f"split {results['split']}; {protocol[direction]}; ties: {protocol['ties']}",
            **source,
        )
        for direction in DIRECTIONS
        for metric in CARD_METRICS
    ]
    path = folder / ".eval_results" / f"{results['dataset'].split('/')[-1]}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True))


def make_table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; all columns but the first are flush right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def make_results_table(results: dict[str, Any]) -> str:
    """One row for each protocol."""
    metrics = results.get("metrics")
    if not metrics:
        return NOT_MEASURED
    rows = [
        [title, *(f"{metrics[f'{direction}_{metric}']:.1f}" for metric in CARD_METRICS)]
        for direction, title in DIRECTIONS.items()
    ]
    return make_table(["", *CARD_METRICS], rows)


def make_stages_table(training: dict[str, Any]) -> str:
    """One row for each stage that ran."""
    rows = [
        [stage["name"], f"{stage['num_epochs']:g}", str(stage["num_steps"]), f"{stage['learning_rate']:g}"]
        for stage in training["stages"]
    ]
    return make_table(["stage", "epochs", "steps", "learning rate"], rows)


def make_settings_table(training: dict[str, Any]) -> str:
    """One row for each setting that the record names."""
    rows = [[f"`{name}`", str(value)] for name, value in training["settings"].items()]
    return make_table(["setting", "value"], rows)


def describe_resources(training: dict[str, Any]) -> str:
    """Hardware, time and energy, one line each."""
    hardware = dict.fromkeys(
        f"{item['name']}, {item['unit']}s: {item['num_units']}, processes: {item['num_processes']}"
        for item in (stage["hardware"] for stage in training["stages"])
    )
    times = [f"{stage['name']} {stage['seconds']:.1f} s" for stage in training["stages"]]
    energy = training["energy"]
    watt_hours = energy["watt_hours"]
    return "\n".join(
        (
            f"- Hardware: {'; '.join(hardware)}.",
            f"- Time: {training['seconds']:.1f} s ({training['hours']:.2f} h): {', '.join(times)}.",
            f"- Energy: {'not estimated' if watt_hours is None else f'about {watt_hours:.2f} Wh'}: "
            f"{energy['estimate']}.",
        )
    )


__all__ = ["copy_method_figure", "write_model_card"]
