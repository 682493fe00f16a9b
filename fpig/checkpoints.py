"""The Trainer of a run that may be killed at any moment: no run goes on from half a checkpoint."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import parse_flag_from_env
from transformers import PreTrainedModel

from fpig.fsdp import check_fsdp, gather_weights, make_whole, prepare_for_fsdp
from fpig.trainer import FPigTrainer

# What is special in the messages of torch, and of safetensors and tokenizers; their types say nothing.
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FAILED_WRITES = ("inline_container", "(os error ")


@contextmanager
def explain_failed_writes(folder: str) -> Iterator[None]:
    """
    One kind of error for a disk that is full, for which torch, safetensors and tokenizers have their own.

    Raises:
        OSError: nothing more could be written to `folder`.
    """
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())
        is_full = isinstance(error, OSError) and error.errno in NO_ROOM
        if not is_full and (isinstance(error, OSError) or not any(mark in reason for mark in FAILED_WRITES)):
            raise
        raise OSError(
            f"can't write to `{folder}`: {reason}; make room, and `--resume_from_checkpoint` goes on from "
            "the last whole checkpoint"
        ) from error


class ResumableTrainer(FPigTrainer):
    """
    An `FPigTrainer` whose checkpoints are whole as soon as they have their state.

    transformers writes a checkpoint's `trainer_state.json` last, and removes older checkpoints after that,
    but the process that does so does not wait for the random states of the others. Here it does.

    Args as `FPigTrainer`'s.

    Raises:
        ValueError: as there; or FSDP with settings that it can't be saved with.
    """

    def __init__(self, model: PreTrainedModel, *args: Any, **kwargs: Any) -> None:
        super().__init__(model, *args, **kwargs)
        if parse_flag_from_env("ACCELERATE_USE_FSDP") and not self.is_fsdp_enabled:
            raise ValueError(
                "`distributed_type` is FSDP in the accelerate config, but accelerate has it on no CPU; train "
                "with configs/accelerate/ddp.yaml"
            )
        if self.is_fsdp_enabled:
            check_fsdp(self.accelerator.state.fsdp_plugin)
            prepare_for_fsdp(model)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()  # the first process writes the state next

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        with explain_failed_writes(self.args.output_dir):
            super()._save_checkpoint(model, trial)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """What is written is a model that loads without FSDP."""
        if not self.is_fsdp_enabled:
            super()._save(output_dir, state_dict)
        elif self.args.should_save:
            with self._without_fsdp(state_dict):
                super()._save(output_dir)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As `FPigTrainer`'s; with FSDP of a model that has all weights in every process."""
        if not self.is_fsdp_enabled:
            return super().evaluate(*args, **kwargs)
        with self._without_fsdp(gather_weights(self.model)):
            return super().evaluate(*args, **kwargs)

    @contextmanager
    def _without_fsdp(self, weights: dict[str, torch.Tensor]) -> Iterator[None]:
        sharded = self.model
        self.model = make_whole(sharded, weights).to(self.args.device)
        try:
            yield
        finally:
            self.model = sharded


__all__ = ["ResumableTrainer", "explain_failed_writes"]
