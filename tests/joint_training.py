"""One of the processes that train and measure together; `test_several_processes.py` starts them."""

import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from toys import make_model, make_processor
from training_process import StepRecorder, read_whole
from video_retrieval.embedding_ranking import rank_embeddings

from fpig.checkpoints import ResumableTrainer
from fpig.datasets import CaptionedVideo
from fpig.evaluation import evaluate_retrieval
from fpig.extra_measurements import ExtraMeasurements
from fpig.sharing import get_rank_and_size
from fpig.training_args import FPigTrainingArguments

JOINT_BATCH_SIZE = 6
EXTRAS = ExtraMeasurements(class_token=True, query_interaction=True, num_reranked=2)


class BatchRecorder(ResumableTrainer):
    """Keeps the ids of this process's batches."""

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any) -> torch.Tensor:
        """As it is, after a note."""
        self.batches = [*vars(self).get("batches", []), inputs["video_ids"]]
        return super().training_step(model, inputs, *args)


def measure(records: list[CaptionedVideo], bad_video: str) -> dict[str, Any]:
    """An evaluation with everything in it, and what one with unreadable videos says."""
    processor = make_processor()
    model = make_model(processor)
    with patch("fpig.evaluation.rank_embeddings", wraps=rank_embeddings) as ranking:
        results = evaluate_retrieval(model, processor, records, batch_size=2, extras=EXTRAS)
    # The seventh lies in another process's share than the fourth, and every process must name the fourth.
    damaged = [replace(r, video=bad_video) if index in (3, 6) else r for index, r in enumerate(records)]
    try:
        evaluate_retrieval(model, processor, damaged, batch_size=2)
        message = None
    except ValueError as error:
        message = str(error)
    return {"results": vars(results), "message": message, "num_rankings": ranking.call_count}


def train(records: list[CaptionedVideo], folder: Path, num_processes: int = 1) -> dict[str, Any]:
    """Six steps in three epochs without dropout, which every process would draw for itself."""
    processor = make_processor()
    model = make_model(processor, interaction_dropout=0.0)
    args = FPigTrainingArguments(
        output_dir=str(folder / "run"),
        per_device_train_batch_size=JOINT_BATCH_SIZE // num_processes,
        per_device_eval_batch_size=2,
        num_train_epochs=3,
        learning_rate=1e-3,
        logging_steps=1,
        disable_tqdm=True,
        use_cpu="ACCELERATE_TORCH_DEVICE" not in os.environ,
        dataloader_pin_memory=False,
        eval_strategy="epoch",
        save_strategy="no",
        load_best_model_at_end=False,
    )
    trainer = BatchRecorder(model, args, processor, records, records)
    recorder = StepRecorder()
    trainer.add_callback(recorder)
    metrics = trainer.evaluate()
    trainer.train()
    return {
        "metrics": metrics,
        "trained_metrics": trainer.evaluate(),
        "batches": trainer.batches,
        "losses": [line["loss"] for line in trainer.state.log_history if "loss" in line],
        "gradients": recorder.gradients,
        "weights": {name: read_whole(parameter) for name, parameter in trainer.model.named_parameters()},
    }


def main() -> None:
    """Writes what this process has seen to the folder named by the argument."""
    folder = Path(sys.argv[1])
    records = pickle.loads((folder.parent / "records.pickle").read_bytes())
    num_processes = int(sys.argv[2])
    trained = train(records, folder, num_processes)  # it joins the processes
    rank, size = get_rank_and_size()
    measured = measure(records, str(folder.parent / "bad.mp4"))
    torch.save(trained | measured | {"size": size}, folder / f"{rank}.pt")


if __name__ == "__main__":
    main()
