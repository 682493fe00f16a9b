"""What a release folder holds: weights, configs, processor, code files, measured numbers and a model card."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import PreTrainedModel, ProcessorMixin

METHODS = {
    "pseudo_query": ("F-Pig", "https://arxiv.org/abs/2509.04773"),
    "class_token": ("the CLIP-ViP two-tower baseline of F-Pig", "https://arxiv.org/abs/2209.06430"),
    "mean": ("the CLIP4Clip mean-pooling baseline of F-Pig", "https://arxiv.org/abs/2104.08860"),
}
CARD_METRICS = ("R@1", "R@5", "R@10", "MdR", "MnR")


def write_release(
    folder: Path,
    model: PreTrainedModel,
    processor: ProcessorMixin,
    results: dict[str, Any] | None,
    card_template: Path,
) -> None:
    """
    Writes everything that a Hub repository of the model needs into `folder`.

    Args:
        folder: made if it does not exist.
        model: saved with its code files.
        processor: saved with its code files.
        results: what was measured, written to `results.json` and into the card; `None` if nothing was.
        card_template: the model card's template.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    if results is not None:
        (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    write_model_card(folder, model, processor, results, card_template)


def write_model_card(
    folder: Path,
    model: PreTrainedModel,
    processor: ProcessorMixin,
    results: dict[str, Any] | None,
    card_template: Path,
) -> None:
    """Writes `README.md`; every number in it is one of `results`."""
    method, method_url = METHODS[model.config.video_pooling]
    card = ModelCard.from_template(
        make_card_data(folder.name, results),
        template_path=str(card_template),
        title=folder.name,
        repository=folder.name,
        method=method,
        method_url=method_url,
        num_frames=model.config.num_frames,
        image_size=model.config.vision_config.image_size,
        max_length=processor.max_length,
        dataset=results["dataset"] if results else "not stated",
        example_query="a dog runs on the beach",
        results_table=make_results_table(results),
    )
    card.save(folder / "README.md")


def make_card_data(name: str, results: dict[str, Any] | None) -> ModelCardData:
    """The card's metadata, with the measured text-to-video numbers as the Hub's model index."""
    eval_results = None
    if results:
        eval_results = [
            EvalResult(
                task_type="text-to-video-retrieval",
                task_name="Text-to-video retrieval",
                dataset_type=results["dataset"],
                dataset_name=f"{results['dataset']} ({results['split']})",
                metric_type=metric,
                metric_value=results["metrics"][f"t2v_{metric}"],
            )
            for metric in CARD_METRICS
        ]
    return ModelCardData(
        library_name="transformers",
        license="apache-2.0",
        pipeline_tag="feature-extraction",
        tags=["fpig", "video-text-retrieval", "text-to-video-retrieval", "custom_code"],
        model_name=name,
        eval_results=eval_results,
    )


def make_results_table(results: dict[str, Any] | None) -> str:
    """A Markdown table of both directions."""
    if not results:
        return "Not measured."
    lines = [f"| direction | {' | '.join(CARD_METRICS)} |", "|---" * (len(CARD_METRICS) + 1) + "|"]
    for direction, title in (("t2v", "text → video"), ("v2t", "video → text")):
        values = (results["metrics"][f"{direction}_{metric}"] for metric in CARD_METRICS)
        lines.append(f"| {title} | {' | '.join(f'{value:.1f}' for value in values)} |")
    sizes = f"{results['num_captions']} captions, {results['num_videos']} videos"
    return (
        f"`{results['dataset']}`, split `{results['split']}` ({sizes}), recall in percent:\n\n"
        + "\n".join(lines)
    )


__all__ = ["write_model_card", "write_release"]
