"""The folder of the generated benchmark: made once, whole after a kill, the same for everybody."""

import io
import json
import signal
import subprocess
import sys
import time

import av
import pytest
from filelock import FileLock

from fpig.shapes import find_cache_dir, is_whole_mp4, make_shapes
from fpig.shapes_drawing import NUM_FRAMES
from fpig.shapes_scenes import draw_scenes

SMALL_COUNTS = {"num_train": 12, "num_validation": 3, "num_test": 3}


@pytest.fixture(scope="module")
def small_folder(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp("shapes"), **SMALL_COUNTS, num_workers=2)


def count_frames(path):
    with av.open(io.BytesIO(path.read_bytes())) as container:
        return sum(1 for _ in container.decode(video=0))


def read_files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_mp4_is_h264_yuv420p(small_folder):
    with av.open(small_folder / "test" / "00000.mp4") as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.frames, stream.average_rate) == (64, 64, 24, 8)


def test_metadata_describes_every_file(small_folder):
    rows = [json.loads(line) for line in (small_folder / "metadata.jsonl").read_text().splitlines()]
    assert [row["split"] for row in rows].count("train") == 12
    assert len(rows) == 18
    for row in rows:
        assert (small_folder / row["video"]).stat().st_size == row["num_bytes"]
        assert len(row["caption"]) == 5


def test_same_seed_gives_same_bytes_whatever_the_number_of_workers(small_folder, tmp_path):
    again = make_shapes(tmp_path, **SMALL_COUNTS, num_workers=1)
    assert again.name == small_folder.name
    assert read_files(again) == read_files(small_folder)
    other = make_shapes(tmp_path, **SMALL_COUNTS, num_workers=1, seed=1)
    assert other != again
    assert (other / "metadata.jsonl").read_bytes() != (again / "metadata.jsonl").read_bytes()


def test_stopped_run_goes_on(small_folder, tmp_path):
    folder = make_shapes(tmp_path, **SMALL_COUNTS, num_workers=1)
    (folder / "metadata.jsonl").unlink()
    kept, torn, lost = (folder / "train" / f"{index:05d}.mp4" for index in range(3))
    kept_time = kept.stat().st_mtime_ns
    torn.write_bytes(torn.read_bytes()[:3000])
    (folder / "train" / ".00002.mp4.partial").write_bytes(lost.read_bytes()[:100])
    lost.unlink()
    assert make_shapes(tmp_path, **SMALL_COUNTS, num_workers=1) == folder
    assert kept.stat().st_mtime_ns == kept_time
    assert read_files(folder) == read_files(small_folder)


@pytest.mark.parametrize("damage", ["cut", "removed"])
def test_damaged_video_is_made_again(small_folder, tmp_path, damage):
    folder = make_shapes(tmp_path, **SMALL_COUNTS, num_workers=1)
    video = folder / "test" / "00001.mp4"
    if damage == "cut":
        video.write_bytes(b"")
    else:
        video.unlink()
    make_shapes(tmp_path, **SMALL_COUNTS, num_workers=1)
    assert read_files(folder) == read_files(small_folder)


MAKE = "import sys; from fpig.shapes import make_shapes; make_shapes(sys.argv[1], 0, *map(int, sys.argv[2:]))"


def test_killed_run_leaves_nothing_half_made(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", MAKE, str(tmp_path), "800", "5", "5", "1"], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("*/train/*.mp4"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(tmp_path.glob("*/metadata.jsonl"))
    for path in tmp_path.glob("*/*/*.mp4"):
        assert count_frames(path) == NUM_FRAMES


def test_two_processes_at_once_make_one_data_set(small_folder, tmp_path):
    command = [sys.executable, "-c", MAKE, str(tmp_path), "12", "3", "3", "1"]
    processes = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert read_files(tmp_path / small_folder.name) == read_files(small_folder)


def test_second_process_waits_for_the_first(small_folder, tmp_path):
    with FileLock(tmp_path / f"{small_folder.name}.lock"):
        process = subprocess.Popen([sys.executable, "-c", MAKE, str(tmp_path), "12", "3", "3", "1"])
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=3)
        assert not list(tmp_path.glob("*/*/*.mp4"))
    assert process.wait(timeout=120) == 0
    assert read_files(tmp_path / small_folder.name) == read_files(small_folder)


def test_whole_mp4_is_told_from_a_torn_one(small_folder, tmp_path):
    content = (small_folder / "test" / "00000.mp4").read_bytes()
    path = tmp_path / "video.mp4"
    assert not is_whole_mp4(path)
    for num_bytes, is_whole in (
        (len(content), True),
        (len(content) - 1, False),
        (4, False),
        (0, False),
        (36, False),
    ):
        path.write_bytes(content[:num_bytes])
        assert is_whole_mp4(path) == is_whole, num_bytes


def test_cache_dir_comes_from_argument_or_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("FPIG_HOME", raising=False)
    assert str(find_cache_dir()).endswith("/.cache/fpig")
    monkeypatch.setenv("FPIG_HOME", str(tmp_path / "home"))
    assert find_cache_dir() == tmp_path / "home"
    assert find_cache_dir(tmp_path) == tmp_path


@pytest.mark.parametrize("name", ["num_train", "num_validation", "num_test", "num_workers"])
def test_counts_must_be_positive(tmp_path, name):
    with pytest.raises(ValueError, match=f"`{name}` is 0 but must be at least 1"):
        make_shapes(tmp_path, **{name: 0})


def test_more_videos_than_scenes_are_refused():
    with pytest.raises(ValueError, match=r"`num_train` is 100000 but only \d+ scenes are left"):
        draw_scenes(0, {"train": 100_000, "validation": 1, "test": 1})
