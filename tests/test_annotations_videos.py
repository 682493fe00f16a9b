"""Where the videos of a data set lie, and which of them are no videos."""

import os

import pytest
from fake_datasets import write_folder
from make_clips import paint_frames
from toys import write_clip

from fpig.annotations import videos as annotated_videos
from fpig.annotations.videos import find_absent, find_unreadable, locate_videos


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", seed=1, num_frames=2)


@pytest.fixture
def videos(tmp_path):
    (tmp_path / "videos").mkdir()
    return tmp_path / "videos"


# Where they lie


def test_files_are_found_by_whole_names(tmp_path):
    """Ids with suffixes, one of them a bare dot; and without; in subfolders too."""
    names = ["a.mov", "b.", "sub/c..mp4", "sub/deep/d.mov.MP4", "e.mp4", "f.txt", "g", ".mp4", "h.x.webm"]
    for name in names:
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).touch()
    ids = ["a.mov", "b.", "c.", "d.mov", "e", "f", "h.x", "a", "b", "c", "e.mov"]
    found, doubled = locate_videos(tmp_path, ids)
    assert doubled == []
    assert {video_id: os.path.relpath(path, tmp_path / "videos") for video_id, path in found.items()} == {
        "a.mov": "a.mov",
        "b.": "b.",
        "c.": "sub/c..mp4",
        "d.mov": "sub/deep/d.mov.MP4",
        "e": "e.mp4",
        "h.x": "h.x.webm",
    }
    assert locate_videos(tmp_path / "nowhere", ids) == ({}, [])


def test_links_to_folders_are_followed_but_in_no_circle(videos, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.mp4").write_bytes(b"a")
    for name in ("one", "two"):
        (videos / name).symlink_to(tmp_path / "elsewhere")
    for name in ("x", "y", "z"):
        (tmp_path / "elsewhere" / name).symlink_to(videos)
    (videos / "a.mkv").symlink_to(tmp_path / "elsewhere" / "a.mp4")
    assert locate_videos(tmp_path, ["a"]) == ({"a": str(videos / "a.mkv")}, [])
    (videos / "a.mkv").unlink()
    assert locate_videos(tmp_path, ["a"]) == ({"a": str(videos / "one" / "a.mp4")}, [])


def test_every_further_file_of_an_id_is_told(videos, tmp_path):
    for name in ("a.avi", "a.mkv", "a.mp4", "b.avi", "b.mp4", "c.mp4"):
        (videos / name).write_bytes(b"content")
    found, doubled = locate_videos(tmp_path, ["a", "b", "c"])
    assert found == {name[0]: str(videos / name) for name in ("a.avi", "b.avi", "c.mp4")}
    assert len(doubled) == 3
    assert doubled[1].startswith(f"`a` has two videos, {videos / 'a.avi'} and {videos / 'a.mp4'}, and which")


def test_frames_stand_in_for_files_without_content(videos, tmp_path):
    """A file without a byte, a link to nothing, and a file that is one."""
    (videos / "a.mp4").touch()
    (videos / "b.mp4").symlink_to(tmp_path / "gone.mp4")
    (videos / "c.mp4").write_bytes(b"content")
    frames = tmp_path / "frames"
    frames.mkdir()
    for name in "abc":
        write_folder(frames / name, paint_frames(1))
    (frames / "d").write_bytes(b"a file is no folder of pictures")
    found = {"a": str(frames / "a"), "b": str(frames / "b"), "c": str(videos / "c.mp4")}
    assert locate_videos(tmp_path, "abcd") == (found, [])


# What is none


def test_what_is_neither_file_nor_folder_is_missing(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    assert find_absent({"a": str(tmp_path / "pipe.mp4"), "b": ""}) == {"a": "missing", "b": "missing"}


def test_hidden_files_are_no_pictures(tmp_path):
    (tmp_path / "._frame_0.png").write_bytes(b"what a Mac leaves")
    reason = "empty: a folder without a picture"
    assert find_absent({"a": str(tmp_path)}) == {"a": reason}
    (tmp_path / "frame_0.png").write_bytes(b"picture")
    assert find_absent({"a": str(tmp_path)}) == {}


def test_many_videos_are_decoded_in_processes_with_a_progress_bar(tmp_path, clip, capsys):
    videos = {}
    for number in range(150):
        path = tmp_path / f"{number}.mp4"
        os.link(clip, path) if number % 50 else path.write_bytes(b"no video")
        videos[str(number)] = str(path)
    assert list(find_unreadable(videos)) == ["0", "50", "100"]
    assert "Opening videos: 100%" in capsys.readouterr().err
    assert find_unreadable({"0": videos["0"]}).keys() == {"0"}
    assert capsys.readouterr().err == ""


def die(items):
    os._exit(9)


def test_killed_processes_end_in_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("fpig.annotations.videos._try_videos", die)
    with pytest.raises(
        OSError, match="a process that decoded videos was killed, after 0 of 99 or soon later"
    ):
        find_unreadable({str(number): "any" for number in range(99)})


@pytest.mark.parametrize(("platform", "method"), [("linux", "fork"), ("darwin", None), ("win32", None)])
def test_processes_fork_on_linux_alone_and_are_at_most_61(monkeypatch, platform, method):
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr("os.cpu_count", lambda: 200)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(200)), raising=False)
    assert annotated_videos._choose_method() == method
    assert annotated_videos._count_workers() == 61
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 5, 9}, raising=False)
    assert annotated_videos._count_workers() == 3
