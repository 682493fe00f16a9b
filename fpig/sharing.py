"""What several processes of one evaluation do: each embeds a share of the videos, and all get everything."""

from itertools import zip_longest
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env


def join_processes() -> PartialState:
    """Meets the other processes that `accelerate launch` has started, if there are any."""
    use_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available()
    return PartialState(cpu=use_cpu)


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


def gather_objects(part: Any) -> list[Any]:
    """What all processes have, in order of rank. All must call it."""
    _, num_processes = get_rank_and_size()
    if num_processes == 1:
        return [part]
    parts: list[Any] = [None] * num_processes
    dist.all_gather_object(parts, part)
    return parts


def take_from_first(part: Any) -> Any:
    """What the first process has. All must call it."""
    return gather_objects(part)[0]


def join_shares(shares: list[list[Any]]) -> list[Any]:
    """The batches of all processes in the order of one process's; undoes `choose_share`."""
    no_batch = object()
    rounds = zip_longest(*shares, fillvalue=no_batch)
    return [batch for batches in rounds for batch in batches if batch is not no_batch]


__all__ = [
    "choose_share",
    "gather_objects",
    "get_rank_and_size",
    "is_first_process",
    "join_processes",
    "join_shares",
    "take_from_first",
]
