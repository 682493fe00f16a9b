"""One of the processes that load data together; `test_distributed.py` starts them."""

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import torch.distributed as dist
from accelerate import PartialState

ROOT = Path(__file__).parents[1]


def load_script(name: str) -> object:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_for_training(dataset: str) -> dict[str, list[str]]:
    """Role → ids of the videos that training takes."""
    data_args = SimpleNamespace(
        dataset=dataset,
        data_root="",
        train_split="train",
        validation_split="",
        test_split="test",
        on_missing="skip",
    )
    training_args = SimpleNamespace(main_process_first=lambda desc: PartialState().local_main_process_first())
    splits = load_script("train").load_splits(data_args, training_args)
    return {role: [record.video_id for record in split.records] for role, split in splits.items()}


def load_for_evaluation(dataset: str) -> list[str]:
    """Ids of the videos that are measured."""
    measured: list[str] = []

    def keep(model: object, processor: object, records: list, *arguments: object) -> None:
        measured.extend(record.video_id for record in records)
        raise ValueError("that is all")

    encoder = SimpleNamespace(to=lambda device: None), None
    script = load_script("eval")
    options = ["--model=toy", f"--dataset={dataset}", "--on_missing=skip", "--no_figure"]
    with (
        patch("fpig.embedding.load_encoder", lambda *arguments: encoder),
        patch("fpig.evaluation.evaluate_retrieval", keep),
    ):
        try:
            script.evaluate(script.parse_arguments(options))
        except ValueError as error:
            if str(error) != "that is all":
                raise
    return measured


def main() -> None:
    """
    Writes what this process loads of the data set that the first argument names to a file beside it. Process
    1 can read only the first video of a split; where there is a second argument, process 0 fails with it.
    """
    dataset, failure = Path(sys.argv[1]), sys.argv[2:]
    PartialState()  # as training has it; `evaluate` joins the processes itself
    rank = dist.get_rank()

    def find_unreadable(videos: dict) -> dict[str, str]:
        if rank == 0 and failure:
            raise OSError(*failure)
        return {} if rank == 0 else dict.fromkeys(list(videos)[1:], "unreadable: for a moment")

    with patch("fpig.datasets.find_unreadable", find_unreadable):
        try:
            loaded = load_for_training(str(dataset)), load_for_evaluation(str(dataset))
        except (OSError, ValueError) as error:
            loaded = str(error)
    dataset.with_name(f"{rank}.json").write_text(json.dumps(loaded))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
