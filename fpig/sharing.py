"""What several processes of one evaluation do: each embeds a share of the videos, and the first ranks."""

from collections.abc import Callable
from datetime import timedelta
from functools import cache
from itertools import zip_longest
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

Result = TypeVar("Result")


def join_processes() -> PartialState:
    """Meets the other processes that `accelerate launch` has started, if there are any."""
    use_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available()
    state = PartialState(cpu=use_cpu)
    connect_cpus()
    return state


def connect_cpus() -> None:
    """
    Connects all processes over gloo; all must call it.

    They do so while they are all alive: who is connected is told at once when another process dies.
    """
    if get_rank_and_size()[1] > 1:
        make_cpu_group()


def get_rank_and_size() -> tuple[int, int]:
    """This process's number and how many there are: 0 and 1 where there is only one."""
    if not dist.is_available() or not dist.is_initialized():
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def is_first_process() -> bool:
    """Whether this is the process that tells and writes."""
    return get_rank_and_size()[0] == 0


def choose_share(num_items: int, batch_size: int) -> list[int]:
    """
    Which of `num_items` this process embeds: every so-many-th batch, in order.

    Batches stay as they are with one process: how a video is rounded depends on its neighbours.
    """
    rank, num_processes = get_rank_and_size()
    return [index for index in range(num_items) if index // batch_size % num_processes == rank]


@cache
def make_cpu_group() -> dist.ProcessGroup:
    """All processes over gloo: NCCL would send objects through the memory of the GPUs."""
    # The time is what the others wait for the first to rank, and for one whose machine has lost its power.
    return dist.new_group(backend="gloo", timeout=timedelta(hours=6))


def gather_in_first(part: Any) -> list[Any]:
    """What all processes have, in order of rank, in the first; nothing in the others. All must call it."""
    rank, num_processes = get_rank_and_size()
    if num_processes == 1:
        return [part]
    parts: list[Any] = [None] * num_processes if rank == 0 else []
    dist.gather_object(part, parts or None, group=make_cpu_group())
    return parts


def run_in_first(compute: Callable[[], Result]) -> Result:
    """
    What `compute` gives in the first process, in all processes. All must call it.

    Raises:
        OSError, ValueError: `compute` raises it in the first process; in all.
    """
    rank, num_processes = get_rank_and_size()
    if num_processes == 1:
        return compute()
    group = make_cpu_group()  # while all are alive: who waits for a first that died here would wait for hours
    outcome: list[Any] = [None]
    if rank == 0:
        try:
            outcome = [compute()]
        except (OSError, ValueError) as error:
            outcome = [error]
    dist.broadcast_object_list(outcome, group=group)
    if isinstance(outcome[0], OSError | ValueError):
        raise outcome[0]
    return outcome[0]


def join_shares(shares: list[list[Any]]) -> list[Any]:
    """The batches of all processes in the order of one process's; undoes `choose_share`."""
    no_batch = object()
    rounds = zip_longest(*shares, fillvalue=no_batch)
    return [batch for batches in rounds for batch in batches if batch is not no_batch]


__all__ = [
    "choose_share",
    "connect_cpus",
    "gather_in_first",
    "get_rank_and_size",
    "is_first_process",
    "join_processes",
    "join_shares",
    "run_in_first",
]
