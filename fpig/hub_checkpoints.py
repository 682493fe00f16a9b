"""Checkpoints on the Hub while training goes on: each loads, and a new machine can go on from the last."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from accelerate import PartialState
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HTTPError
from huggingface_hub.utils import disable_progress_bars
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from fpig.hub_requests import get_reason, name_hub_errors, retry
from fpig.hub_target import HubTarget
from fpig.publishing import commit_release, list_release_files
from fpig.training_record import RECORD_NAME

LAST_CHECKPOINT = "last-checkpoint"
# A pickle of all arguments, with paths and the token: nothing reads it, and nobody else should.
PRIVATE_FILES = ("training_args.bin",)
logger = logging.getLogger(__name__)


class HubCheckpointCallback(TrainerCallback):
    """
    Pushes each checkpoint from a thread, as one commit that holds a whole release.

    A push that fails is logged, and training goes on: the next checkpoint is pushed in its place.

    Args:
        target: the repository, prepared.
        write_documents: writes the card and the settings into a folder, given what to say of the progress.
        with_state: also push what `--resume_from_checkpoint` needs.
        always_push: wait in line while another push goes on, instead of leaving this checkpoint out.
    """

    def __init__(
        self,
        target: HubTarget,
        write_documents: Callable[[Path, str], None],
        with_state: bool = False,
        always_push: bool = False,
    ) -> None:
        self.target = target
        self.write_documents = write_documents
        self.with_state = with_state
        self.always_push = always_push
        self.executor = ThreadPoolExecutor(max_workers=1)
        self.last_push: Future | None = None
        disable_progress_bars()  # they would cross the training's own

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Removes what a killed run was about to push."""
        if state.is_world_process_zero:
            for snapshot in Path(args.output_dir).glob("push-*"):
                shutil.rmtree(snapshot, ignore_errors=True)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes a snapshot of the checkpoint, which may be deleted at the next one, and pushes that."""
        PartialState().wait_for_everyone()  # every process writes a part of it
        is_pushing = self.last_push is not None and not self.last_push.done()
        if not state.is_world_process_zero or (is_pushing and not self.always_push):
            return
        stage_dir = Path(args.output_dir)
        checkpoint = stage_dir / f"checkpoint-{state.global_step}"
        progress = (
            f"Training in progress: stage {stage_dir.name}, step {state.global_step} of {state.max_steps}"
        )
        snapshot = stage_dir / f"push-{state.global_step}"
        link_files(checkpoint, snapshot, list_release_files(checkpoint))
        self.write_documents(snapshot, progress)
        if self.with_state:
            link_state(stage_dir, checkpoint, snapshot / LAST_CHECKPOINT)
            link_files(snapshot, snapshot / LAST_CHECKPOINT, ["settings.yaml"])
        self.last_push = self.executor.submit(self.push, snapshot, progress)

    def push(self, snapshot: Path, message: str) -> None:
        """One commit; in a thread."""
        try:
            commit = commit_release(snapshot, self.target, message)
        except (OSError, HTTPError, RuntimeError, ValueError) as error:
            logger.warning("Not pushed (%s): %s. Training goes on.", message, get_reason(error))
        else:
            logger.warning("Pushed to %s at %s: %s", self.target.repo_id, commit, message)
        finally:
            shutil.rmtree(snapshot, ignore_errors=True)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Waits for the push that goes on."""
        if self.last_push is not None:
            self.last_push.result()


def link_files(source: Path, folder: Path, names: list[str]) -> None:
    """A second name for each file, which keeps the content when the first is deleted; else a copy."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source / name, folder / name)
        except OSError:
            shutil.copy(source / name, folder / name)


def link_state(stage_dir: Path, checkpoint: Path, folder: Path) -> None:
    """What a run goes on from, laid out as in its own folder: the checkpoint, and the best one's weights."""
    state = json.loads((checkpoint / TRAINER_STATE_NAME).read_text())
    place = folder / stage_dir.name / checkpoint.name
    names = [path.name for path in checkpoint.iterdir() if path.is_file() and path.name not in PRIVATE_FILES]
    link_files(checkpoint, place, [name for name in names if name != TRAINER_STATE_NAME])
    best = Path(state["best_model_checkpoint"] or checkpoint)
    if best.name != checkpoint.name:
        link_files(best, folder / stage_dir.name / best.name, list_release_files(best))
    for record in stage_dir.parent.glob(f"*/{RECORD_NAME}"):  # what the stages before it took
        link_files(record.parent, folder / record.parent.name, [RECORD_NAME])
    if state["best_model_checkpoint"]:
        state["best_model_checkpoint"] = best.name  # its path is nobody's business
    (place / TRAINER_STATE_NAME).write_text(json.dumps(state, indent=2) + "\n")


def fetch_last_checkpoint(target: HubTarget, stages_dir: Path) -> None:
    """
    Lays the Hub's last checkpoint where a run that is resumed looks for its own.

    Raises:
        ValueError: the repository has none.
        OSError: it can't be reached, or is not there.
    """
    partial_dir = stages_dir.with_name(f"{stages_dir.name}.partial")
    with name_hub_errors(target):
        retry(
            lambda: snapshot_download(
                target.repo_id,
                revision=target.revision,
                token=target.token,
                allow_patterns=f"{LAST_CHECKPOINT}/*",
                local_dir=partial_dir,
            )
        )
    if not (partial_dir / LAST_CHECKPOINT).is_dir():
        raise ValueError(
            f"`{target.repo_id}` has no {LAST_CHECKPOINT}; `--hub_strategy checkpoint` leaves one there "
            "until the run is finished"
        )
    (partial_dir / LAST_CHECKPOINT).replace(stages_dir)
    shutil.rmtree(partial_dir)


__all__ = ["HubCheckpointCallback", "fetch_last_checkpoint"]
