"""`python -m fpig.annotations check` on data sets of the full size, whose videos are all one clip."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_datasets import (
    fake_didemo,
    fake_msrvtt,
    fake_msvd,
    fake_v3c,
    fake_vatex,
    link_videos,
    write_folder,
)
from make_clips import paint_frames
from toys import write_clip

from fpig.annotations.__main__ import main
from fpig.annotations.v3c import AVS_YEARS
from fpig.datasets import load_split

ROOT = Path(__file__).parents[1]
EXCERPTS = ROOT / "tests" / "data" / "annotations"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", seed=1, num_frames=1)


@pytest.fixture
def check(capsys):
    """`check("msvd", folder, …)` → exit status and what was printed."""

    def check(*arguments):
        status = 0
        try:
            main(["check", *(str(argument) for argument in arguments)])
        except SystemExit as error:
            status = error.code
        return status, capsys.readouterr().out

    return check


def get_row(printed, title):
    """The cells of a row of the table, which two spaces part."""
    (line,) = [line for line in printed.splitlines() if line.startswith(f"{title}  ")]
    return [cell.strip() for cell in line.removeprefix(title).split("  ") if cell.strip()]


# Full size


def test_msrvtt_in_both_splits(check, tmp_path, clip):
    ids = fake_msrvtt(tmp_path)
    link_videos(tmp_path, (f"{video_id}.mp4" for video_id in ids), clip)
    status, printed = check("msrvtt1k", tmp_path, "--no_decode")
    assert (status, "Not as published" in printed) == (0, False), printed
    assert get_row(printed, "videos published") == ["9,000", "1,000"]
    assert get_row(printed, "videos annotated") == ["9,000 of 9,000 published", "1,000 of 1,000 published"]
    assert get_row(printed, "videos found") == ["9,000", "1,000"]
    assert get_row(printed, "videos unreadable") == ["not tried", "not tried"]
    assert get_row(printed, "captions") == ["180,000", "1,000"]
    assert get_row(printed, "captions a video") == ["20", "1"]
    assert get_row(printed, "protocol") == ["several captions", "one caption"]
    status, printed = check("msrvtt3k", tmp_path, "--no_decode")
    assert status == 0, printed
    assert get_row(printed, "videos found") == ["6,513", "497", "2,990"]
    assert get_row(printed, "captions") == ["130,260", "9,940", "59,800"]
    loaded = load_split("msrvtt3k", "validation", tmp_path)
    assert get_row(printed, "checksum of ids")[1] == loaded.id_checksum
    assert get_row(printed, "checksum of captions")[1] == loaded.caption_checksum
    assert [record.video_id for record in loaded.records] == ids[6513:7010]


def test_msvd_with_every_video_decoded(check, tmp_path, clip):
    ids = fake_msvd(tmp_path)
    link_videos(tmp_path, (f"{video_id}.avi" for video_id in ids[5:]), clip)
    (tmp_path / "videos" / f"{ids[1]}.avi").write_bytes(b"no video at all")
    (tmp_path / "videos" / f"{ids[2]}.avi").touch()
    status, printed = check("msvd", tmp_path, "--list", tmp_path / "list.txt")
    assert status == 1
    assert get_row(printed, "videos annotated")[0] == "1,200 of 1,200 published"
    assert get_row(printed, "videos found") == ["1,197", "100", "670"]
    assert get_row(printed, "videos missing") == ["3", "0", "0"]
    assert get_row(printed, "videos empty") == ["1", "0", "0"]
    assert get_row(printed, "videos unreadable") == ["1", "0", "0"]
    assert get_row(printed, "captions a video") == ["21 to 81"] * 3
    assert get_row(printed, "captions") == ["48,774", "4,290", "27,763"]
    assert "Not as published" not in printed
    listed = [line.split("\t") for line in (tmp_path / "list.txt").read_text().splitlines()]
    assert [(split, video_id) for split, video_id, _ in listed] == [
        ("train", video_id) for video_id in ids[:5]
    ]
    assert [reason.partition(":")[0] for _, _, reason in listed] == [
        *("missing", "unreadable", "empty", "missing", "missing")
    ]
    assert "Can't be used of split 'train': 5\n  -yt0000_1_9  missing\n" in printed


def test_vatex_with_clips_that_are_gone_and_some_as_pictures(check, tmp_path, clip):
    ids = fake_vatex(tmp_path)
    gone, pictures = set(ids[::20]), ids[1:6]
    link_videos(tmp_path, (f"{name}.mp4" for name in ids if name not in gone and name not in pictures), clip)
    (tmp_path / "frames").mkdir()
    for video_id in pictures:
        write_folder(tmp_path / "frames" / video_id, paint_frames(1, 32, 32))
    status, printed = check("vatex", tmp_path, "--no_decode", "--on_missing", "skip")
    assert status == 0, printed
    assert get_row(printed, "videos published") == ["25,991", "1,500", "1,500"]
    num_gone = [sum(video_id in gone for video_id in part) for part in (ids[:25_991], ids[25_991:][::2])]
    assert get_row(printed, "videos missing")[:2] == [f"{number:,}" for number in num_gone]
    assert sum(int(cell.replace(",", "")) for cell in get_row(printed, "videos found")) == 28_991 - len(gone)
    assert get_row(printed, "captions") == ["259,910", "15,000", "15,000"]
    assert f"  … and {num_gone[0] - 10:,} more; `--list FILE` writes all" in printed
    assert check("vatex", tmp_path, "--no_decode")[0] == 1, "with raise they are a failure"


def test_didemo_with_its_file_names(check, tmp_path, clip):
    ids = fake_didemo(tmp_path)
    link_videos(tmp_path, ids, clip)
    status, printed = check("didemo", tmp_path, "--no_decode")
    assert status == 0, printed
    assert get_row(printed, "videos found") == ["8,392", "1,065", "1,004"]
    assert get_row(printed, "captions") == ["8,392", "1,065", "1,004"]
    assert get_row(printed, "protocol") == ["paragraph"] * 3
    (record,) = [
        record for record in load_split("didemo", "test", tmp_path).records if record.video_id == ids[-1]
    ]
    assert record.captions == (f"{ids[-1]} 0. {ids[-1]} 1. {ids[-1]} 2.",)


def test_a_million_shots_are_counted_in_seconds(check, tmp_path, clip):
    ids = fake_v3c(tmp_path, "v3c1", 1_082_659)
    link_videos(tmp_path, [f"{shot_id}.webm" for shot_id in ids[-2:]], clip)
    start = time.process_time()
    status, printed = check("v3c1", tmp_path, "--no_decode")
    assert time.process_time() - start < 15
    assert status == 1
    assert get_row(printed, "videos annotated") == ["1,082,659 of 1,082,659 published"]
    assert get_row(printed, "videos missing") == ["1,082,657"]
    assert get_row(printed, "protocol") == ["ad-hoc video search"]
    assert get_row(printed, "captions") == ["0"]


@pytest.fixture
def year(tmp_path):
    """A folder of few shots with the topics of 2021, and a function that writes their judgements."""
    fake_v3c(tmp_path, "v3c1", 3)
    numbers = AVS_YEARS["tv21"].topic_numbers
    (tmp_path / "tv21.avs.txt").write_text("".join(f"{number} a drone flying\n" for number in numbers))

    def judge(topics):
        lines = [f"{topic} 0 shot{shot} 1 {shot - 1}\n" for topic in topics for shot in range(3)]
        (tmp_path / "avs.qrels.tv21").write_text("".join(lines))

    judge(1000 + number for number in numbers)
    return tmp_path, judge


def test_topics_and_judgements_of_a_year(check, year):
    status, printed = check("tv21", year[0], "--no_decode")
    assert status == 1, "three shots are not V3C1"
    assert get_row(printed, "videos annotated") == ["3 of 1,082,659 published"]
    assert "tv21: 20 topics, 20 with judgements of 40 shots" in printed
    assert "avs.qrels.tv21" not in printed
    report = json.loads(check("tv21", year[0], "--no_decode", "--json")[1])
    assert report["year"] == {
        "year": "tv21",
        "num_topics": 20,
        "num_judged_topics": 20,
        "num_judged_shots": 40,
    }


@pytest.mark.parametrize(
    ("topics", "message"),
    [
        ([*range(1662, 1681)], r"`avs.qrels.tv21` lacks 1 of the 20 topics of tv21 \(1661\); get it again"),
        ([*range(661, 678)], r"lacks 3 of the 20 topics of tv21 \(678, 679, 680\)"),
        ([*range(1661, 1682)], r"has 1 topics that tv21 has not \(1681\); get it again"),
    ],
)
def test_judgements_of_other_topics_are_told(check, year, topics, message):
    year[1](topics)
    status, printed = check("tv21", year[0], "--no_decode")
    assert status == 1
    assert re.search(message, printed)


def test_files_of_a_year_that_are_missing_or_damaged_are_told(check, year):
    root = year[0]
    (root / "avs.qrels.tv21").unlink()
    assert "has avs.qrels.tv21; a run can't be scored" in check("tv21", root, "--no_decode")[1]
    (root / "avs.qrels.tv21").write_text("1661 0 shot1 1\n")
    assert "tv21: `avs.qrels.tv21` has 4 columns in line 1" in check("tv21", root, "--no_decode")[1]
    (root / "tv21.avs.txt").write_text("611 a drone flying\n")
    assert "has the topics 611 (1); tv21 has 661 to 680" in check("tv21", root, "--no_decode")[1]
    (root / "tv21.avs.txt").unlink()
    assert "is tv21.avs.txt; get them from" in check("tv21", root, "--no_decode")[1]


# Excerpts, and what is wrong with them


@pytest.mark.parametrize(
    ("name", "folder", "expected"),
    [
        ("msrvtt1k", "msrvtt", ["10 of 9,000 published", "10 of 1,000 published"]),
        ("msvd", "msvd", ["3 of 670 published"]),
        ("vatex", "vatex", ["1 of 1,500 published"]),
        ("didemo", "didemo", ["3 of 1,004 published"]),
    ],
)
def test_other_sizes_are_told_beside_what_is_there(check, name, folder, expected):
    status, printed = check(name, EXCERPTS / folder, "--on_missing", "skip")
    assert status == 1, "missing videos are none, but wrong sizes always"
    assert get_row(printed, "videos annotated") == expected
    assert f"of '{name}' has {expected[-1]} videos; numbers measured on others can't be compared" in printed


def test_one_split(check, tmp_path, clip):
    shutil.copytree(EXCERPTS / "msvd", tmp_path, dirs_exist_ok=True)
    link_videos(tmp_path, ["eyhzdC936uk_15_27.avi", "f-24IxG9ijw_25_40.avi"], clip)
    status, printed = check("msvd", tmp_path, "--split", "test")
    assert (status, "split 'train'" in printed) == (1, False)
    assert get_row(printed, "videos found") == ["2"]
    assert get_row(printed, "videos unreadable") == ["0"]
    assert "Can't be used of split 'test': 1\n  f9Won2JpOEU_60_80  missing\n" in printed
    assert "'eyhzdC936uk_15_27' with 6 captions but 21 to 81 are published" in printed


def test_problems_of_one_split_leave_the_others_in_the_table(check, tmp_path):
    shutil.copytree(EXCERPTS / "msrvtt", tmp_path, dirs_exist_ok=True)
    (tmp_path / "MSRVTT_train.9k.csv").write_text("video_id\nvideo0\nvideo0\n")
    status, printed = check("msrvtt1k", tmp_path)
    assert status == 1
    assert get_row(printed, "videos annotated") == ["10 of 1,000 published"]
    assert "  split 'train': `row 2 of " in printed
    (tmp_path / "MSRVTT_train.9k.csv").write_text("video_id\nvideo0\nvideo9770\n")
    assert "`split` 'test' has the video 'video9770' (row 1 of " in check("msrvtt1k", tmp_path)[1]


def test_doubled_videos_and_missing_folders_are_problems_beside_the_table(check, tmp_path, clip):
    shutil.copytree(EXCERPTS / "msvd", tmp_path, dirs_exist_ok=True)
    arguments = ("msvd", tmp_path, "--split", "test", "--no_decode", "--on_missing", "skip")
    status, printed = check(*arguments)
    assert (status, get_row(printed, "videos missing")) == (1, ["3"])
    assert f"  `{tmp_path}` has neither a folder `videos` nor a folder `frames`" in printed
    names = ("eyhzdC936uk_15_27", "f-24IxG9ijw_25_40")
    link_videos(tmp_path, [f"{name}{suffix}" for name in names for suffix in (".avi", ".mp4")], clip)
    status, printed = check(*arguments)
    assert (status, get_row(printed, "videos found")) == (1, ["2"])
    assert "neither a folder" not in printed
    for name in names:
        assert f"  `{name}` has two videos, {tmp_path / 'videos' / name}.avi and " in printed


def test_report_as_json(check, tmp_path):
    shutil.copytree(EXCERPTS / "didemo", tmp_path, dirs_exist_ok=True)
    status, printed = check("didemo", tmp_path, "--json", "--no_decode")
    report = json.loads(printed)
    assert (status, report["is_fine"], list(report["splits"])) == (1, False, ["test"])
    test = report["splits"]["test"]
    assert (test["num_published"], test["num_annotated"], test["num_found"]) == (1004, 3, 0)
    assert test["num_unreadable"] is None
    assert list(test["unusable"].values()) == ["missing"] * 3
    assert len(report["problems"]) == 4, "two splits without files, one of another size, no folder for videos"


# The command


def test_help_and_errors_come_at_once():
    """Nothing heavy is imported for them."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'transformers', 'datasets', 'av')))\n"
        "from fpig.annotations.__main__ import main; main(sys.argv[1:])"
    )
    start = time.monotonic()
    for arguments, expected in (
        (["--help"], "count annotations and videos"),
        (["check", "--help"], "Ends with 0 if annotations and videos are as published"),
        (["check", "msvd", "nowhere"], "error: `nowhere` is no folder; pass the folder of the data set"),
        (["check", "msvd"], "error: `data/msvd` is no folder"),
        (["check", "msr"], "error: `NAME` is 'msr' but must be one of msrvtt1k, msrvtt3k, msvd, vatex"),
        (["check", "msvd", "--split", "val"], "error: `split` is 'val' but 'msvd' has only train, vali"),
        (["check", "msvd", "--list", "no/list.txt"], "error: `--list` is no/list.txt but there is no such"),
    ):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        text = " ".join((done.stdout + done.stderr).split())
        assert expected in text, arguments
        assert done.returncode == (0 if "--help" in arguments else 1)
        assert done.returncode == 0 or len(done.stderr.splitlines()) == 1, "one line"
    assert time.monotonic() - start < 7 * 3


def test_module_is_the_command():
    command = [
        sys.executable,
        "-m",
        "fpig.annotations",
        "check",
        "vatex",
        str(EXCERPTS / "vatex"),
        "--no_decode",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert get_row(done.stdout, "videos annotated") == ["1 of 1,500 published"]
