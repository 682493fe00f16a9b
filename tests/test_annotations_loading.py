"""`load_split`: published data sets through the same door, and videos that are missing or can't be read."""

import logging
import os
import shutil
from dataclasses import replace

import pytest
from fake_datasets import write_folder, write_lines, write_msvd
from make_clips import paint_frames
from toys import write_clip

from fpig.annotations import PUBLISHED
from fpig.annotations.published import hash_captions, hash_ids
from fpig.annotations.videos import find_absent, find_unreadable, locate_videos
from fpig.datasets import load_captioned_videos, load_split


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", seed=1, num_frames=2)


@pytest.fixture
def msvd(tmp_path, clip, monkeypatch):
    """A folder of MSVD with the training videos a and b, and the test videos c, d and e."""
    dataset = PUBLISHED["msvd"]
    sizes = {"train": 2, "validation": 1, "test": 3}
    splits = {
        split: replace(dataset.splits[split], num_videos=size, min_captions=1)
        for split, size in sizes.items()
    }
    monkeypatch.setitem(PUBLISHED, "msvd", replace(dataset, splits=splits))
    captions = {video_id: [f"{video_id} one", f"{video_id} two"] for video_id in "abcde"}
    write_msvd(tmp_path, captions, train=["b", "a"], test=["e", "c", "d"])
    (tmp_path / "videos").mkdir()
    for video_id in "abcde":
        shutil.copy(clip, tmp_path / "videos" / f"{video_id}.avi")
    return tmp_path


def get_ids(loaded):
    return [record.video_id for record in loaded.records]


# What it loads


def test_published_split(msvd):
    loaded = load_split("msvd", "test", msvd)
    assert (loaded.dataset, loaded.split, loaded.published_size) == ("msvd", "test", 3)
    assert (loaded.protocol, loaded.skipped) == ("several captions", {})
    assert get_ids(loaded) == ["e", "c", "d"], "the order of the list"
    assert loaded.records[1].captions == ("c one", "c two")
    assert loaded.records[1].video == str(msvd / "videos" / "c.avi")
    assert loaded.id_checksum == hash_ids("cde")
    pairs = [(record.video_id, record.captions) for record in loaded.records]
    assert loaded.caption_checksum == hash_captions(pairs)


def test_published_root_is_a_folder_of_data_by_default(msvd, monkeypatch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(folder)
    with pytest.raises(FileNotFoundError, match="`data/msvd` is no folder"):
        load_captioned_videos("msvd", "test")
    (folder / "data").mkdir()
    (folder / "data" / "msvd").symlink_to(msvd)
    assert load_captioned_videos("msvd", "test") == load_split("msvd", "test", "data/msvd").records


def test_all_splits_of_a_published_data_set(msvd):
    with pytest.raises(FileNotFoundError, match="val_list.txt with"):
        load_split("msvd", None, msvd)
    write_msvd(msvd, {video_id: ["x"] for video_id in "abcdef"}, val=["f"])
    shutil.copy(msvd / "videos" / "a.avi", msvd / "videos" / "f.avi")
    loaded = load_split("msvd", None, msvd)
    assert (get_ids(loaded), loaded.split, loaded.published_size) == (list("bafecd"), None, 6)


def test_protocol_of_tables(tmp_path, clip):
    shutil.copy(clip, tmp_path / "a.mp4")
    (tmp_path / "list.csv").write_text("video,caption\na.mp4,one\n")
    loaded = load_split(tmp_path / "list.csv")
    assert (loaded.dataset, loaded.protocol) == (str(tmp_path / "list.csv"), "one caption")
    assert (loaded.split, loaded.published_size) == (None, None)
    (tmp_path / "list.csv").write_text("video,caption\na.mp4,one\na.mp4,two\n")
    assert load_split(tmp_path / "list.csv").protocol == "several captions"


def test_folders_of_pictures_are_videos(msvd):
    """In `frames` of a published data set, where there is no file, and as the path of a table."""
    (msvd / "videos" / "c.avi").unlink()
    (msvd / "frames").mkdir()
    for video_id in "cd":
        write_folder(msvd / "frames" / video_id, paint_frames(3))
    videos = {record.video_id: record.video for record in load_split("msvd", "test", msvd, "skip").records}
    assert videos["c"] == str(msvd / "frames" / "c")
    assert videos["d"] == str(msvd / "videos" / "d.avi"), "a file comes first"
    (msvd / "list.csv").write_text("video,caption\nframes/c,one\nvideos/d.avi,two\n")
    assert [record.video_id for record in load_captioned_videos(msvd / "list.csv")] == [
        "frames/c",
        "videos/d.avi",
    ]


# Where videos lie


def test_files_are_found_by_whole_names(tmp_path):
    """Ids with suffixes, one of them a bare dot; and without; in subfolders too."""
    names = ["a.mov", "b.", "sub/c..mp4", "sub/deep/d.mov.MP4", "e.mp4", "f.txt", "g", ".mp4", "h.x.webm"]
    for name in names:
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).touch()
    ids = ["a.mov", "b.", "c.", "d.mov", "e", "f", "h.x", "a", "b", "c", "e.mov"]
    found = locate_videos(tmp_path, ids)
    assert {video_id: os.path.relpath(path, tmp_path / "videos") for video_id, path in found.items()} == {
        "a.mov": "a.mov",
        "b.": "b.",
        "c.": "sub/c..mp4",
        "d.mov": "sub/deep/d.mov.MP4",
        "e": "e.mp4",
        "h.x": "h.x.webm",
    }
    assert locate_videos(tmp_path / "nowhere", ids) == {}


def test_two_files_of_one_video(msvd, clip):
    (msvd / "videos" / "more").mkdir()
    shutil.copy(clip, msvd / "videos" / "more" / "c.mp4")
    with pytest.raises(
        ValueError, match=r"`c` has two videos, .*c\.(avi|mp4) and .*c\.(avi|mp4), .* take one out"
    ):
        load_split("msvd", "test", msvd)
    assert len(load_split("msvd", "train", msvd).records) == 2


# What is missing


def damage(msvd):
    """c is missing, d is empty, e can't be decoded."""
    (msvd / "videos" / "c.avi").unlink()
    (msvd / "videos" / "d.avi").write_bytes(b"")
    (msvd / "videos" / "e.avi").write_bytes(b"no video")


def test_missing_videos_are_counted_and_named(msvd):
    (msvd / "videos" / "c.avi").unlink()
    message = r"1 of 3 videos of 'msvd' are missing: .*videos/c; put them there, .* with `on_missing` 'skip'"
    with pytest.raises(FileNotFoundError, match=message):
        load_split("msvd", "test", msvd)
    (msvd / "videos" / "d.avi").write_bytes(b"")
    with pytest.raises(
        FileNotFoundError, match=r"2 of 3 .* are missing or empty: .*videos/c, .*videos/d.avi;"
    ):
        load_split("msvd", "test", msvd)


def test_skipped_videos_are_logged_and_listed(msvd, caplog):
    damage(msvd)
    write_msvd(msvd, {v: ["x"] for v in "abcde"}, train=["b"], test=["e", "a", "c", "d"])
    PUBLISHED["msvd"].splits["test"] = replace(PUBLISHED["msvd"].splits["test"], num_videos=4)
    with caplog.at_level(logging.WARNING):
        loaded = load_split("msvd", "test", msvd, on_missing="skip")
    assert get_ids(loaded) == ["a"]
    assert list(loaded.skipped) == ["e", "c", "d"], "in the order of the annotations"
    assert loaded.skipped["c"] == "missing"
    assert loaded.skipped["d"] == "empty: a file without a byte"
    assert loaded.skipped["e"].startswith("unreadable: it is damaged or in none of the formats")
    assert loaded.published_size == 4
    assert loaded.id_checksum == hash_ids("a"), "of what is there"
    (line,) = [record.getMessage() for record in caplog.records if record.name == "fpig.datasets"]
    assert line.startswith("3 of 4 videos of 'msvd', split 'test' are left out: e (unreadable: it is damaged")


def test_nothing_is_logged_where_nothing_is_missing(msvd, caplog):
    with caplog.at_level(logging.WARNING):
        assert load_split("msvd", "test", msvd, "skip") == load_split("msvd", "test", msvd)
    assert not caplog.records


def test_no_video_that_can_be_used(msvd):
    damage(msvd)
    with pytest.raises(
        ValueError, match=r"`msvd` has 3 videos and none can be used: e \(unreadable: .*\), c \(missing\), d"
    ):
        load_split("msvd", "test", msvd, "skip")


def test_skipping_in_tables_and_embedded_videos(tmp_path, clip):
    """The first frame counts: a video that is damaged further on is used, and warns then."""
    shutil.copy(clip, tmp_path / "a.mp4")
    (tmp_path / "empty").mkdir()
    rows = "video,caption\na.mp4,1\ngone.mp4,2\nempty,3\nlist.csv,4\n"
    (tmp_path / "list.csv").write_text(rows)
    loaded = load_split(tmp_path / "list.csv", on_missing="skip")
    assert get_ids(loaded) == ["a.mp4"]
    reasons = {video_id: reason.partition(":")[0] for video_id, reason in loaded.skipped.items()}
    assert reasons == {"gone.mp4": "missing", "empty": "empty", "list.csv": "unreadable"}
    assert find_absent({"inside": b"no video"}) == {}
    assert list(find_unreadable({"inside": b"no video", "fine": clip.read_bytes()})) == ["inside"]


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


# What it refuses


def test_bad_arguments(msvd, tmp_path):
    with pytest.raises(ValueError, match="`on_missing` is 'ignore' but must be one of raise, skip"):
        load_split("msvd", "test", msvd, on_missing="ignore")
    with pytest.raises(
        ValueError, match=r"`root` is '.*' but 'clips.csv' says itself .* or choose one of msrvtt1k"
    ):
        load_split("clips.csv", root=tmp_path)
    with pytest.raises(ValueError, match="`split` is 'val' but 'msvd' has only train, validation, test"):
        load_split("msvd", "val", msvd)


def test_other_sizes_than_published_are_refused_whatever_is_missing(msvd):
    write_lines(msvd / "test_list.txt", ["c", "d"])
    for on_missing in ("raise", "skip"):
        with pytest.raises(ValueError, match="`split` 'test' of 'msvd' has 2 of 3 published videos"):
            load_split("msvd", "test", msvd, on_missing)
