"""The door for captioned videos: what it reads and what it refuses, on really encoded videos."""

import json
import shutil

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from fpig.datasets import load_captioned_videos
from fpig.shapes import make_shapes


@pytest.fixture(scope="module")
def shapes_folder(tmp_path_factory):
    return make_shapes(
        tmp_path_factory.mktemp("shapes"), num_train=6, num_validation=1, num_test=2, num_workers=1
    )


@pytest.fixture
def folder(tmp_path, shapes_folder):
    """A folder with three videos, a.mp4, b.mp4 and sub/c.mp4."""
    (tmp_path / "sub").mkdir()
    for index, name in enumerate(("a.mp4", "b.mp4", "sub/c.mp4")):
        shutil.copy(shapes_folder / "train" / f"{index:05d}.mp4", tmp_path / name)
    return tmp_path


@pytest.fixture
def embedded(folder):
    """The three videos as a `datasets` column that holds the files, "b" in two rows; its own cache."""
    names = ("a.mp4", "b.mp4", "sub/c.mp4", "b.mp4")
    rows = {
        "video": [{"bytes": (folder / name).read_bytes(), "path": name} for name in names],
        "caption": ["one", "two", "three", "two again"],
    }
    return datasets.Dataset.from_dict(rows).cast_column("video", datasets.Video(decode=False))


@pytest.fixture(autouse=True)
def quiet_datasets(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets")
    datasets.disable_progress_bars()


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def summarize(records):
    return {record.video_id: record.captions for record in records}


EXPECTED = {"a.mp4": ("a one", "a two"), "b.mp4": ("b, one",), "sub/c.mp4": ("c one",)}

# What it reads


def test_csv_groups_rows_and_resolves_paths_from_its_own_folder(folder):
    path = write(
        folder / "list.csv",
        'video,caption,note\na.mp4,a one,x\nb.mp4,"b, one",\nsub/c.mp4,c one,\n./sub/../a.mp4,a two,\n',
    )
    records = load_captioned_videos(path)
    assert summarize(records) == EXPECTED
    assert [record.video for record in records] == [str(folder / name) for name in EXPECTED]
    assert load_captioned_videos(str(path)) == records


def test_captions_of_a_csv_stay_texts(folder):
    path = write(folder / "list.csv", "video,caption\na.mp4,NA\na.mp4,12\na.mp4,null\n")
    assert load_captioned_videos(path)[0].captions == ("NA", "12", "null")


def test_csv_of_a_spreadsheet_begins_with_a_mark(folder):
    path = write(folder / "list.csv", "\ufeffvideo,caption\na.mp4,é\n")
    assert summarize(load_captioned_videos(path)) == {"a.mp4": ("é",)}


def test_csv_of_a_spreadsheet_may_have_columns_without_name_and_value(folder):
    """And values keep the white space around them: names of files may have it, and checksums see it."""
    path = write(
        folder / "list.csv", ",video,caption,,\n0,a.mp4, one ,,\n1,b.mp4,two\n\n2,sub/c.mp4,three,,,\n"
    )
    assert summarize(load_captioned_videos(path)) == {
        "a.mp4": (" one ",),
        "b.mp4": ("two",),
        "sub/c.mp4": ("three",),
    }


def test_jsonl_may_begin_with_a_mark(folder):
    path = write(folder / "list.jsonl", '\ufeff{"video": "a.mp4", "caption": "é"}\n')
    assert summarize(load_captioned_videos(path)) == {"a.mp4": ("é",)}


def test_jsonl_takes_one_caption_or_a_list(folder):
    rows = [
        {"video": "a.mp4", "caption": ["a one", "a two"]},
        {"video": "b.mp4", "caption": "b, one"},
        {"caption": ["c one"], "video": str(folder / "sub" / "c.mp4")},
    ]
    path = write(folder / "list.jsonl", "\n".join(json.dumps(row) for row in rows) + "\n\n")
    expected = {**EXPECTED, str(folder / "sub" / "c.mp4"): EXPECTED["sub/c.mp4"]}
    del expected["sub/c.mp4"]
    assert summarize(load_captioned_videos(path)) == expected


@pytest.mark.parametrize("are_lists", [False, True])
def test_parquet(folder, are_lists):
    pairs = [(name, caption) for name, captions in EXPECTED.items() for caption in captions]
    if are_lists:
        pairs = [(name, list(captions)) for name, captions in EXPECTED.items()]
    names, captions = zip(*pairs, strict=True)
    pyarrow.parquet.write_table(pyarrow.table({"video": names, "caption": captions}), folder / "list.parquet")
    assert summarize(load_captioned_videos(folder / "list.parquet")) == EXPECTED


@pytest.mark.parametrize("column", ["video", "file_name"])
def test_folder_with_metadata(folder, column):
    write(
        folder / "metadata.csv",
        f'{column},caption\na.mp4,a one\na.mp4,a two\nb.mp4,"b, one"\nsub/c.mp4,c one\n',
    )
    assert summarize(load_captioned_videos(folder)) == EXPECTED


def test_splits(folder):
    path = write(folder / "list.csv", "video,caption,split\na.mp4,1,train\nb.mp4,2,test\na.mp4,3,train\n")
    assert summarize(load_captioned_videos(path, "train")) == {"a.mp4": ("1", "3")}
    assert summarize(load_captioned_videos(path, "test")) == {"b.mp4": ("2",)}
    assert summarize(load_captioned_videos(path)) == {"a.mp4": ("1", "3"), "b.mp4": ("2",)}


def test_saved_dataset_with_embedded_videos(folder, embedded):
    splits = datasets.DatasetDict(train=embedded.select([0, 1, 3]), test=embedded.select([2]))
    splits.save_to_disk(folder / "saved")
    records = load_captioned_videos(folder / "saved", "train")
    assert summarize(records) == {"a.mp4": ("one",), "b.mp4": ("two", "two again")}
    assert records[0].video == (folder / "a.mp4").read_bytes()
    assert summarize(load_captioned_videos(folder / "saved", "test")) == {"c.mp4": ("three",)}


def test_saved_dataset_without_splits(folder, embedded):
    embedded.save_to_disk(folder / "saved")
    assert len(load_captioned_videos(folder / "saved")) == 3
    with pytest.raises(ValueError, match="`split` is 'test' but .* has no column `split`"):
        load_captioned_videos(folder / "saved", "test")


def test_repository_of_parquet_files(folder, embedded):
    """A Hub repository's layout, in a folder: `load_dataset` reads both alike."""
    (folder / "repository" / "data").mkdir(parents=True)
    embedded.select([0, 1, 3]).to_parquet(folder / "repository" / "data" / "train-00000-of-00001.parquet")
    embedded.select([2]).to_parquet(folder / "repository" / "data" / "test-00000-of-00001.parquet")
    assert summarize(load_captioned_videos(folder / "repository", "train")) == {
        "a.mp4": ("one",),
        "b.mp4": ("two", "two again"),
    }


def test_video_folder_with_a_folder_per_split(folder):
    for split, name in (("train", "a.mp4"), ("test", "b.mp4")):
        (folder / "videos" / split).mkdir(parents=True)
        shutil.copy(folder / name, folder / "videos" / split)
        write(folder / "videos" / split / "metadata.csv", f"file_name,caption\n{name},of {split}\n")
    records = load_captioned_videos(folder / "videos", "test")
    assert summarize(records) == {"b.mp4": ("of test",)}
    assert records[0].video == str(folder / "videos" / "test" / "b.mp4")


def test_embedded_videos_are_told_apart_by_their_content(folder):
    content = {name: (folder / name).read_bytes() for name in ("a.mp4", "b.mp4", "sub/c.mp4")}
    rows = [
        {"video": {"bytes": content["a.mp4"], "path": "0.mp4"}, "caption": "one"},
        {"video": {"bytes": content["b.mp4"], "path": "0.mp4"}, "caption": "two"},
        {"video": {"bytes": content["sub/c.mp4"], "path": None}, "caption": "three"},
        {"video": {"bytes": content["a.mp4"], "path": "again.mp4"}, "caption": "four"},
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "list.parquet")
    records = load_captioned_videos(folder / "list.parquet")
    assert [record.captions for record in records] == [("one", "four"), ("two",), ("three",)]
    assert [record.video for record in records] == list(content.values())
    assert records[0].video_id == "0.mp4"
    assert len({record.video_id for record in records}) == 3


def test_links_to_one_file_are_one_video(folder):
    (folder / "link.mp4").symlink_to(folder / "a.mp4")
    path = write(folder / "list.csv", "video,caption\na.mp4,1\nlink.mp4,2\n")
    assert summarize(load_captioned_videos(path)) == {"a.mp4": ("1", "2")}


def test_shapes_comes_through_the_same_door(shapes_folder, monkeypatch):
    monkeypatch.setattr("fpig.datasets.make_shapes", lambda: shapes_folder)
    records = load_captioned_videos("shapes", "test")
    assert [record.video_id for record in records] == ["test/00000.mp4", "test/00001.mp4"]
    assert all(len(record.captions) == 5 for record in records)
    assert records == load_captioned_videos(shapes_folder, "test")


# What it refuses


@pytest.mark.parametrize("source", ["nothing.csv", "./nothing", "no_folder", "/nowhere/at/all"])
def test_missing_source(source):
    with pytest.raises(
        FileNotFoundError, match=f"`source` is '{source}' but there is no such file or folder"
    ):
        load_captioned_videos(source)


def test_missing_repository(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        FileNotFoundError, match="`source` is 'nobody/nothing' but it is neither a file or folder"
    ):
        load_captioned_videos("nobody/nothing")


def test_folder_without_annotations(tmp_path):
    with pytest.raises(FileNotFoundError, match="is neither a file or folder with annotations"):
        load_captioned_videos(tmp_path)


def test_folder_of_plain_videos(folder):
    """`datasets` loads it, with names for captions nowhere."""
    with pytest.raises(
        ValueError, match=r"no column `caption` .* put a metadata\.csv with the columns `video`"
    ):
        load_captioned_videos(folder)


def test_other_file_types(folder):
    with pytest.raises(ValueError, match=r"a\.mp4' but only \.csv, \.jsonl, \.parquet files are read"):
        load_captioned_videos(folder / "a.mp4")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("video,text", "has no column `caption` but `video`, `text`"),
        ("path,caption", "has no column `video` but `path`, `caption`; rename one to `video`"),
    ],
)
def test_missing_column(folder, header, message):
    with pytest.raises(ValueError, match=message):
        load_captioned_videos(write(folder / "list.csv", f"{header}\na.mp4,x\n"))


def test_missing_column_of_a_dataset(folder, embedded):
    embedded.rename_column("caption", "text").save_to_disk(folder / "saved")
    with pytest.raises(ValueError, match="has no column `caption` but `video`, `text`"):
        load_captioned_videos(folder / "saved")


@pytest.mark.parametrize("text", ["video,caption\n", ""])
def test_no_rows(folder, text):
    with pytest.raises(ValueError, match="but has no rows"):
        load_captioned_videos(write(folder / "list.csv", text))


def test_missing_videos_are_counted_and_named(folder):
    path = write(folder / "list.csv", "video,caption\n" + "".join(f"{n}.mp4,x\n" for n in "axyzw"))
    with pytest.raises(
        FileNotFoundError, match=r"4 of 5 videos of .* are missing: .*x\.mp4, .*y\.mp4, .*z\.mp4, …"
    ):
        load_captioned_videos(path)


@pytest.mark.parametrize("caption", ["", "  ", [], ["fine", ""], None, 3])
def test_empty_captions(folder, caption):
    rows = [{"video": "a.mp4", "caption": "fine"}, {"video": "b.mp4", "caption": caption}]
    path = write(folder / "list.jsonl", "\n".join(json.dumps(row) for row in rows))
    with pytest.raises(
        ValueError, match=r"`line 2 of .*list\.jsonl` has `caption` .* but captions must be texts"
    ):
        load_captioned_videos(path)


@pytest.mark.parametrize("captions", ["a blue \ud800 square", ["fine", "\udc00"]])
def test_captions_with_half_a_character(folder, captions):
    """JSON can write it; a tokenizer can't read it."""
    path = write(folder / "list.jsonl", json.dumps({"video": "a.mp4", "caption": captions}))
    message = r"`line 1 of .*` has `caption` '.*\\ud[8c]00.*', with half a character, but captions must be"
    with pytest.raises(ValueError, match=message):
        load_captioned_videos(path)


@pytest.mark.parametrize("video", ["v\0.mp4", "v\ud800.mp4"])
def test_videos_whose_name_no_file_can_have(folder, video):
    path = write(folder / "list.jsonl", "\n" + json.dumps({"video": video, "caption": "x"}))
    message = r"`line 2 of .*` has `video` 'v\\.*\.mp4' but no file can have that name; correct it"
    with pytest.raises(ValueError, match=message):
        load_captioned_videos(path)
    path = folder / "list.csv"
    if video.isascii():
        write(path, f"video,caption\n{video},x\n")
        with pytest.raises(ValueError, match=message.replace("line 2", "row 1")):
            load_captioned_videos(path)


@pytest.mark.parametrize("video", ["", None, 3, {"bytes": None, "path": None}, {"bytes": "a.mp4"}])
def test_empty_videos(folder, video):
    path = write(folder / "list.jsonl", json.dumps({"video": video, "caption": "x"}))
    with pytest.raises(ValueError, match=r"`line 1 of .*` has `video` .* but must name a file"):
        load_captioned_videos(path)


def test_video_in_two_splits(folder, embedded):
    path = write(folder / "list.csv", "video,caption,split\na.mp4,1,train\nb.mp4,2,test\n./a.mp4,3,test\n")
    for split in (None, "train", "test"):
        with pytest.raises(
            ValueError,
            match=r"row 3 of .*` has the video .* in `split` 'test' but is also in `split` 'train'",
        ):
            load_captioned_videos(path, split)
    datasets.DatasetDict(train=embedded, test=embedded.select([1])).save_to_disk(folder / "saved")
    with pytest.raises(ValueError, match=r"video 'b\.mp4' in `split` 'test' but is also in `split` 'train'"):
        load_captioned_videos(folder / "saved", "train")


def test_unknown_split(folder):
    path = write(folder / "list.csv", "video,caption,split\na.mp4,1,train\nb.mp4,2,test\n")
    with pytest.raises(ValueError, match="`split` is 'val' but .* has only test, train"):
        load_captioned_videos(path, "val")
    with pytest.raises(ValueError, match="`split` is 'val' but .* has no column `split`"):
        load_captioned_videos(write(folder / "list.csv", "video,caption\na.mp4,1\n"), "val")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "list.jsonl",
            b'{"video": "a.mp4", ',
            r"`line 1 of .*list.jsonl` can't be read as JSON: .*; correct",
        ),
        ("list.jsonl", b"\n[1, 2]", r"`line 2 of .*` is \[1, 2\] but must be a JSON object; correct it"),
        ("list.jsonl", b"[" * 200_000, "`line 1 of .*list.jsonl` can't be read as JSON: "),
        ("list.jsonl", b"9" * 5000, "`line 1 of .*list.jsonl` can't be read as JSON: "),
        ("list.jsonl", b'{"video": "\xff"}', "list.jsonl` can't be read as text"),
        (
            "list.jsonl",
            b'{"video": "a.mp4", "caption": "x", "caption": "y"}',
            "`line 1 of .*list.jsonl` has the key 'caption' twice; take one out",
        ),
        ("list.csv", b"video,caption\na.mp4,\xff\xfe\n", "list.csv` can't be read as csv: .*; correct it"),
        (
            "list.csv",
            b"video,caption\na.mp4,a, with comma\n",
            "`row 1 of .*list.csv` has 3 values but the first line names 2 columns; put values with commas",
        ),
        ("list.csv", b"video,caption,caption\na.mp4,x,y\n", "list.csv` has the column `caption` twice"),
        (
            "list.csv",
            b'video,caption\na.mp4,"an open quote\nb.mp4,swallowed\n',
            "list.csv` can't be read as csv: unexpected end of data; correct it, or get the file again",
        ),
        ("list.parquet", b"not parquet", "list.parquet` can't be read as parquet: .*; write it again"),
    ],
)
def test_unreadable_annotations(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_captioned_videos(folder / name)


def test_damaged_page_of_a_parquet_file(folder):
    """Its footer is whole, so that it opens."""
    rows = [{"video": "a.mp4", "caption": f"caption {number}"} for number in range(500)]
    path = folder / "list.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    content = bytearray(path.read_bytes())
    content[4:200] = b"\xff" * 196
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"list\.parquet` can't be read as parquet: .*; write it again"):
        load_captioned_videos(path)


def test_repeated_column_of_a_parquet_file(folder):
    columns = [pyarrow.array([text]) for text in ("a.mp4", "one", "two")]
    table = pyarrow.Table.from_arrays(columns, names=["video", "caption", "caption"])
    pyarrow.parquet.write_table(table, folder / "list.parquet")
    with pytest.raises(ValueError, match=r"list\.parquet` has the column `caption` twice; take one out"):
        load_captioned_videos(folder / "list.parquet")
