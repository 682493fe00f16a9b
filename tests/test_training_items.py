"""The items of the training dataset: frames and captions drawn from seed, epoch and index alone."""

import pytest
import torch
from torch.utils.data import DataLoader
from toys import make_shapes_processor, make_shapes_records

from fpig.datasets import CaptionedVideo
from fpig.sampler import EpochSampler
from fpig.training_items import VideoCaptionDataset


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_shapes_records(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def processor(records):
    return make_shapes_processor(records)


def test_items(records, processor):
    dataset = VideoCaptionDataset(records, processor, num_frames=5, mode="train", seed=1)
    assert len(dataset) == 6
    item = dataset[2, 0]
    assert item["pixel_values"].shape == (5, 3, 32, 32)
    assert item["video_id"] == records[2].video_id
    assert item["caption"] in records[2].captions


def test_frames_are_those_of_the_video(records, processor):
    dataset = VideoCaptionDataset(records, processor, num_frames=5, mode="test")
    expected = processor(videos=[records[3].video], videos_kwargs={"num_frames": 5})["pixel_values"][0]
    for epoch in range(2):
        assert torch.equal(dataset[3, epoch]["pixel_values"], expected)


def test_draws_depend_on_seed_epoch_and_index_alone(records, processor):
    dataset = VideoCaptionDataset(records, processor, num_frames=4, seed=1)
    torch.manual_seed(0)
    expected = [dataset[index, 3] for index in range(6)]
    torch.manual_seed(1)
    for index in reversed(range(6)):
        item = dataset[index, 3]
        assert item["caption"] == expected[index]["caption"]
        assert torch.equal(item["pixel_values"], expected[index]["pixel_values"])
    by_epoch = [dataset[0, epoch] for epoch in range(30)]
    assert {item["caption"] for item in by_epoch} == set(records[0].captions)
    assert len({item["pixel_values"].sum().item() for item in by_epoch}) > 5
    by_index = VideoCaptionDataset([records[0]] * 10, processor, num_frames=4, seed=1)
    assert len({by_index[index, 0]["caption"] for index in range(10)}) > 1
    other = VideoCaptionDataset(records, processor, num_frames=4, seed=2)
    assert [other[0, epoch]["caption"] for epoch in range(30)] != [item["caption"] for item in by_epoch]


def test_worker_processes_change_nothing(records, processor):
    dataset = VideoCaptionDataset(records, processor, num_frames=4, seed=1)
    batches = {}
    for num_workers in (0, 2):
        sampler = EpochSampler(len(dataset), seed=1)
        loader = DataLoader(
            dataset,
            batch_size=3,
            sampler=sampler,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            multiprocessing_context="fork" if num_workers else None,
        )
        batches[num_workers] = []
        for epoch in range(2):
            sampler.set_epoch(epoch)
            batches[num_workers] += list(loader)
    for here, there in zip(batches[0], batches[2], strict=True):
        assert here["caption"] == there["caption"]
        assert here["video_id"] == there["video_id"]
        assert torch.equal(here["pixel_values"], there["pixel_values"])


def test_embedded_videos_give_the_same_items(records, processor):
    embedded = [CaptionedVideo(r.video_id, open(r.video, "rb").read(), r.captions) for r in records]  # noqa: SIM115
    items = [VideoCaptionDataset(source, processor, num_frames=4)[1, 0] for source in (records, embedded)]
    assert torch.equal(items[0]["pixel_values"], items[1]["pixel_values"])


def test_unreadable_video_stops_and_is_named(tmp_path, processor):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video")
    dataset = VideoCaptionDataset([CaptionedVideo("my/broken", str(path), ("x",))], processor, num_frames=4)
    with pytest.raises(ValueError, match=r"`my/broken` of the dataset can't be used: .*broken\.mp4"):
        dataset[0, 0]


def test_bad_arguments(records, processor):
    with pytest.raises(ValueError, match="`records` is empty but must hold at least one video"):
        VideoCaptionDataset([], processor, num_frames=4)
    with pytest.raises(ValueError, match="`mode` is 'random' but must be 'train' or 'test'"):
        VideoCaptionDataset(records, processor, num_frames=4, mode="random")
