"""`eval.py` as a user runs it, and the picture that it draws."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from toys import make_records

from fpig.evaluation import evaluate_retrieval
from fpig.extra_measurements import ExtraMeasurements
from fpig.figures import (
    RIGHT_COLOR,
    WRONG_COLOR,
    check_matplotlib,
    compute_recalls,
    draw_evaluation,
    draw_recall_curves,
    draw_retrieval,
    make_strip,
    pick_retrievals,
)

SCRIPT = Path(__file__).parent.parent / "eval.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("toys")


@pytest.fixture(scope="module")
def records(folder):
    records = make_records(folder, num_videos=7)
    rows = [{"video": r.video_id, "caption": list(r.captions), "split": "test"} for r in records]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return records


@pytest.fixture(scope="module")
def results(model, processor, records):
    return evaluate_retrieval(model, processor, records, extras=ExtraMeasurements(class_token=True))


def load_script():
    """`eval.py` as a module."""
    specification = importlib.util.spec_from_file_location("eval_script", SCRIPT)
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    return script


def run_script(*arguments, cwd):
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(Path(cwd) / "home")}
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_script_measures_what_the_library_does(model, processor, records, results, folder, tmp_path):
    model.save_pretrained(tmp_path / "toy")
    processor.save_pretrained(tmp_path / "toy")
    done = run_script("--model", "toy", "--dataset", folder, "--class_token", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = tmp_path / "outputs" / "evaluation" / f"toy_{folder.name}_test"
    assert sorted(path.name for path in written.iterdir()) == ["results.json", "results.png"]
    description = json.loads((written / "results.json").read_text())
    assert description["metrics"] == results.metrics
    assert description["class_token_metrics"] == results.extra_metrics["class_token_metrics"]
    assert (description["num_captions"], description["num_videos"], description["model"]) == (13, 7, "toy")
    lines = done.stdout.splitlines()
    assert "split test: 13 captions, 7 videos" in lines[0]
    columns = ("R@1", "R@5", "R@10", "SumR", "MdR", "MnR")
    expected = ["text", "→", "video", *(f"{results.metrics[f't2v_{column}']:.1f}" for column in columns), "0"]
    assert lines[3].split() == expected
    class_token_metrics = results.extra_metrics["class_token_metrics"]
    expected = [f"{class_token_metrics[f'v2t_{column}']:.1f}" for column in columns]
    assert lines[7].split()[5:-1] == expected
    assert lines[7].startswith("class token, video → text  ")


def test_script_measures_every_extra(model, processor, records, folder, tmp_path):
    model.save_pretrained(tmp_path / "toy")
    processor.save_pretrained(tmp_path / "toy")
    bank = [{"video": "not_there.mp4", "caption": ["a red bar", "two balls"], "split": "train"}]
    rows = [{"video": r.video_id, "caption": list(r.captions), "split": "test"} for r in records[1:]]
    source = folder / "with_bank.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in bank + rows))
    options = ("--interaction", "query", "--rerank", 3, "--dual_softmax", "--query_bank", "train")
    arguments = ("--model", "toy", "--dataset", source, "--no_figure", *options)
    done = run_script(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    extras = ExtraMeasurements(
        query_interaction=True,
        num_reranked=3,
        dual_softmax=True,
        query_bank=("a red bar", "two balls"),
        query_bank_name="train",
    )
    expected = evaluate_retrieval(model, processor, records[1:], extras=extras)
    (path,) = tmp_path.glob("outputs/evaluation/*/results.json")
    description = json.loads(path.read_text())
    assert description["metrics"] == expected.metrics
    assert {key: description[key] for key in expected.extra_metrics} == expected.extra_metrics
    assert set(expected.extra_metrics) == {
        *("query_interaction_metrics", "two_stage_metrics", "dual_softmax_metrics", "query_bank_metrics")
    }
    directions = ("text → video", "video → text", "video → text, caption pool")
    names = [line.split("  ")[0] for line in done.stdout.splitlines()]
    assert names[3:14] == [
        *directions,
        *(f"real query, {direction}" for direction in directions),
        "two stages, text → video",
        *(f"dual softmax, {direction}" for direction in directions),
        "query bank, text → video",
    ]

    done = run_script(*arguments[:-1], "test", cwd=tmp_path)
    assert done.returncode == 1
    assert "`query_bank` is 'test', the split that is measured; pass another" in done.stderr


def test_results_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    script = load_script()
    arguments = script.parse_arguments(["--model=a", "--dataset=b"])
    monkeypatch.setattr(Path, "replace", lambda path, target: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        script.write_results(arguments, tmp_path, {})
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "nowhere", "--dataset", "shapes"), "error: `nowhere` is not a folder, and a repository"),
        (("--model", "nowhere"), "the following arguments are required: --dataset"),
        (
            ("--model", "nowhere", "--dataset", "shapes", "--missing_topics", "zero"),
            "error: `missing_topics` is 'zero', which has a meaning for tv19 … tv23 alone: leave it out",
        ),
    ],
)
def test_script_ends_in_one_line_on_bad_arguments(tmp_path, arguments, message):
    done = run_script(*arguments, cwd=tmp_path)
    assert done.returncode != 0
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_help_is_quick(tmp_path):
    start = time.monotonic()
    done = run_script("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "--dataset" in done.stdout
    assert time.monotonic() - start < 3


def test_missing_matplotlib_is_told_with_the_repair(monkeypatch):
    check_matplotlib()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"`pip install 'fpig\[figures\]'`, or pass `--no_figure`"):
        check_matplotlib()


def test_retrievals_are_the_best_videos_with_the_rank_that_was_measured(results):
    retrievals = pick_retrievals(results, num_queries=13, top_k=7)
    scores = (results.text_embeds @ results.video_embeds.T).numpy()
    for index, retrieval in enumerate(retrievals):
        assert retrieval.video_indices == list(np.argsort(-scores[index]))
        assert retrieval.video_indices[retrieval.true_rank - 1] == retrieval.true_index
        assert retrieval.scores == pytest.approx(sorted(scores[index], reverse=True), abs=1e-6)
    assert [r.query for r in pick_retrievals(results, 3)] == [results.captions[i] for i in (0, 6, 12)]
    assert len(pick_retrievals(results, 99)) == 13


def test_right_and_wrong_videos_are_marked(results, records, processor):
    retrieval = next(r for r in pick_retrievals(results, 13) if 1 < r.true_rank <= 5)
    figure = Figure()
    draw_retrieval(figure, retrieval, records, processor)
    assert f"rank {retrieval.true_rank}" in figure.get_suptitle()
    assert len(figure.axes) == 5
    for rank, axes in enumerate(figure.axes, start=1):
        is_right = rank == retrieval.true_rank
        color = to_hex(axes.spines["top"].get_edgecolor())
        assert color == (RIGHT_COLOR if is_right else WRONG_COLOR)
        assert axes.get_title().startswith(f"{rank}: {'right' if is_right else 'wrong'}")
        strip = make_strip(records[retrieval.video_indices[rank - 1]].video, processor)
        np.testing.assert_array_equal(axes.images[0].get_array(), strip)


def test_strips_show_the_frames(records, processor):
    strip = make_strip(records[1].video, processor, num_frames=6)
    assert strip.shape == (24, 6 * 24, 3)
    with av.open(records[1].video) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 6
    for index, frame in enumerate(frames):
        shown = strip[:, 24 * index : 24 * (index + 1)]
        # 32 × 32 to 24 × 24: means of rows stay comparable.
        assert abs(shown.mean(axis=(0, 1)) - frame.mean(axis=(0, 1)) / 255).max() < 0.02


def test_recall_curves_show_the_metrics(results):
    np.testing.assert_array_equal(compute_recalls(np.array([1, 3, 3, 9]), 4), [25, 25, 75, 75])
    figure = Figure()
    draw_recall_curves(figure, results)
    for direction, axes in zip(("t2v", "v2t"), figure.axes, strict=True):
        measured, chance = (line.get_ydata() for line in axes.lines)
        assert (len(measured), measured[-1], chance[-1]) == (7, 100, 100)
        assert measured[0] == results.metrics[f"{direction}_R@1"]
        assert measured[4] == results.metrics[f"{direction}_R@5"]


def test_picture_takes_any_caption(results, records, processor, tmp_path):
    captions = [f"$\\frac{{{'long ' * 60}" for _ in results.captions]
    results = type(results)(**(vars(results) | {"captions": captions}))
    draw_evaluation(results, records, processor, tmp_path / "picture.png", "a $title_", num_queries=2)
    content = (tmp_path / "picture.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    with av.open(str(tmp_path / "picture.png")) as container:
        assert next(container.decode(video=0)).width == 1500
