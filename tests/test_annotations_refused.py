"""Annotations that are not what was published are refused, with an error that says where and what to do."""

import json
from dataclasses import replace

import pytest
from fake_datasets import write_lines, write_msvd, write_rows, write_sentences

from fpig.annotations import PUBLISHED
from fpig.annotations.published import read_published


@pytest.fixture
def shrink():
    """`shrink("msvd", train=2, test=1)` → the data set with these splits and sizes, and any captions."""

    def shrink(name, min_captions=1, max_captions=None, **sizes):
        dataset = PUBLISHED[name]
        splits = {
            split: replace(
                dataset.splits[split],
                num_videos=size,
                min_captions=min_captions,
                max_captions=max_captions,
                num_captions=(),
            )
            for split, size in sizes.items()
        }
        return replace(dataset, splits=splits)

    return shrink


def assert_refused(dataset, root, split, message, error=ValueError):
    with pytest.raises(error, match=message):
        read_published(dataset, root, split)


# Sizes and splits


@pytest.mark.parametrize("found", [2, 4])
def test_other_sizes_than_published(tmp_path, shrink, found):
    ids = [f"v{number}" for number in range(found)]
    write_msvd(tmp_path, {video_id: ["a"] for video_id in ids}, test=ids)
    message = (
        rf"`split` 'test' of 'msvd' has {found} of 3 published videos; .* get the annotations again, from g"
    )
    assert_refused(shrink("msvd", test=3), tmp_path, "test", message)


@pytest.mark.parametrize("found", [1, 4])
def test_other_numbers_of_captions_than_published(tmp_path, shrink, found):
    write_msvd(tmp_path, {"a": ["x", "y"], "b": ["x"] * found}, test=["a", "b"])
    message = f"line 2 of .*test_list.txt` has the video 'b' with {found} captions but 2 to 3 are published"
    assert_refused(shrink("msvd", 2, 3, test=2), tmp_path, "test", message)


def test_videos_that_deviate_are_counted(tmp_path, shrink):
    ids = [f"v{number}" for number in range(5)]
    write_msvd(tmp_path, dict.fromkeys(ids[1:4], ["x"]) | {"v0": ["x", "y"], "v4": ["", "y"]}, test=ids)
    message = r"the video 'v1' with 1 captions but 2 are published .*\(4 such videos in split 'test'\); get"
    assert_refused(shrink("msvd", 2, 2, test=5), tmp_path, "test", message)


def test_other_totals_of_captions_than_published(tmp_path, shrink):
    write_msvd(tmp_path, {"a": ["x", "y"], "b": ["x"]}, test=["a", "b"])
    dataset = shrink("msvd", test=2)
    for totals in ((2, 4), (2, 3), (3,), ()):
        test = replace(dataset.splits["test"], num_captions=totals)
        if totals == (2, 4):
            message = "`split` 'test' of 'msvd' has 3 captions but 2 or 4 are published; .* get the annot"
            assert_refused(replace(dataset, splits={"test": test}), tmp_path, "test", message)
        else:
            assert read_published(replace(dataset, splits={"test": test}), tmp_path, "test")


def test_unknown_split_names_those_there_are(tmp_path):
    message = "`split` is 'validation' but 'msrvtt1k' has only train, test; choose one .* leave it empty"
    assert_refused(PUBLISHED["msrvtt1k"], tmp_path, "validation", message)
    assert_refused(
        PUBLISHED["msvd"], tmp_path, "val", "`split` is 'val' but 'msvd' has only train, validation, test"
    )


def test_video_in_two_splits(tmp_path, shrink):
    captions = {video_id: ["a"] for video_id in "abcd"}
    write_msvd(tmp_path, captions, train=["a", "b", "c"], test=["d", "c", "b"])
    for split in ("train", "test", None):
        message = (
            r"`split` 'test' has the video 'c' \(line 2 of .*test_list.txt\), which is also in split 'train' "
            r"\(line 3 of .*train_list.txt\), and 2 such in all"
        )
        assert_refused(shrink("msvd", train=3, test=3), tmp_path, split, message)


def test_other_splits_may_be_absent(tmp_path, shrink):
    write_msvd(tmp_path, {"a": ["x"]}, test=["a"])
    dataset = shrink("msvd", train=1, test=1)
    assert [video.video_id for video in read_published(dataset, tmp_path, "test")] == ["a"]
    assert_refused(dataset, tmp_path, None, "lacks annotations: .* train_list.txt with", FileNotFoundError)


# Files


def test_no_folder(tmp_path):
    message = "nowhere` is no folder; pass the folder of the data set, from github.com"
    assert_refused(PUBLISHED["msvd"], tmp_path / "nowhere", "test", message, FileNotFoundError)


@pytest.mark.parametrize(
    ("name", "split", "looked_for"),
    [
        (
            "msrvtt1k",
            "train",
            "MSRVTT_train.9k.csv with MSRVTT_data.json, or train9k.jsonl; get them from git",
        ),
        ("msrvtt1k", "test", "MSRVTT_JSFUSION_test.csv, or test1ka.jsonl"),
        ("msrvtt3k", "train", "MSRVTT_data.json, or train3k.jsonl;"),
        ("msrvtt3k", "validation", "MSRVTT_data.json, or val3k.jsonl, or MSRVTT_full_split_val.csv;"),
        ("msvd", "validation", "val_list.txt with captions_msvd.json or raw-captions.pkl;"),
        (
            "vatex",
            "train",
            "vatex_training_v1.0.json, or ref_captions.json with train_list.txt, or VATEX_train",
        ),
        (
            "vatex",
            "test",
            "vatex_validation_v1.0.json with test_list.txt, or ref_captions.json with test_list",
        ),
        ("didemo", "train", "train_data.json with train_list.txt, or train.jsonl;"),
        ("v3c2", "test", "VideoSets/v3c2.txt, or v3c2.txt; get them from trecvid.nist.gov"),
    ],
)
def test_missing_files_are_named(tmp_path, name, split, looked_for):
    message = f"lacks annotations: neither there nor in its folder `annotations` is {looked_for}"
    assert_refused(PUBLISHED[name], tmp_path, split, message, FileNotFoundError)


def write_csv(root, header, rows):
    write_rows(root / "MSRVTT_JSFUSION_test.csv", header, rows)


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (["video_id", "caption"], [["video1", "a"]], "has no column `sentence` but `video_id`, `caption`"),
        ([], [], "has no column `video_id` but nothing"),
        (
            ["video_id", "sentence"],
            [["video1", "a"], ["video2"]],
            "row 2 of .* has no `sentence`; fill it in",
        ),
        (["video_id", "sentence"], [["", "a"]], "row 1 of .* has no `video_id`"),
        (
            ["video_id", "sentence"],
            [["video1", "a"], ["video1", "b"]],
            "'video1' with 2 captions but 1 are pub",
        ),
        (
            ["video_id", "sentence"],
            [["video1", "a"], ["video2", "a man", " a dog"]],
            "row 2 of .*` has 3 values but the first line names 2 columns; put values with commas into q",
        ),
        (["video_id", "sentence"], [["video1", "a", ""], ["", "b"]], "row 2 of .* has no `video_id`"),
        (["video_id", "sentence", "sentence"], [], "has the column `sentence` twice; take one out or rename"),
    ],
)
def test_bad_tables(tmp_path, shrink, header, rows, message):
    write_csv(tmp_path, header, rows)
    assert_refused(shrink("msrvtt1k", 1, 1, test=1), tmp_path, "test", message)


def test_unreadable_texts(tmp_path, shrink):
    (tmp_path / "MSRVTT_JSFUSION_test.csv").write_bytes(b"video_id,sentence\nvideo1,\xff\n")
    assert_refused(
        shrink("msrvtt1k", test=1), tmp_path, "test", "can't be read as csv: .* get the file again"
    )
    (tmp_path / "MSRVTT_JSFUSION_test.csv").write_text('video_id,sentence\nvideo1,"a\nvideo2,b\n')
    message = "test.csv` can't be read as csv: unexpected end of data; correct it, or get the file again"
    assert_refused(shrink("msrvtt1k", test=1), tmp_path, "test", message)
    (tmp_path / "v3c1.txt").write_bytes(b"shot1\n\xff\n")
    assert_refused(
        shrink("v3c1", test=1), tmp_path, "test", "v3c1.txt` can't be read as text: .* get the file again"
    )


def test_doubled_ids(tmp_path, shrink):
    write_msvd(tmp_path, {"a": ["x"], "b": ["y"]}, test=["a", "b", "", "a"])
    message = "line 4 of .*test_list.txt` has the video 'a', which line 1 of .* has too; take one out"
    assert_refused(shrink("msvd", test=2), tmp_path, "test", message)
    write_lines(tmp_path / "test1ka.jsonl", ['{"clip_id": "video1", "text": "a"}'] * 2)
    assert_refused(
        shrink("msrvtt1k", test=1), tmp_path, "test", "line 2 of .* has the video 'video1', which line 1 of"
    )
    item = {"videoID": "a", "enCap": ["x"]}
    for name in ("training", "validation"):
        (tmp_path / f"vatex_{name}_v1.0.json").write_text(json.dumps([item, item]))
    for split, size in (("train", 1), ("test", 2)):
        message = "item 1 of .*` has the video 'a', which item 0 of .*vatex_.* has too; take one out"
        assert_refused(shrink("vatex", **{split: size}), tmp_path, split, message)
    (tmp_path / "captions_msvd.json").write_text('{"a": ["x"], "b": ["y"], "a": ["z"]}')
    assert_refused(
        shrink("msvd", test=2), tmp_path, "test", "captions_msvd.json` has the key 'a' twice; take one out"
    )


def test_videos_without_captions(tmp_path, shrink):
    write_msvd(tmp_path, {"a": ["x"]}, test=["a", "b"])
    message = (
        "line 2 of .*` has the video 'b' but the annotations have no caption of it; get the annotations a"
    )
    assert_refused(shrink("msvd", test=2), tmp_path, "test", message)
    write_rows(tmp_path / "MSRVTT_train.9k.csv", ["video_id"], [["video1"], ["video2"]])
    write_sentences(tmp_path / "MSRVTT_data.json", ["video2"])
    message = (
        "row 1 of .*MSRVTT_train.9k.csv` has the video 'video1' but the annotations have no caption of it"
    )
    assert_refused(shrink("msrvtt1k", train=2), tmp_path, "train", message)
    (tmp_path / "test_data.json").write_text('[{"video": "a.mov", "description": "x"}]')
    write_lines(tmp_path / "test_list.txt", ["a.mov", "a."])
    assert_refused(
        shrink("didemo", test=2), tmp_path, "test", r"has the video 'a\.' but the annotations have no caption"
    )


@pytest.mark.parametrize("caption", ["", " ", 3, None, ["x"]])
def test_captions_that_are_no_texts(tmp_path, shrink, caption):
    write_msvd(tmp_path, {"a": ["x", caption]}, test=["a"])
    assert_refused(
        shrink("msvd", test=1), tmp_path, "test", "has the video 'a' with the caption .* must be texts; get"
    )


def test_captions_with_half_a_character(tmp_path, shrink):
    """JSON can write it; a tokenizer can't read it."""
    write_lines(tmp_path / "test1ka.jsonl", ['{"clip_id": "v", "text": "a blue \\ud800 square"}'])
    message = (
        r"the video 'v' with the caption 'a blue \\ud800 square', with half a character, but captions mu"
    )
    assert_refused(shrink("msrvtt1k", test=1), tmp_path, "test", message)


@pytest.mark.parametrize(
    "video_id", ["../../secret.mp4", "/abs/x.mp4", "a\\b", ".", "..", "", "\0", "\ud800"]
)
def test_ids_that_are_no_names_of_files(tmp_path, shrink, video_id):
    item = {"videoID": video_id, "enCap": ["x"]}
    (tmp_path / "vatex_training_v1.0.json").write_text(json.dumps([item]))
    message = "item 0 of .*` has the video '.*' but an id must be the name of a file, without a folder; corr"
    assert_refused(shrink("vatex", train=1), tmp_path, "train", message)


# Layouts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "MSRVTT_data.json` can't be read as JSON: Expecting .* get the file again"),
        ("[" * 100_000, "MSRVTT_data.json` can't be read as JSON: "),
        ("9" * 5000, "MSRVTT_data.json` can't be read as JSON: .* get the file again"),
        (
            '{"videos": [{"video_id": "video1"}, {"video_id": "video1"}], "sentences": []}',
            r"`videos\[1\] of .*` has the video 'video1', which videos\[0\] of .* has too; take one out",
        ),
        (
            '{"videos": [{"video_id": "video7010"}, {"video_id": "video07010"}], "sentences": []}',
            "has the id 'video07010' but ids of MSR-VTT are `video` and a number without zeros before it",
        ),
        ("[]", "has no list `videos` but must be an object with the lists `videos` and `sentences`"),
        ('{"videos": [], "sentences": {}}', "has no list `sentences` but"),
        ('{"videos": ["video1"]}', r"`videos\[0\]` of .* is 'video1' but must have the texts video_id; g"),
        (
            '{"videos": [], "sentences": [{"video_id": 3}]}',
            r"`sentences\[0\]` of .* must have the texts video_id,",
        ),
        (
            '{"videos": [{"video_id": "msr1"}], "sentences": []}',
            "has the id 'msr1' but ids of MSR-VTT are `vid",
        ),
    ],
)
def test_bad_json_of_msrvtt(tmp_path, content, message):
    (tmp_path / "MSRVTT_data.json").write_text(content)
    assert_refused(PUBLISHED["msrvtt3k"], tmp_path, "test", message)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 of .*test1ka.jsonl` can't be read as JSON: "),
        ("9" * 5000, "line 2 of .*test1ka.jsonl` can't be read as JSON: "),
        ("[3]", r"line 2 of .*` is \[3\] but must be a JSON object"),
        (
            '{"video": "video1", "text": "a"}',
            "line 2 of .*` has the keys video, text but must have `clip_id`",
        ),
        (
            '{"clip_id": "video1", "text": "a", "text": "b"}',
            "line 2 of .*test1ka.jsonl` has the key 'text' twice; take one out",
        ),
        ('{"clip_id": "video1", "text": 3}', "line 2 of .* and `text`, a caption or a list of captions"),
        ("{}", "line 2 of .*` has the keys none but must have"),
    ],
)
def test_bad_jsonl(tmp_path, line, message):
    write_lines(tmp_path / "test1ka.jsonl", ['{"clip_id": "video0", "text": "a"}', line])
    assert_refused(PUBLISHED["msrvtt1k"], tmp_path, "test", message)


@pytest.mark.parametrize(
    ("name", "file_name", "content", "message"),
    [
        ("msvd", "captions_msvd.json", "[]", "must be a JSON object with a list of captions for each id"),
        (
            "msvd",
            "captions_msvd.json",
            '{"a": "x"}',
            "must be a JSON object with a list of captions for each id",
        ),
        (
            "vatex",
            "vatex_validation_v1.0.json",
            "{}",
            "holds no list but must be a list of objects; get it from",
        ),
        (
            "vatex",
            "vatex_validation_v1.0.json",
            "[3]",
            "item 0 of .*` is 3 but must have `videoID`, a text, and",
        ),
        (
            "vatex",
            "vatex_validation_v1.0.json",
            '[{"videoID": "a"}]',
            "item 0 of .* and `enCap`, a list of capt",
        ),
        ("vatex", "ref_captions.json", "[]", "must be a JSON object with a list of captions for each id"),
        ("didemo", "test_data.json", "{}", "holds no list but must be a list of objects"),
        (
            "didemo",
            "test_data.json",
            '[{"video": "a"}]',
            "item 0 of .* must have the texts `video` and `descrip",
        ),
    ],
)
def test_bad_layouts(tmp_path, name, file_name, content, message):
    write_lines(tmp_path / "test_list.txt", ["a"])
    (tmp_path / file_name).write_text(content)
    assert_refused(PUBLISHED[name], tmp_path, "test", message)
