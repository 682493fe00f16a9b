"""The frames that training keeps on a disk: the same items as without, whatever happens to the files."""

import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from toys import make_shapes_processor, make_shapes_records

from fpig.frame_cache import HEADER_BYTES, RESERVED_BYTES, FrameCache, write_frames
from fpig.sampler import EpochSampler
from fpig.training_items import VideoCaptionDataset
from processing_fpig import FPigProcessor, FPigVideoProcessor

NUM_CANDIDATES = 9  # of 24 frames
BYTES_OF_VIDEO = NUM_CANDIDATES * (3 * 32 * 32 + 8) + HEADER_BYTES
LARGE = 10 * BYTES_OF_VIDEO


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_shapes_records(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def processor(records):
    return make_shapes_processor(records)


def make_cache(folder, processor, records, num_candidates=NUM_CANDIDATES, max_bytes=LARGE):
    videos = [record.video for record in records]
    return FrameCache(folder, processor.video_processor, videos, num_candidates, max_bytes)


def make_items(records, processor, num_candidates=NUM_CANDIDATES, cache=None):
    return VideoCaptionDataset(
        records, processor, num_frames=4, seed=1, num_candidates=num_candidates, frame_cache=cache
    )


def assert_equal_items(items, expected, epochs=range(3)):
    for epoch in epochs:
        for index in range(len(expected)):
            item, other = items[index, epoch], expected[index, epoch]
            assert torch.equal(item["pixel_values"], other["pixel_values"])
            assert (item["caption"], item["video_id"]) == (other["caption"], other["video_id"])


class NoDecoding(FPigVideoProcessor):
    """Can't open a video."""

    def read_candidates(self, video, num_candidates):
        raise AssertionError("a video is decoded")


def forbid_decoding(processor):
    return FPigProcessor(NoDecoding(num_frames=4, size=32), processor.tokenizer)


def take_first(num_available):
    return list(range(min(4, num_available)))


FILL = """
import resource, signal, sys
from fpig.frame_cache import FrameCache
from processing_fpig import FPigVideoProcessor
folder, max_file_size, *videos = sys.argv[1:]
if int(max_file_size):  # what is written beyond it fails as on a full disk
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(max_file_size),) * 2)
cache = FrameCache(folder, FPigVideoProcessor(num_frames=4, size=224), videos, 20, 2**30)
for index in range(len(videos)):
    frames = cache.read(index, lambda num_available: [0, 7])
    print(frames if frames is None else frames.sum().item())
"""


def fill(folder, videos, max_file_size=0):
    command = [sys.executable, "-c", FILL, str(folder), str(max_file_size), *map(str, videos)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def copies(records, tmp_path_factory):
    """Eighty clips, so that to decode them takes a while."""
    folder = tmp_path_factory.mktemp("copies")
    return [shutil.copy(records[number % 6].video, folder / f"{number:02d}.mp4") for number in range(80)]


@pytest.fixture(scope="module")
def sums(copies):
    """What `FILL` prints of them."""
    processor = FPigVideoProcessor(num_frames=4, size=224)
    distinct = [processor.read_candidates(video, 20)[[0, 7]].sum().item() for video in copies[:6]]
    return [distinct[number % 6] for number in range(80)]


@pytest.mark.parametrize("num_candidates", [4, NUM_CANDIDATES, 24, 1000])
def test_items_are_those_without_a_cache_and_decoded_once(records, processor, tmp_path, num_candidates):
    expected = make_items(records, processor, num_candidates)
    cache = make_cache(tmp_path, processor, records, num_candidates, max_bytes=2**30)
    assert_equal_items(make_items(records, processor, num_candidates, cache), expected)
    again = forbid_decoding(processor)
    cache = make_cache(tmp_path, again, records, num_candidates, max_bytes=2**30)
    assert_equal_items(make_items(records, again, num_candidates, cache), expected, range(5))
    if num_candidates >= 24:  # as many as the clips have frames
        assert_equal_items(expected, make_items(records, processor, None))


def test_only_candidates_are_taken(records, processor):
    every = processor.video_processor([records[0].video], num_frames=24)["pixel_values"][0]
    candidates = [every[index] for index in (0, 2, 5, 8, 11, 14, 17, 20, 23)]  # floor(linspace(0, 23, 9))
    items = make_items(records, processor)
    taken = set()
    for epoch in range(30):
        for frame in items[0, epoch]["pixel_values"]:
            matches = [number for number, other in enumerate(candidates) if torch.equal(frame, other)]
            assert len(matches) == 1
            taken.add(matches[0])
    assert taken == set(range(9))


def test_file_holds_the_candidates_as_they_are_resized(records, processor, tmp_path):
    make_cache(tmp_path, processor, records).read(2, take_first)
    (path,) = tmp_path.iterdir()
    pixel_values = processor.video_processor([records[2].video], num_frames=NUM_CANDIDATES)["pixel_values"][0]
    frames = load_file(path)["frames"]
    assert torch.equal(frames, processor.video_processor.make_pictures(pixel_values))
    assert path.stat().st_size <= BYTES_OF_VIDEO


def cut(content):
    return content[: len(content) // 2]


def flip(content, position):
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        partial(flip, position=-5000),
        partial(flip, position=3),
        lambda content: b"",
        lambda content: b"no",
    ],
    ids=["cut", "frame", "header", "empty", "other"],
)
def test_damaged_file_is_made_again(records, processor, tmp_path, damage):
    cache = make_cache(tmp_path, processor, records)
    items, expected = make_items(records, processor, cache=cache), make_items(records, processor)
    assert_equal_items(items, expected)
    path = tmp_path / cache.names[2]
    content = path.read_bytes()
    path.write_bytes(damage(content))
    with pytest.warns(UserWarning, match=r"the cached frames `.*` are damaged \(.*\) and made again"):
        assert_equal_items(items, expected, range(20))
    assert path.read_bytes() == content
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_equal_items(items, expected)


def test_damaged_frame_that_is_not_taken_disturbs_nobody(records, processor, tmp_path):
    cache = make_cache(tmp_path, processor, records)
    expected = cache.read(0, take_first)
    path = tmp_path / cache.names[0]
    path.write_bytes(flip(path.read_bytes(), -2))  # in the last frame
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(cache.read(0, take_first), expected)


@pytest.mark.parametrize(
    ("settings", "num_candidates"),
    [
        ({"size": 48}, NUM_CANDIDATES),
        ({"resize_mode": "squash"}, NUM_CANDIDATES),
        ({"keyframes_only": True}, NUM_CANDIDATES),
        ({}, 12),
    ],
)
def test_file_from_other_settings_is_made_again(records, processor, tmp_path, settings, num_candidates):
    other = FPigProcessor(FPigVideoProcessor(**{"num_frames": 4, "size": 32} | settings), processor.tokenizer)
    old = make_cache(tmp_path, other, records, num_candidates, max_bytes=2**30)
    assert_equal_items(
        make_items(records, other, num_candidates, old), make_items(records, other, num_candidates), [0]
    )
    items = make_items(records, processor, cache=make_cache(tmp_path, processor, records))
    assert_equal_items(items, make_items(records, processor))
    assert len(list(tmp_path.iterdir())) == len(records)


def test_file_of_another_version_of_the_video_is_made_again(records, processor, tmp_path):
    video = tmp_path / "clip.mp4"
    first, second = (Path(record.video).read_bytes() for record in records[:2])
    video.write_bytes(first)
    cache = FrameCache(tmp_path / "cache", processor.video_processor, [str(video)], NUM_CANDIDATES, LARGE)
    before = cache.read(0, take_first)
    video.write_bytes(second)
    after = cache.read(0, take_first)
    assert not torch.equal(before, after)
    expected = processor.video_processor.read_candidates(records[1].video, NUM_CANDIDATES)[:4]
    assert torch.equal(after, expected)


def test_content_of_a_video_is_a_video(records, processor, tmp_path):
    content = Path(records[0].video).read_bytes()
    cache = FrameCache(tmp_path, processor.video_processor, [content], NUM_CANDIDATES, LARGE)
    expected = processor.video_processor.read_candidates(content, NUM_CANDIDATES)[:4]
    assert torch.equal(cache.read(0, take_first), expected)
    assert torch.equal(cache.read(0, take_first), expected)
    assert len(list(tmp_path.iterdir())) == 1


def test_folder_stays_within_its_bound(records, processor, tmp_path, caplog):
    def measure():
        return sum(path.stat().st_size for path in tmp_path.iterdir())

    expected = make_items(records, processor)
    max_bytes = 4 * BYTES_OF_VIDEO + 100
    cache = make_cache(tmp_path, processor, records, max_bytes=max_bytes)
    assert "keeps 4 of 6 videos, the others are decoded in every epoch: `--frame_cache_gib` is" in caplog.text
    assert "of other videos" not in caplog.text
    assert_equal_items(make_items(records, processor, cache=cache), expected)
    assert 3 * BYTES_OF_VIDEO < measure() <= max_bytes
    # What another data set has left counts.
    other = make_cache(tmp_path, processor, records[4:], max_bytes=5 * BYTES_OF_VIDEO)
    assert other.num_kept == 1
    assert "0.01 too small, and 0.00 GiB in the folder are of other videos" in caplog.text
    assert_equal_items(make_items(records[4:], processor, cache=other), make_items(records[4:], processor))
    assert measure() <= 5 * BYTES_OF_VIDEO
    # Less is allowed than before.
    cache = make_cache(tmp_path, processor, records, max_bytes=2 * BYTES_OF_VIDEO)
    assert_equal_items(make_items(records, processor, cache=cache), expected)
    assert measure() <= 2 * BYTES_OF_VIDEO
    assert make_cache(tmp_path, processor, records, max_bytes=100).num_kept == 0
    assert measure() == 0


def test_whole_data_set_is_kept_without_a_word(records, processor, tmp_path, caplog):
    assert make_cache(tmp_path, processor, records, max_bytes=6 * BYTES_OF_VIDEO).num_kept == 6
    assert not caplog.text


def test_what_a_killed_run_left_is_cleared_when_it_is_old(records, processor, tmp_path):
    video, token = "0123456789abcdef" * 4, "0123456789abcdef"
    old, new = (tmp_path / f"{video}.frames-{name}.partial" for name in (token, token[::-1]))
    foreign = [tmp_path / name for name in ("film.mp4.partial", "notes.txt", f"{video}.frames-1.partial")]
    folder = tmp_path / "final.partial"
    folder.mkdir()
    hours_ago = time.time() - 2 * 3600
    for path in (old, new, *foreign):
        path.write_bytes(bytes(100))
    for path in (old, *foreign, folder):
        os.utime(path, (hours_ago, hours_ago))
    make_cache(tmp_path, processor, records)
    assert set(tmp_path.iterdir()) == {new, folder, *foreign}


def test_pictures_that_change_in_their_folder_are_read_again(processor, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", (40, 40), (10, 10, 10)).save(folder / f"{number}.png")
    cache = FrameCache(tmp_path / "cache", processor.video_processor, [str(folder)], 4, LARGE)
    assert (cache.read(0, take_first) == 10).all()
    Image.new("RGB", (40, 40), (200, 10, 10)).save(folder / "2.png")
    assert cache.read(0, take_first)[2, 0].eq(200).all()


def test_file_that_can_not_be_read_is_damaged(records, processor, tmp_path):
    cache = make_cache(tmp_path, processor, records)
    expected = cache.read(0, take_first)
    path = tmp_path / cache.names[0]
    path.unlink()
    path.mkdir()
    with pytest.warns(UserWarning, match="are damaged") as told:
        assert torch.equal(cache.read(0, take_first), expected)
    assert "can't be written to" in str(told[-1].message)


def test_nothing_is_kept_when_the_disk_is_nearly_full(records, processor, tmp_path, monkeypatch):
    cache = make_cache(tmp_path, processor, records)
    expected = make_items(records, processor)
    items = make_items(records, processor, cache=cache)
    assert_equal_items(items, expected, [0])
    (tmp_path / cache.names[1]).unlink()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=RESERVED_BYTES))
    with pytest.warns(UserWarning, match="can't be written to .less than 1 GiB would be left on its disk"):
        assert_equal_items(items, expected, [1])
    assert not (tmp_path / cache.names[1]).exists()
    # From now on only what is there is read: a lost video is decoded without its candidates.
    items.processor = forbid_decoding(processor)
    cache.video_processor = items.processor.video_processor
    assert_equal_items(items, expected)
    assert cache.read(1, take_first) is None


def test_killed_run_goes_on_where_it_was(copies, sums, tmp_path):
    with fill(tmp_path, copies) as process:
        while len(list(tmp_path.glob("*.frames"))) < 5:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.frames")}
    assert len(made) < len(copies)
    told, problems = fill(tmp_path, copies).communicate(timeout=120)
    assert not problems
    assert list(map(int, told.split())) == sums
    assert len(list(tmp_path.glob("*.frames"))) == len(copies)
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_two_processes_fill_one_folder(copies, sums, tmp_path):
    for process in [fill(tmp_path, copies[:20]) for _ in range(2)]:
        told, problems = process.communicate(timeout=240)
        assert not problems
        assert list(map(int, told.split())) == sums[:20]
    assert len(list(tmp_path.iterdir())) == 20


def test_full_disk_is_told_once_and_leaves_nothing(copies, sums, tmp_path):
    told, problems = fill(tmp_path, copies[:3], max_file_size=100_000).communicate(timeout=120)
    assert told.split() == [str(sums[0]), "None", "None"]  # which are decoded without their candidates
    assert f"the frame cache `{tmp_path}` can't be written to (File too large)" in problems
    assert problems.count("UserWarning") == 1  # and not one a video
    assert not list(tmp_path.iterdir())


def test_worker_processes_share_the_cache(records, processor, tmp_path):
    expected = make_items(records, processor)
    items = make_items(records, processor, cache=make_cache(tmp_path, processor, records))
    sampler = EpochSampler(len(records), seed=1)
    for used in (processor, forbid_decoding(processor)):
        items.processor, items.frame_cache.video_processor = used, used.video_processor
        loader = DataLoader(items, batch_size=2, sampler=sampler, num_workers=2, collate_fn=list)
        found = {item["video_id"]: item for batch in loader for item in batch}
        for index, record in enumerate(records):
            assert torch.equal(found[record.video_id]["pixel_values"], expected[index, 0]["pixel_values"])
    assert len(list(tmp_path.iterdir())) == len(records)


def test_cache_that_can_not_be_made(records, processor, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"`frame_cache` is '.*', which can't be made \(.*\); name a folder"):
        make_cache(tmp_path / "file", processor, records)


def test_larger_files_of_other_settings_make_room(records, processor, tmp_path):
    many = make_cache(tmp_path, processor, records, num_candidates=24, max_bytes=2**30)
    assert_equal_items(make_items(records, processor, 24, many), make_items(records, processor, 24), [0])
    # The last video first: the larger files of the others would still be there.
    cache = make_cache(tmp_path, processor, records, max_bytes=6 * BYTES_OF_VIDEO)
    cache.read(5, take_first)
    assert [path.name for path in tmp_path.iterdir()] == [cache.names[5]]


def test_bound_counts_the_checksums_of_many_small_frames(tmp_path):
    clips = [torch.randint(256, (1500, 3, 4, 4), dtype=torch.uint8) for _ in range(2)]
    processor = FPigVideoProcessor(num_frames=4, size=4)
    cache = FrameCache(tmp_path, processor, [str(tmp_path / name) for name in "ab"], 1500, 2**20)
    for path, clip in zip(cache.names, clips, strict=True):
        write_frames(tmp_path / path, clip, {"made_of": "x" * 200})
    num_bytes = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert FrameCache(tmp_path, processor, cache.videos, 1500, num_bytes).num_kept < 2
