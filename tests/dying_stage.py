"""A stage in processes of its own, which die at the worst moments, or find their disk full."""

import multiprocessing
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from fpig.datasets import CaptionedVideo


@dataclass(frozen=True)
class Accident:
    """
    What happens to the process `rank` when it calls the function `name` of `owner` for the `count`-th time:
    it is killed "before", or "halfway" through the file that is written, or from then on no file may be
    larger than `kind` bytes.
    """

    owner: str
    name: str
    kind: str
    rank: int = 0
    count: int = 2


def die() -> None:
    """As the system's own killer does it: nothing is flushed, closed or caught."""
    os.kill(os.getpid(), signal.SIGKILL)


def find_file(arguments: tuple) -> Path:
    """The file that a call writes."""
    return Path(next(value for value in arguments if isinstance(value, str | Path)))


def prepare(accident: Accident) -> None:
    """Lies in wait."""
    from transformers import Trainer, TrainerState
    from transformers.tokenization_utils_tokenizers import TokenizersBackend

    from fpig.checkpoints import ResumableTrainer
    from fpig.trainer import FPigTrainer

    classes = (Trainer, FPigTrainer, ResumableTrainer, TrainerState, TokenizersBackend)
    owners = {cls.__name__: cls for cls in classes}
    owner = owners.get(accident.owner, sys.modules.get(accident.owner))
    original: Callable = vars(owner)[accident.name]
    calls: list[None] = []

    def call(*arguments: object, **named: object) -> object:
        calls.append(None)
        if len(calls) != accident.count:
            return original(*arguments, **named)
        if accident.kind == "before":
            die()
        if accident.kind == "halfway":
            original(*arguments, **named)
            path = find_file(arguments)
            os.truncate(path, path.stat().st_size // 2)
            die()
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(accident.kind), int(accident.kind)))
        return original(*arguments, **named)

    setattr(owner, accident.name, call)


def run(
    run_dir: Path,
    records: list[CaptionedVideo],
    place: tuple[int, int, int],
    accident: Accident | None,
    use_fsdp: bool,
) -> None:
    """
    One process of a stage of eight steps, or four with FSDP, each of which is saved; `place` is rank, size
    and port.
    """
    rank, size, port = place
    run_dir.parent.mkdir(exist_ok=True)
    sys.stderr = (run_dir.parent / f"stderr{rank}").open("w")
    if size > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
        os.environ |= {"LOCAL_WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if use_fsdp:
        from fsdp_on_cpu import FSDP, take_cpus_for_gpus

        os.environ |= FSDP
        take_cpus_for_gpus()
    from toys import make_model, make_processor
    from transformers import set_seed

    from fpig.stages import Stage, run_stage
    from fpig.training_args import FPigTrainingArguments

    torch.set_num_threads(1)
    args = FPigTrainingArguments(
        output_dir=str(run_dir),
        per_device_train_batch_size=2 // size,
        save_strategy="steps",
        save_steps=1,
        eval_strategy="steps",  # as the save strategy, though nothing is validated
        eval_steps=1,
        save_total_limit=1,
        logging_steps=1,
        disable_tqdm=True,
        use_cpu=not use_fsdp,
        dataloader_pin_memory=False,
        seed=7,
    )
    if accident and accident.rank == rank:
        prepare(accident)
    processor = make_processor()
    model = make_model(processor)
    set_seed(args.seed)
    try:
        run_stage(
            Stage("joint", 1 if use_fsdp else 2, 1e-3, model.config), model, processor, records, [], args
        )
    except (OSError, ValueError) as error:  # as train.py
        raise SystemExit(f"error: {error}") from error


@contextmanager
def start(
    run_dir: Path,
    records: list[CaptionedVideo],
    size: int = 1,
    accident: Accident | None = None,
    use_fsdp: bool = False,
) -> Iterator[list[multiprocessing.Process]]:
    """The processes of a stage; none of them is left in the end."""
    context = multiprocessing.get_context("forkserver")  # the imports take longer than all the rest
    context.set_forkserver_preload(["fpig.stages", "torch.distributed.fsdp", "torch.distributed.checkpoint"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        context.Process(target=run, args=(run_dir, records, (rank, size, port), accident, use_fsdp))
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.join()
