"""`load_split`: published data sets through the same door, and videos that are missing or can't be read."""

import logging
import shutil
from dataclasses import replace

import pytest
from fake_datasets import write_folder, write_lines, write_msvd
from make_clips import paint_frames
from toys import write_clip

from fpig.annotations import PUBLISHED
from fpig.annotations.published import hash_captions, hash_ids
from fpig.annotations.videos import find_absent, find_unreadable
from fpig.datasets import CaptionedVideo, load_captioned_videos, load_split
from fpig.training_items import VideoCaptionDataset


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", seed=1, num_frames=2)


@pytest.fixture
def msvd(tmp_path, clip, monkeypatch):
    """A folder of MSVD with the training videos a and b, and the test videos c, d and e."""
    dataset = PUBLISHED["msvd"]
    sizes = {"train": 2, "validation": 1, "test": 3}
    splits = {
        split: replace(dataset.splits[split], num_videos=size, min_captions=1, num_captions=())
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
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(msvd)
    assert len(load_split("msvd", "test", "~/data/msvd").records) == 3


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


def test_two_files_of_one_video(msvd, clip):
    (msvd / "videos" / "more").mkdir()
    shutil.copy(clip, msvd / "videos" / "more" / "c.mp4")
    with pytest.raises(
        ValueError, match=r"`c` has two videos, .*c\.(avi|mp4) and .*c\.(avi|mp4), .* take one out"
    ):
        load_split("msvd", "test", msvd)
    assert len(load_split("msvd", "train", msvd).records) == 2


def test_no_folder_for_videos(msvd):
    (msvd / "videos").rename(msvd / "clips")
    for on_missing in ("raise", "skip"):
        message = "` has neither a folder `videos` nor a folder `frames`, .* put the videos into `videos`, or"
        with pytest.raises(FileNotFoundError, match=message):
            load_split("msvd", "test", msvd, on_missing)
    (msvd / "frames").mkdir()
    with pytest.raises(FileNotFoundError, match="3 of 3 videos of 'msvd' are missing: e, c, d;"):
        load_split("msvd", "test", msvd)


def test_a_missing_video_is_not_looked_for_elsewhere(msvd, monkeypatch):
    """Ids are names of files, in the folder of the videos alone."""
    write_msvd(msvd, dict.fromkeys(["a.avi", "/etc/passwd"], ["x"]), train=["a.avi", "/etc/passwd"])
    for on_missing in ("raise", "skip"):
        with pytest.raises(ValueError, match="line 2 of .* has the video '/etc/passwd' but an id must be"):
            load_split("msvd", "train", msvd, on_missing)
    write_msvd(msvd, dict.fromkeys(["a.avi", "test_list.txt"], ["x"]), train=["a.avi", "test_list.txt"])
    monkeypatch.chdir(msvd)
    loaded = load_split("msvd", "train", msvd, "skip")
    assert (get_ids(loaded), loaded.skipped) == (["a.avi"], {"test_list.txt": "missing"})


# What is missing


def damage(msvd):
    """c is missing, d is empty, e can't be decoded."""
    (msvd / "videos" / "c.avi").unlink()
    (msvd / "videos" / "d.avi").write_bytes(b"")
    (msvd / "videos" / "e.avi").write_bytes(b"no video")


def test_missing_videos_are_counted_and_named(msvd):
    (msvd / "videos" / "c.avi").unlink()
    message = r"1 of 3 videos of 'msvd' are missing: c; add them, .* with `on_missing` 'skip'"
    with pytest.raises(FileNotFoundError, match=message):
        load_split("msvd", "test", msvd)
    (msvd / "videos" / "d.avi").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"2 of 3 .* are missing or empty: c, .*videos/d.avi;"):
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


def test_videos_without_captions_are_not_trained_on():
    """Such as the shots of v3c1."""
    records = [CaptionedVideo("a", "a.mp4", ("x",)), CaptionedVideo("shot00001_1", "b.mp4", ())]
    with pytest.raises(ValueError, match="`records` has the video 'shot00001_1' without a caption but train"):
        VideoCaptionDataset(records, None, num_frames=2)


def test_other_sizes_than_published_are_refused_whatever_is_missing(msvd):
    write_lines(msvd / "test_list.txt", ["c", "d"])
    for on_missing in ("raise", "skip"):
        with pytest.raises(ValueError, match="`split` 'test' of 'msvd' has 2 of 3 published videos"):
            load_split("msvd", "test", msvd, on_missing)
