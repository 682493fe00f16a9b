"""What a release folder holds: weights, configs, processor, code files, measured numbers and a model card."""

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, ProcessorMixin

from fpig.card import copy_method_figure, write_model_card
from fpig.sentence_transformers_files import write_sentence_transformers_files


def write_release(
    folder: Path,
    model: PreTrainedModel,
    processor: ProcessorMixin,
    results: dict[str, Any] | None,
    card_template: Path,
    repository: str | None = None,
    base_model: str | None = None,
    method_figure: Path | None = None,
) -> None:
    """
    Writes everything that a Hub repository of the model needs into `folder`.

    Args:
        folder: made if it does not exist.
        model: saved with its code files.
        processor: saved with its code files.
        results: what was measured, written to `results.json` and into the card; `None` if nothing was.
        card_template: the model card's template.
        repository: "owner/name" on the Hub, if it is published there.
        base_model: the Hub's name of the checkpoint that training started from.
        method_figure: the picture of the method for F-Pig's card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    write_sentence_transformers_files(folder)
    if results is not None:
        (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    if method_figure is not None:
        copy_method_figure(folder, model.config, method_figure)
    write_model_card(folder, model.config, processor, results, card_template, repository, base_model)


__all__ = ["write_release"]
