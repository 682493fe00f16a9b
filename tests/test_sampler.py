"""The training order: seeded, once an epoch, no video twice in a joint batch, unchanged by a restart."""

import itertools

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, DataLoaderShard, skip_first_batches
from torch.utils.data import BatchSampler, Dataset
from transformers import TrainerState

from fpig.sampler import EpochSampler, SetEpochCallback, seed_generator


class PairDataset(Dataset):
    """Returns what it is asked for."""

    def __len__(self):
        return 47

    def __getitem__(self, index_and_epoch):
        return index_and_epoch


def make_loader(num_processes=1, process_index=0, drop_last=True, even_batches=True, **kwargs):
    """The loader that accelerate makes of the Trainer's: sharded where there are several processes."""
    batch_sampler = BatchSampler(EpochSampler(47, seed=5), batch_size=4, drop_last=drop_last)
    if num_processes > 1:
        batch_sampler = BatchSamplerShard(
            batch_sampler, num_processes, process_index, even_batches=even_batches
        )
    return DataLoaderShard(PairDataset(), batch_sampler=batch_sampler, collate_fn=list, **kwargs)


def test_epoch_visits_every_video_once_in_an_order_of_its_own():
    sampler = EpochSampler(100, seed=3)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert len(sampler) == 100
    assert sorted(first) == [(index, 0) for index in range(100)]
    assert sorted(second) == [(index, 1) for index in range(100)]
    orders = [[index for index, _ in pairs] for pairs in (first, second, list(EpochSampler(100, seed=4)))]
    for a, b in itertools.combinations([list(range(100)), *orders], 2):
        assert sum(x == y for x, y in zip(a, b, strict=True)) < 10


def test_order_depends_on_seed_and_epoch_alone():
    torch.manual_seed(0)
    first, second = EpochSampler(50, seed=7), EpochSampler(50, seed=7)
    first.set_epoch(4)
    before = list(first)
    torch.manual_seed(1)
    list(second)
    second.set_epoch(4)
    assert list(second) == before == list(first)


def test_seeds_do_not_add_up():
    values = {
        (seed, epoch): torch.rand((), generator=seed_generator(seed, epoch)).item()
        for seed in range(5)
        for epoch in range(5)
    }
    assert len(set(values.values())) == 25


def test_no_videos_are_refused():
    with pytest.raises(ValueError, match="`num_videos` is 0 but must be at least 1"):
        EpochSampler(0)


@pytest.mark.parametrize("even_batches", [True, False])
@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_no_video_meets_itself_in_a_joint_batch(num_processes, even_batches):
    loaders = [make_loader(num_processes, rank, even_batches=even_batches) for rank in range(num_processes)]
    for epoch in range(3):
        for loader in loaders:
            loader.set_epoch(epoch)
        shards = [list(loader) for loader in loaders]
        assert {len(shard) for shard in shards} == {47 // (4 * num_processes)}
        joint_batches = [list(itertools.chain(*batches)) for batches in zip(*shards, strict=True)]
        for batch in joint_batches:
            assert len({index for index, _ in batch}) == len(batch) == 4 * num_processes
            assert {its_epoch for _, its_epoch in batch} == {epoch}
        visited = [index for batch in joint_batches for index, _ in batch]
        assert len(set(visited)) == len(visited)


def test_incomplete_batches_would_repeat_videos():
    """Why `dataloader_drop_last` is needed: accelerate fills the last joint batch from the epoch's start."""
    shards = [list(make_loader(3, rank, drop_last=False)) for rank in range(3)]
    visited = [index for shard in shards for batch in shard for index, _ in batch]
    assert len(visited) > len(set(visited)) == 47


@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_resumed_epoch_goes_on_in_its_own_order(num_processes):
    for rank in range(num_processes):
        uninterrupted = make_loader(num_processes, rank)
        uninterrupted.set_epoch(2)
        expected = list(uninterrupted)
        restarted = make_loader(num_processes, rank)
        resumed = skip_first_batches(restarted, 1)
        state = TrainerState(epoch=2 + 1 / len(uninterrupted))
        SetEpochCallback().on_epoch_begin(None, state, None, train_dataloader=restarted)
        resumed.set_epoch(2)
        assert list(resumed) == expected[1:]
        SetEpochCallback().on_epoch_begin(None, TrainerState(epoch=3.0), None, train_dataloader=restarted)
        restarted.set_epoch(3)
        assert {epoch for batch in restarted for _, epoch in batch} == {3}


def test_living_worker_processes_learn_the_epoch():
    loader = make_loader(num_workers=2, persistent_workers=True, multiprocessing_context="fork")
    for epoch in range(3):
        loader.set_epoch(epoch)
        expected = list(make_sampler(epoch))[:44]
        assert list(itertools.chain(*loader)) == expected


def make_sampler(epoch):
    sampler = EpochSampler(47, seed=5)
    sampler.set_epoch(epoch)
    return sampler
