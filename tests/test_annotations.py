"""Annotations as they are published, read from excerpts of the real files and from their layouts."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
from fake_datasets import write_lines, write_msvd, write_rows, write_sentences

from fpig.annotations import PUBLISHED
from fpig.annotations.msvd import read_caption_lists, read_pickled_captions
from fpig.annotations.published import hash_captions, hash_ids, read_split
from fpig.annotations.v3c import AVS_YEARS

EXCERPTS = Path(__file__).parent / "data" / "annotations"


def read(name, split, root=None):
    """Id → captions, in the order of the annotations."""
    videos = read_split(PUBLISHED[name], root or EXCERPTS / name.rstrip("13k"), split)
    return {video.video_id: video.captions for video in videos}


@pytest.fixture
def copy(tmp_path):
    """`copy("msrvtt", "a.csv", …)` → a folder with these files of the excerpts alone."""

    def copy(folder, *names):
        for name in names:
            shutil.copy(EXCERPTS / folder / name, tmp_path)
        return tmp_path

    return copy


def test_published_sizes():
    """As the literature has them, and the captions that follow from them."""
    sizes = {
        name: tuple(split.num_videos for split in dataset.splits.values())
        for name, dataset in PUBLISHED.items()
    }
    assert sizes == {
        "msrvtt1k": (9000, 1000),
        "msrvtt3k": (6513, 497, 2990),
        "msvd": (1200, 100, 670),
        "vatex": (25_991, 1500, 1500),
        "didemo": (8392, 1065, 1004),
        "v3c1": (1_082_659,),
        "v3c2": (1_425_454,),
    }
    captions = {
        name: [(split.min_captions, split.max_captions) for split in dataset.splits.values()]
        for name, dataset in PUBLISHED.items()
    }
    assert captions == {
        "msrvtt1k": [(20, 20), (1, 1)],
        "msrvtt3k": [(20, 20)] * 3,
        "msvd": [(1, None), (1, None), (21, 81)],
        "vatex": [(10, 10)] * 3,
        "didemo": [(1, 1)] * 3,
        "v3c1": [(0, 0)],
        "v3c2": [(0, 0)],
    }
    totals = [split.num_captions for split in PUBLISHED["msvd"].splits.values()]
    assert totals == [(48_774,), (4290,), (27_763, 27_768)]
    assert list(PUBLISHED["msrvtt1k"].splits) == ["train", "test"]
    for name in ("msrvtt3k", "msvd", "vatex", "didemo"):
        assert list(PUBLISHED[name].splits) == ["train", "validation", "test"]
    protocols = {name: dataset.splits["test"].protocol for name, dataset in PUBLISHED.items()}
    assert protocols == {
        "msrvtt1k": "one caption",
        "msrvtt3k": "several captions",
        "msvd": "several captions",
        "vatex": "several captions",
        "didemo": "paragraph",
        "v3c1": "ad-hoc video search",
        "v3c2": "ad-hoc video search",
    }


# MSR-VTT


def test_msrvtt_1k_a_of_the_real_csv():
    test = read("msrvtt1k", "test")
    assert list(test)[:4] == ["video9770", "video9771", "video7020", "video9773"]
    assert test["video7020"] == ("a woman creating a fondant baby and flower",)
    assert len(test) == 10


def test_msrvtt_1k_training_videos_have_all_captions_of_the_json(copy):
    root = copy("msrvtt", "MSRVTT_train.9k.csv")
    ids = [f"video{number}" for number in range(10)]
    write_sentences(root / "MSRVTT_data.json", reversed(ids))
    train = read("msrvtt1k", "train", root)
    assert list(train) == ids
    assert train["video3"] == tuple(f"video3 says {number}" for number in range(20))


@pytest.mark.parametrize(
    ("split", "name", "expected"),
    [
        ("test", "test1ka.jsonl", {"video9771": ("a little girl does gymnastics",)}),
        ("train", "train9k.jsonl", {"video0": ("made up caption one", "made up caption two")}),
    ],
)
def test_msrvtt_1k_of_the_authors_jsonl(copy, split, name, expected):
    found = read("msrvtt1k", split, copy("msrvtt", name))
    assert {video_id: found[video_id] for video_id in expected} == expected


def test_msrvtt_1k_a_is_the_same_in_both_forms(copy):
    of_csv = read("msrvtt1k", "test")
    of_jsonl = read("msrvtt1k", "test", copy("msrvtt", "test1ka.jsonl"))
    assert of_jsonl == {video_id: of_csv[video_id] for video_id in list(of_csv)[:5]}


def test_official_form_wins_where_it_is_whole(copy):
    root = copy("msrvtt", "MSRVTT_train.9k.csv", "train9k.jsonl", "test1ka.jsonl")
    assert len(read("msrvtt1k", "train", root)) == 2, "without the json the list alone is no whole form"
    assert len(read("msrvtt1k", "test", root)) == 5
    copy("msrvtt", "MSRVTT_JSFUSION_test.csv")
    write_sentences(root / "MSRVTT_data.json", [f"video{number}" for number in range(10)])
    assert len(read("msrvtt1k", "train", root)) == 10
    assert len(read("msrvtt1k", "test", root)) == 10


def test_msrvtt_3k_is_split_by_numbers(tmp_path):
    """The json's own word `split` is not asked, and its order is not kept."""
    numbers = (9999, 7010, 7009, 6513, 6512, 0, 10)
    write_sentences(tmp_path / "MSRVTT_data.json", [f"video{number}" for number in numbers])
    splits = {split: list(read("msrvtt3k", split, tmp_path)) for split in PUBLISHED["msrvtt3k"].splits}
    assert splits == {
        "train": ["video0", "video10", "video6512"],
        "validation": ["video6513", "video7009"],
        "test": ["video7010", "video9999"],
    }
    assert read("msrvtt3k", "test", tmp_path)["video9999"][19] == "video9999 says 19"


def test_msrvtt_3k_of_tables_and_jsonl(copy):
    root = copy("msrvtt", "MSRVTT_full_split_test.csv")
    expected = {
        "video7010": ("made up caption one", "made up caption two"),
        "video7011": ("made up caption three",),
    }
    assert read("msrvtt3k", "test", root) == expected
    write_lines(root / "val3k.jsonl", ['{"clip_id": "video6513", "text": ["a", "b"]}'])
    assert read("msrvtt3k", "validation", root) == {"video6513": ("a", "b")}


def test_folder_annotations_and_marks_of_spreadsheets(tmp_path):
    (tmp_path / "annotations").mkdir()
    text = (EXCERPTS / "msrvtt" / "MSRVTT_JSFUSION_test.csv").read_text()
    (tmp_path / "annotations" / "MSRVTT_JSFUSION_test.csv").write_text(
        "\ufeff" + text.replace("\n", "\r\n"), newline=""
    )
    assert read("msrvtt1k", "test", tmp_path) == read("msrvtt1k", "test")
    write_msvd(tmp_path, {"a": ["x"]}, test=["a"])
    for name in ("test_list.txt", "captions_msvd.json"):
        (tmp_path / name).write_text("\ufeff" + (tmp_path / name).read_text(), encoding="utf-8")
    assert read("msvd", "test", tmp_path) == {"a": ("x",)}


def test_white_space_around_values_of_tables_goes(tmp_path):
    rows = [[" video1", "a man "], ["video1 ", " a dog"]]
    write_rows(tmp_path / "MSRVTT_JSFUSION_test.csv", ["video_id", "sentence"], rows)
    assert read("msrvtt1k", "test", tmp_path) == {"video1": ("a man", "a dog")}


def test_clips_go_by_their_names_without_folders(tmp_path):
    lines = ['{"clip_id": "videos/a.mov", "text": ["x"]}', '{"clip_id": "../../b.mov", "text": ["y"]}']
    write_lines(tmp_path / "test.jsonl", lines)
    assert read("didemo", "test", tmp_path) == {"a.mov": ("x",), "b.mov": ("y",)}


# MSVD


def test_msvd():
    test = read("msvd", "test")
    assert list(test) == ["eyhzdC936uk_15_27", "f-24IxG9ijw_25_40", "f9Won2JpOEU_60_80"]
    assert test["f9Won2JpOEU_60_80"][:2] == (
        "a cat is laying down licking it s paw",
        "a cat cleans its paw and head",
    )


def test_msvd_is_the_same_as_pickle_and_as_json(copy):
    of_pickle = read_pickled_captions(EXCERPTS / "msvd" / "raw-captions.pkl")
    assert of_pickle == read_caption_lists(EXCERPTS / "msvd" / "captions_msvd.json")
    assert read("msvd", "test", copy("msvd", "raw-captions.pkl", "test_list.txt")) == read("msvd", "test")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_all_protocols(tmp_path, protocol):
    captions = {"é_1_2": [["a", "boy"], ["a", "naïve", "cat"]]}
    (tmp_path / "raw-captions.pkl").write_bytes(pickle.dumps(captions, protocol))
    assert read_pickled_captions(tmp_path / "raw-captions.pkl") == {"é_1_2": ("a boy", "a naïve cat")}


def test_json_wins_over_the_pickle(copy):
    root = copy("msvd", "captions_msvd.json", "test_list.txt")
    (root / "raw-captions.pkl").write_bytes(b"no pickle, and not opened")
    assert read("msvd", "test", root) == read("msvd", "test")


# VATEX


def test_vatex_is_the_same_in_the_official_and_in_the_other_form(copy):
    (video_id, captions), *rest = read("vatex", "test").items()
    assert (video_id, len(captions), rest) == ("5-xGskbsBgI_000055_000065", 10, [])
    assert captions[1] == "A person is setting up a table to get ready to shine boots."
    assert read("vatex", "test", copy("vatex", "ref_captions.json", "test_list.txt")) == {video_id: captions}


def test_vatex_training_needs_no_list_but_heeds_one(tmp_path):
    rows = [{"videoID": name, "enCap": [f"of {name}"], "chCap": ["…"]} for name in ("c", "a", "b")]
    (tmp_path / "vatex_training_v1.0.json").write_text(json.dumps(rows))
    assert list(read("vatex", "train", tmp_path)) == ["c", "a", "b"]
    write_lines(tmp_path / "train_list.txt", ["b", "a"])
    assert read("vatex", "train", tmp_path) == {"b": ("of b",), "a": ("of a",)}


def test_vatex_of_tables(copy):
    root = copy("vatex", "VATEX_test.csv")
    captions = ("made up caption one", "made up caption two")
    assert read("vatex", "test", root) == {"MADEUP_000000_000010": captions}
    write_rows(root / "VATEX_train.csv", ["video_id"], [["a"]])
    write_sentences(root / "VATEX_data.json", ["a", "b"], num_captions=10)
    assert read("vatex", "train", root) == {"a": tuple(f"a says {number}" for number in range(10))}


# DiDeMo


@pytest.mark.parametrize("names", [("test_data.json", "test_list.txt"), ("test.jsonl",)])
def test_didemo_paragraphs_are_those_of_other_code(copy, names):
    expected = json.loads((EXCERPTS / "didemo" / "paragraphs_expected.json").read_text())
    found = read("didemo", "test", copy("didemo", *names))
    assert found == {video_id: (paragraph,) for video_id, paragraph in expected.items()}


def test_didemo_keeps_the_listed_videos_by_their_whole_names(tmp_path):
    rows = [
        {"video": name, "description": text, "times": [[0, 0]]}
        for name, text in (
            ("a.", "one"),
            ("a.mov", "two"),
            ("a.", "three "),
            ("b.avi", "four"),
            ("a", "five"),
        )
    ]
    (tmp_path / "val_data.json").write_text(json.dumps(rows))
    write_lines(tmp_path / "val_list.txt", ["a.mov", "a."])
    assert read("didemo", "validation", tmp_path) == {"a.mov": ("two",), "a.": ("one three ",)}


# V3C


@pytest.mark.parametrize("place", ["VideoSets", "annotations/VideoSets", "annotations", "."])
def test_v3c_lists_shots_without_captions(tmp_path, place):
    write_lines(tmp_path / place / "v3c1.txt", ["shot00001_1", "shot00001_2", "", "shot00002_1"])
    assert read("v3c1", "test", tmp_path) == {"shot00001_1": (), "shot00001_2": (), "shot00002_1": ()}


def test_years_of_ad_hoc_video_search():
    numbers = {year: (avs.collection, avs.topic_numbers) for year, avs in AVS_YEARS.items()}
    assert numbers == {
        "tv19": ("v3c1", range(611, 641)),
        "tv20": ("v3c1", range(641, 661)),
        "tv21": ("v3c1", range(661, 681)),
        "tv22": ("v3c2", range(701, 731)),
        "tv23": ("v3c2", range(731, 751)),
    }
    names = {year: (avs.topics_name, avs.qrels_name) for year, avs in AVS_YEARS.items()}
    assert names == {
        "tv19": ("tv19.avs.txt", "avs.qrels.tv19"),
        "tv20": ("tv20.avs.txt", "avs.qrels.tv20"),
        "tv21": ("tv21.avs.txt", "avs.qrels.tv21"),
        "tv22": ("tv22.avs.txt", "avs.qrels.tv22"),
        "tv23": ("tv23.avs.txt", "avs.qrels.tv23"),
    }
    assert {avs.collection for avs in AVS_YEARS.values()} <= set(PUBLISHED)


# Checksums


def test_checksum_of_ids_is_of_the_set():
    """`printf 'video0\\nvideo1' | sha256sum` gives it too."""
    assert hash_ids(["video0", "video1"]) == "01e60131d177497f"
    assert hash_ids(["video1", "video0"]) == "01e60131d177497f"
    assert hash_ids(["video1"]) != hash_ids(["video0", "video1"]) != hash_ids(["video0video1"])
    assert len(hash_ids(["\udcff.mp4"])) == 16, "a file's name that is no Unicode text"


def test_checksum_of_captions_sees_their_order_and_their_video():
    captions = [("b", ("one", "two")), ("a", ("drei ü",))]
    expected = hash_captions(captions)
    assert hash_captions(reversed(captions)) == expected == hash_captions([("a", ["drei ü"]), captions[0]])
    others = [
        [("b", ("two", "one")), ("a", ("drei ü",))],
        [("b", ("one",)), ("a", ("two", "drei ü"))],
        [("b", ("one", "two")), ("a", ("drei u",))],
        [("b", ("one, two",)), ("a", ("drei ü",))],
    ]
    assert expected not in [hash_captions(other) for other in others]
