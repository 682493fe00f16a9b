"""The order in which training visits the videos: every video once an epoch."""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields `(video index, epoch)` pairs: all videos in an order drawn from the seed and the epoch alone.

    A video comes once an epoch, so two captions of one video never meet in a batch, nor in the joint batch of
    several processes, as long as incomplete batches are dropped (`dataloader_drop_last`; accelerate fills an
    incomplete one from the start of the epoch instead). The epoch travels with the index, so worker processes
    that live on need not be told about it.

    >>> sampler = EpochSampler(num_videos=4, seed=0)
    >>> sampler.set_epoch(2)
    >>> sorted(sampler)
    [(0, 2), (1, 2), (2, 2), (3, 2)]

    Args:
        num_videos: Number of videos in the dataset.
        seed: The same seed and epoch give the same order, on every process and after a restart.

    Raises:
        ValueError: `num_videos` is not positive.
    """

    def __init__(self, num_videos: int, seed: int = 0) -> None:
        if num_videos < 1:
            raise ValueError(
                f"`num_videos` is {num_videos} but must be at least 1; pass a dataset with videos"
            )
        self.num_videos = num_videos
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_videos

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch
        order = torch.randperm(self.num_videos, generator=seed_generator(self.seed, "order", epoch))
        return ((index, epoch) for index in order.tolist())


class SetEpochCallback(TrainerCallback):
    """Tells the training sampler its epoch where transformers and accelerate lose it.

    When a run on several processes resumes in the middle of an epoch, accelerate puts a `SkipBatchSampler`
    around the `BatchSamplerShard`, and `set_epoch` no longer reaches the sampler: it would start again with
    epoch 0. The callback sets it on the loader that has no skipping, which shares the sampler.
    """

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        """Set the epoch that begins; a resumed one has a fractional `state.epoch`."""
        train_dataloader.set_epoch(int(state.epoch))


def seed_generator(seed: int, *names: int | str) -> torch.Generator:
    """Make a random generator that depends on all arguments: neighbouring seeds give unrelated numbers.

    >>> torch.rand((), generator=seed_generator(0, 1)) == torch.rand((), generator=seed_generator(1, 0))
    tensor(False)
    """
    digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
