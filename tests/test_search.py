"""Search in a folder of videos: the function, and the command in a fresh process."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from toys import write_clip

from fpig.embedding import load_encoder
from fpig.search import FoundVideo, find_videos, rank_embeds, search_videos

QUERY = "a green star grows"


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory, model, processor):
    folder = tmp_path_factory.mktemp("model") / "toy"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def videos_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    (folder / "deep" / "er").mkdir(parents=True)
    for seed, name in enumerate(["b.mp4", "a.MKV", "deep/c.mp4", "deep/er/d.avi"]):
        write_clip(folder / name, seed) if name.islower() else write_clip(folder / "a.mkv", seed)
    (folder / "a.mkv").rename(folder / "a.MKV")
    (folder / "notes.txt").write_text("no video")
    (folder / "folder.mp4").mkdir()
    return folder


def run_search(*arguments, cwd):
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(Path(cwd) / "home")}
    command = [sys.executable, "-m", "fpig.search", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_videos_are_found_by_suffix_in_all_folders(videos_dir):
    names = [str(path.relative_to(videos_dir)) for path in find_videos(videos_dir)]
    assert names == ["a.MKV", "b.mp4", "deep/c.mp4", "deep/er/d.avi"]


def test_linked_folders_are_searched_each_once(tmp_path):
    """And a folder that is in the searched one keeps its own name, whatever links to it."""
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "videos" / "z" / "real").mkdir(parents=True)
    for name in ("elsewhere/a.mp4", "elsewhere/deep/b.mp4", "videos/z/real/c.mp4"):
        (tmp_path / name).touch()
    for name in ("one", "two"):
        (tmp_path / "videos" / name).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "videos" / "b").symlink_to(tmp_path / "videos" / "z" / "real")
    (tmp_path / "elsewhere" / "circle").symlink_to(tmp_path / "videos")
    paths = find_videos(tmp_path / "videos")
    assert [str(path.relative_to(tmp_path / "videos")) for path in paths] == [
        "one/a.mp4",
        "one/deep/b.mp4",
        "z/real/c.mp4",
    ]


def test_ranking_is_by_cosine(model, processor, videos_dir):
    paths = find_videos(videos_dir)
    found, unreadable = search_videos(model, processor, paths, QUERY, batch_size=3)
    assert unreadable == {}
    with torch.no_grad():
        query_embeds = model.encode_text(**processor(text=QUERY))
        scores = {
            path: (model.encode_video(processor(videos=str(path))["pixel_values"]) @ query_embeds.T).item()
            for path in paths
        }
    assert [video.path for video in found] == sorted(paths, key=scores.get, reverse=True)
    assert [video.path for video in found] != paths
    assert {video.path: video.score for video in found} == pytest.approx(scores, abs=1e-5)


def test_equal_videos_keep_their_order(model, processor, videos_dir, tmp_path):
    paths = [Path(shutil.copy(videos_dir / "b.mp4", tmp_path / f"{name}.mp4")) for name in "cab"]
    found, _ = search_videos(model, processor, paths, QUERY)
    assert [video.path for video in found] == paths
    assert found[0] == FoundVideo(paths[0], found[2].score)


def test_unreadable_videos_are_reported_and_skipped(model, processor, videos_dir, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video at all")
    found, unreadable = search_videos(model, processor, [bad, videos_dir / "b.mp4"], QUERY)
    assert [video.path for video in found] == [videos_dir / "b.mp4"]
    assert list(unreadable) == [bad]
    assert "bad.mp4" in str(unreadable[bad])
    with pytest.raises(ValueError, match=r"`paths` has 1 videos and none can be read; the first: .*bad\.mp4"):
        search_videos(model, processor, [bad], QUERY)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_embeds_that_are_no_numbers_have_no_rank(value):
    embeds, bad_embeds = torch.eye(3)[:2], torch.eye(3)[:2]
    bad_embeds[1, 2] = value
    assert rank_embeds(embeds, torch.eye(3)[0]) == [(0, 1.0), (1, 0.0)]
    with pytest.raises(ValueError, match=r"`embeds\[1\]` holds NaN or infinity, which has no rank; embed it"):
        rank_embeds(bad_embeds, embeds[0])
    with pytest.raises(ValueError, match="`query_embed` holds NaN or infinity, which has no rank; embed it"):
        rank_embeds(embeds, bad_embeds[1])


def test_bad_arguments_are_errors(model, processor, videos_dir, tmp_path):
    with pytest.raises(ValueError, match="`query` is ' '; say what to look for"):
        search_videos(model, processor, find_videos(videos_dir), " ")
    with pytest.raises(FileNotFoundError, match=r"has no video; files with one of these suffixes .* \.mp4"):
        find_videos(tmp_path)
    (tmp_path / os.fsdecode(b"n\xff.mp4")).touch()
    with pytest.raises(ValueError, match=r"n\\udcff\.mp4'` is not named in UTF-8; rename it"):
        find_videos(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere` is not a folder; pass the folder"):
        find_videos(tmp_path / "nowhere")


def test_a_folder_loads_with_its_code_and_other_names_are_refused(model, processor, model_folder):
    loaded, loaded_processor = load_encoder(str(model_folder))
    assert not loaded.training
    tokens = loaded_processor(text=[QUERY])
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.encode_text(**tokens), model.encode_text(**processor(text=[QUERY])), atol=1e-6, rtol=0
        )
    for name in ("nowhere", "/no/where", "./nowhere", "a/b/c"):
        with pytest.raises(FileNotFoundError, match="is not a folder, and a repository .* `owner/name`"):
            load_encoder(name)


def test_command_prints_ranks_scores_and_files(model, processor, model_folder, videos_dir, tmp_path):
    shutil.copytree(videos_dir, tmp_path / "videos")
    (tmp_path / "videos" / "z.mp4").write_bytes(b"no video at all")
    done = run_search(model_folder, "videos", QUERY, "--top_k", "3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "skipped: can't read the video `videos/z.mp4`" in done.stderr
    assert "Encoding videos" in done.stderr
    found, _ = search_videos(model, processor, find_videos(videos_dir), QUERY)
    expected = [
        f"{rank:>3}  {video.score:.4f}  videos/{video.path.relative_to(videos_dir)}"
        for rank, video in enumerate(found[:3], start=1)
    ]
    assert done.stdout.splitlines() == expected


def test_command_ends_in_one_line_on_bad_input(model_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    done = run_search(model_folder, "empty", QUERY, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: `empty` has no video")
    assert done.stderr.count("\n") == 1
    done = run_search(model_folder, "empty", QUERY, "--top_k", "0", cwd=tmp_path)
    assert done.returncode == 2
    assert "`--top_k` is 0; it must be at least 1" in done.stderr


def test_help_is_quick(tmp_path):
    start = time.monotonic()
    done = run_search("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "VIDEOS_DIR" in done.stdout
    assert time.monotonic() - start < 3
