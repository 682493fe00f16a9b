"""An index keeps all that a model found in videos, and refuses another model's."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toys import make_model, write_clip

from fpig.embedding import embed_videos
from fpig.index import fingerprint_model, index_videos, load_index, save_index
from fpig.search import find_videos

ROOT = Path(__file__).parents[1]


@pytest.fixture
def videos_dir(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for seed in range(5):
        write_clip(folder / f"{seed}.mp4", seed, num_frames=6 + seed)
    return folder


@pytest.fixture
def index(model, processor, videos_dir):
    return index_videos(model, processor, find_videos(videos_dir), batch_size=2)


def test_rows_are_what_the_model_gives(model, processor, index, videos_dir):
    paths = find_videos(videos_dir)
    assert (len(index), index.paths, index.unreadable) == (5, paths, {})
    torch.testing.assert_close(index.embeds, embed_videos(model, processor, paths), rtol=0, atol=1e-6)
    for number, path in enumerate(paths):
        pixel_values = processor(videos=path, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            features = model.get_video_features(pixel_values, return_dict=True)
        video = index[number]
        frame_tokens = features.last_hidden_state[0, model.config.num_global_tokens :: 1 + 9]
        expected = torch.nn.functional.normalize(frame_tokens, dim=-1)
        torch.testing.assert_close(video.frame_embeds, expected, rtol=0, atol=1e-5)
        pseudo_query = torch.nn.functional.normalize(features.pseudo_query[0], dim=-1)
        torch.testing.assert_close(video.pseudo_query_embed, pseudo_query, rtol=0, atol=1e-5)
        assert video.selected_token_indices == features.selected_token_indices[0].tolist()
        assert video.frame_seconds == pytest.approx(processor.video_processor.read_frame_seconds(path))
        assert video.frame_seconds[-1] > video.frame_seconds[0]


def test_the_matched_frame_is_the_nearest(index):
    video = index[3]
    for number in range(4):
        assert video.match_frame(video.frame_embeds[number]) == number


def test_baselines_have_no_pseudo_query(processor, videos_dir):
    model = make_model(processor, video_pooling="mean")
    video = index_videos(model, processor, find_videos(videos_dir))[0]
    assert video.pseudo_query_embed is None
    assert video.selected_token_indices is None
    assert video.frame_embeds.shape == (4, 40)


def test_an_index_comes_back_and_moves_with_its_videos(model, processor, index, videos_dir, tmp_path):
    fingerprint = fingerprint_model(model, processor)
    save_index(index, videos_dir / "kept", fingerprint)
    moved = Path(shutil.move(videos_dir, tmp_path / "elsewhere"))
    back = load_index(moved / "kept", fingerprint)
    assert back.paths == [moved / path.name for path in index.paths]
    assert torch.equal(back.embeds, index.embeds)
    for number in range(5):
        before, after = index[number], back[number]
        assert torch.equal(before.frame_embeds, after.frame_embeds)
        assert before.frame_seconds == after.frame_seconds
        assert before.selected_token_indices == after.selected_token_indices


def test_videos_that_are_gone_are_listed(model, processor, index, videos_dir, tmp_path):
    save_index(index, tmp_path / "kept", "f" * 16)
    (videos_dir / "1.mp4").unlink()
    back = load_index(tmp_path / "kept", "f" * 16)
    assert [path.name for path in back.paths] == ["0.mp4", "2.mp4", "3.mp4", "4.mp4"]
    assert torch.equal(back.embeds, index.embeds[[0, 2, 3, 4]])
    assert list(back.unreadable) == [str(videos_dir / "1.mp4")]
    shutil.rmtree(videos_dir)
    with pytest.raises(ValueError, match="kept` lists 5 videos and none is there, such as .*0.mp4"):
        load_index(tmp_path / "kept", "f" * 16)


def test_only_videos_are_served_whatever_an_index_lists(index, tmp_path):
    """An index may come from somebody else, and the demo shows what it lists."""
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    index.paths[2] = secret
    save_index(index, tmp_path / "kept", "f" * 16)
    back = load_index(tmp_path / "kept", "f" * 16)
    assert secret not in back.paths
    assert len(back) == 4


def test_fingerprint_tells_models_apart(model, processor, tmp_path):
    fingerprint = fingerprint_model(model, processor)
    model.save_pretrained(tmp_path / "model")
    again = type(model).from_pretrained(tmp_path / "model")
    assert fingerprint_model(again, processor) == fingerprint
    with torch.no_grad():
        again.logit_scale += 0.5
    assert fingerprint_model(again, processor) != fingerprint
    assert fingerprint_model(make_model(processor, num_selected_tokens=4), processor) != fingerprint
    processor.video_processor.num_frames = 3
    other = fingerprint_model(model, processor)
    processor.video_processor.num_frames = 4
    assert other != fingerprint
    processor.video_processor.keyframes_only = True
    other = fingerprint_model(model, processor)
    processor.video_processor.keyframes_only = False
    assert other != fingerprint


def test_bad_indexes_are_errors(index, tmp_path):
    with pytest.raises(ValueError, match="nowhere` is no index; make one: fpig index"):
        load_index(tmp_path / "nowhere", "f" * 16)
    save_index(index, tmp_path / "kept", "f" * 16)
    with pytest.raises(FileExistsError, match="kept` is there already"):
        save_index(index, tmp_path / "kept", "f" * 16)
    with pytest.raises(ValueError, match=r"another model \(ffff.*, this one is 0000.*\); make it again"):
        load_index(tmp_path / "kept", "0" * 16)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match="link` is there already"):
        save_index(index, tmp_path / "link", "f" * 16)
    for name, dataset in (
        ("empty", index.dataset.add_column("video", ["a.mp4"] * 5).select([])),
        ("without", index.dataset.remove_columns("embeds").add_column("video", ["a.mp4"] * 5)),
    ):
        dataset.save_to_disk(tmp_path / name)
        shutil.copy(tmp_path / "kept" / "index.json", tmp_path / name)
        with pytest.raises(ValueError, match=f"{name}` is damaged .*make it again"):
            load_index(tmp_path / name, "f" * 16)
    (tmp_path / "kept" / "index.json").write_text("{}")
    with pytest.raises(ValueError, match="kept` is damaged .*make it again"):
        load_index(tmp_path / "kept", "f" * 16)
    (tmp_path / "kept" / "index.json").write_text(json.dumps({"model": "f" * 16, "unreadable": {}}))
    for path in (tmp_path / "kept").glob("*.arrow"):
        path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="kept` is damaged .*make it again"):
        load_index(tmp_path / "kept", "f" * 16)


def test_a_failed_write_leaves_nothing_under_the_name(index, tmp_path, monkeypatch):
    def fail(*arguments, **keywords):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", fail)
        with pytest.raises(OSError, match="no space left"):
            save_index(index, tmp_path / "kept", "f" * 16)
    assert not (tmp_path / "kept").exists()
    save_index(index, tmp_path / "kept", "f" * 16)  # over what the failed one left
    assert len(load_index(tmp_path / "kept", "f" * 16)) == 5


def run_index(*arguments):
    command = [sys.executable, "-m", "fpig", "index", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


def test_command_writes_an_index(release, videos_dir, tmp_path, model, processor):
    (videos_dir / "bad.mp4").write_bytes(b"no video at all")
    done = run_index(release, videos_dir, tmp_path / "kept")
    assert done.returncode == 0, done.stderr
    assert "skipped: can't read the video" in done.stderr
    assert done.stdout == f"5 videos, 1 unreadable: {tmp_path / 'kept'}\n"
    back = load_index(tmp_path / "kept", fingerprint_model(model, processor))
    assert len(back) == 5
    assert list(back.unreadable) == [str(videos_dir / "bad.mp4")]
    again = run_index(release, videos_dir, tmp_path / "kept")
    assert again.returncode == 1
    assert again.stderr == (
        f"error: `{tmp_path / 'kept'}` is there already; remove it or choose another name\n"
    )
