"""Ad-hoc video search from a year's files and a model to a run and its scores."""

import dataclasses
import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toys import write_clip

from fpig import avs_search
from fpig.annotations import PUBLISHED
from fpig.annotations.v3c import AVS_YEARS
from fpig.avs_files import read_qrels, read_run
from fpig.avs_scoring import score_run
from fpig.avs_search import load_task, search_shots
from fpig.embedding import embed_captions, embed_videos

NUM_SHOTS = 6
SHOTS = [f"shot0000{number}_1" for number in range(1, NUM_SHOTS + 1)]
TEXTS = ("a red circle moves left", "a blue square blinks", "a green star grows", "two balls rise")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A collection of six shots with the topics of 2021 and judgements for them."""
    root = tmp_path_factory.mktemp("v3c1")
    (root / "videos").mkdir()
    for number, shot in enumerate(SHOTS):
        write_clip(root / "videos" / f"{shot}.mp4", seed=number)
    (root / "v3c1.txt").write_text("".join(f"{shot}\n" for shot in SHOTS))
    topics = AVS_YEARS["tv21"].topic_numbers
    (root / "tv21.avs.txt").write_text("".join(f"{t} {TEXTS[t % 4]} {'again ' * (t % 7)}\n" for t in topics))
    judgements = [f"1{t} 0 {s} 1 {int((t + i) % 3 == 0)}\n" for t in topics for i, s in enumerate(SHOTS)]
    (root / "avs.qrels.tv21").write_text("".join(judgements))
    return root


@pytest.fixture(autouse=True)
def small_collection(monkeypatch):
    """The published collection has a million shots."""
    test = dataclasses.replace(PUBLISHED["v3c1"].splits["test"], num_videos=NUM_SHOTS)
    monkeypatch.setitem(PUBLISHED, "v3c1", dataclasses.replace(PUBLISHED["v3c1"], splits={"test": test}))


@pytest.fixture
def run_eval(monkeypatch, tmp_path, capsys):
    """`run_eval("--dataset", …)` → what eval.py prints, run in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    path = Path(__file__).parents[1] / "eval.py"
    specification = importlib.util.spec_from_file_location("eval_script", path)
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["eval.py", *map(str, arguments)])
        script.main()
        return capsys.readouterr().out

    return run


def test_run_is_that_of_the_embeddings(model, processor, root, tmp_path):
    task = load_task("tv21", root, "raise")
    assert (len(task.topics), len(task.qrels), len(task.shots.records)) == (20, 20, NUM_SHOTS)
    run = search_shots(model, processor, task, tmp_path)
    videos = embed_videos(model, processor, [str(root / "videos" / f"{shot}.mp4") for shot in SHOTS])
    scores = embed_captions(model, processor, list(task.topics.values())) @ videos.T
    for topic, row in zip(task.topics, scores, strict=True):
        order = row.argsort(descending=True).tolist()
        assert [shot for shot, _ in run[topic]] == [SHOTS[index] for index in order]
        assert [score for _, score in run[topic]] == pytest.approx(row[order].tolist(), abs=1e-6)


def test_script_writes_the_run_and_its_scores(release, model, processor, root, run_eval, tmp_path):
    printed = run_eval("--model", release, "--dataset", "tv21", "--data_root", root, "--output_dir", "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["results.json", "run.txt"]
    run = read_run(tmp_path / "out" / "run.txt")
    expected = score_run(run, read_qrels(root / "avs.qrels.tv21"))
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["metrics"] == expected.overall
    assert results["topics"] == expected.topics
    assert 0 < results["metrics"]["infAP"] < 1
    assert (results["dataset"], results["collection"]) == ("tv21", "v3c1")
    assert (results["num_topics"], results["num_videos"]) == (20, NUM_SHOTS)
    assert results["protocol"]["name"] == "ad-hoc video search"
    assert set(results["protocol"]) == {"name", "search", "metrics", "ties", "missing topics"}
    assert (results["missing_topics"], results["topic_shift"]) == ([], 1000)
    assert results["caption_checksum"] is None
    assert len(results["id_checksum"]) == 16
    assert f"{expected.overall['infAP']:.4f}" in printed
    assert "20 topics, 6 shots" in printed
    assert "661 is taken for 1661" in printed


def test_without_judgements_there_is_a_run_and_no_score(release, root, run_eval, tmp_path):
    folder = tmp_path / "collection"
    folder.mkdir()
    (folder / "videos").symlink_to(root / "videos")
    for name in ("v3c1.txt", "tv21.avs.txt"):
        (folder / name).write_text((root / name).read_text())
    printed = run_eval("--model", release, "--dataset", "tv21", "--data_root", folder, "--output_dir", "out")
    assert "without judgements there is nothing to score" in printed
    assert "metrics" not in json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(read_run(tmp_path / "out" / "run.txt")) == 20


def test_shots_are_embedded_once(model, processor, root, tmp_path, monkeypatch):
    """What a stopped start has written is not computed again; what is damaged is."""
    monkeypatch.setattr(avs_search, "SHOTS_PER_PART", 2)
    task = load_task("tv21", root, "raise")
    expected = search_shots(model, processor, task, tmp_path)
    (folder,) = tmp_path.iterdir()
    parts = sorted(folder.iterdir())
    assert [path.name for path in parts] == [f"0000000{start}.safetensors" for start in (0, 2, 4)]
    embedded = []
    embed = avs_search.embed_videos

    def count(model, processor, videos, *arguments):
        embedded.extend(Path(video).stem for video in videos)
        return embed(model, processor, videos, *arguments)

    monkeypatch.setattr(avs_search, "embed_videos", count)
    assert search_shots(model, processor, task, tmp_path) == expected
    assert embedded == []
    parts[0].unlink()
    parts[1].write_bytes(parts[1].read_bytes()[:40])
    assert search_shots(model, processor, task, tmp_path) == expected
    assert embedded == SHOTS[:4]
    assert load_file(parts[1])["embeds"].shape == (2, 40)


def test_embeddings_of_others_are_not_taken(model, processor, root, tmp_path):
    """Another order of the list, another file under the same name, another model."""
    folder = tmp_path / "collection"
    (folder / "videos").mkdir(parents=True)
    for name in ("v3c1.txt", "tv21.avs.txt"):
        (folder / name).write_text((root / name).read_text())
    for shot in SHOTS:
        (folder / "videos" / f"{shot}.mp4").write_bytes((root / "videos" / f"{shot}.mp4").read_bytes())
    expected = search_shots(model, processor, load_task("tv21", folder, "raise"), tmp_path / "kept")
    (folder / "v3c1.txt").write_text("".join(f"{shot}\n" for shot in reversed(SHOTS)))
    task = load_task("tv21", folder, "raise")
    assert search_shots(model, processor, task, tmp_path / "kept") == expected

    write_clip(folder / "videos" / f"{SHOTS[0]}.mp4", seed=77)
    changed = search_shots(model, processor, task, tmp_path / "kept")
    assert changed == search_shots(model, processor, task, tmp_path / "fresh") != expected

    with torch.no_grad():
        model.visual_projection.weight[0, 0] += 1
    try:
        search_shots(model, processor, task, tmp_path / "kept")
    finally:
        with torch.no_grad():
            model.visual_projection.weight[0, 0] -= 1
    assert len(list((tmp_path / "kept").iterdir())) == 4


def test_more_judged_topics_are_told_before_anything_is_embedded(release, root, run_eval, tmp_path):
    folder = tmp_path / "collection"
    folder.mkdir()
    (folder / "videos").symlink_to(root / "videos")
    for name in ("v3c1.txt", "tv21.avs.txt"):
        (folder / name).write_text((root / name).read_text())
    (folder / "avs.qrels.tv21").write_text((root / "avs.qrels.tv21").read_text() + f"1591 0 {SHOTS[0]} 1 1\n")
    arguments = ("--model", release, "--dataset", "tv21", "--data_root", folder, "--output_dir", "out")
    with pytest.raises(SystemExit, match=r"error: `run` lacks 1 of the 21 topics of the qrels \(1591\)"):
        run_eval(*arguments)
    assert not (tmp_path / "outputs").exists(), "a gallery was embedded"
    run_eval(*arguments, "--missing_topics", "zero")
    assert len(read_run(tmp_path / "out" / "run.txt")) == 20
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["missing_topics"] == ["1591"]
    assert results["protocol"]["missing topics"] == "zero"
    (folder / "avs.qrels.tv21").write_text(f"591 0 {SHOTS[0]} 1 1\n")
    with pytest.raises(ValueError, match="`run` has the topics 661, .* and the qrels 591: none in common"):
        load_task("tv21", folder, "raise")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--class_token", "`class_token` is True"),
        ("--split=train", "`split` is 'train'"),
        ("--interaction=query", "`interaction` is 'query'"),
        ("--rerank=5", "`rerank` is 5"),
        ("--dual_softmax", "`dual_softmax` is True"),
        ("--query_bank=train", "`query_bank` is 'train'"),
    ],
)
def test_options_without_a_meaning_are_refused(release, root, run_eval, option, message):
    with pytest.raises(
        SystemExit, match=f"error: {message}, which has no meaning for tv21, a list of topics"
    ):
        run_eval("--model", release, "--dataset", "tv21", "--data_root", root, option)


def test_topics_of_another_year_are_refused(root, tmp_path):
    (tmp_path / "tv21.avs.txt").write_text("611 a drone flying\n612 a truck\n")
    message = r"has the topics 611, 612 \(2\); tv21 has 661 to 680: get the file again"
    with pytest.raises(ValueError, match=message):
        load_task("tv21", tmp_path, "raise")


def test_missing_files_are_named(root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"lacks annotations: .* is tv21.avs.txt; get them from"):
        load_task("tv21", tmp_path, "raise")
    (tmp_path / "tv21.avs.txt").write_text((root / "tv21.avs.txt").read_text())
    with pytest.raises(FileNotFoundError, match=r"VideoSets/v3c1.txt"):
        load_task("tv21", tmp_path, "raise")
