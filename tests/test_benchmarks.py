"""The benchmarks on `shapes`: which runs they make, that none is favoured, and what they print of results."""

import argparse
import importlib
import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from toys import write_clip

from fpig.argument_parsing import parse_arguments
from fpig.settings import get_stages_dir

FOLDER = Path(__file__).parents[1] / "benchmarks"
SHARED = ("process_memory", "shapes_runs")
COMMANDS = [path for path in sorted(FOLDER.glob("*.py")) if path.stem not in SHARED]
CONFIG = FOLDER.parent / "configs" / "shapes.yaml"


@pytest.fixture
def load(monkeypatch):
    """`load("methods")` → benchmarks/methods.py as a module."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("MPLBACKEND", "agg")
    return importlib.import_module


@pytest.fixture
def runs(load):
    """Every run of every benchmark, by name."""
    curves = load("sensitivity").CURVES.values()
    return {
        run.name: run
        for group in (
            load("methods").RUNS,
            load("ablations").ABLATIONS.values(),
            *(curve.values() for curve in curves),
        )
        for run in group
    }


@pytest.fixture
def scripts(load, monkeypatch):
    """Stands in for `train.py` and `eval.py`: the commands, and results that say which run they are of."""
    commands = []

    def execute(command, threads):
        commands.append(command)
        folder = Path(next(part for part in command if part.startswith("--output_dir="))[13:])
        folder.mkdir(parents=True, exist_ok=True)
        if command[0] == "train.py":
            (get_stages_dir(folder) / "towers" / "final").mkdir(parents=True, exist_ok=True)
            (get_stages_dir(folder) / "towers" / "stage.json").write_text(str(folder))
        (folder / "results.json").write_text(json.dumps({"model": command[1]}))

    monkeypatch.setattr(load("shapes_runs"), "execute", execute)
    return commands


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.name)
def test_help_is_printed(path):
    done = subprocess.run(
        [sys.executable, path, "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"python benchmarks/{path.name}" in done.stdout


def test_every_run_trains_equally_long_and_changes_one_thing(runs):
    default = parse_arguments([str(CONFIG)], CONFIG)
    total = default[2].generator_epochs + default[2].num_train_epochs
    assert len(runs) == 14
    seen = set()
    for run in runs.values():
        model_args, data_args, training_args = parse_arguments([str(CONFIG), *run.settings], CONFIG)
        is_hybrid = model_args.video_pooling == "pseudo_query"
        generator_epochs = training_args.generator_epochs if is_hybrid else 0
        assert generator_epochs + training_args.num_train_epochs == total, run.name
        assert data_args == default[1]
        changed = {name: value for name, value in vars(model_args).items() if value != vars(default[0])[name]}
        assert len(changed) <= 1, run.name
        without_pretraining = (is_hybrid and generator_epochs == 0, str(changed))
        assert without_pretraining not in seen, run.name
        seen.add(without_pretraining)
        same = ("learning_rate", "tower_epochs", "per_device_train_batch_size", "warmup_steps", "seed")
        assert all(getattr(training_args, name) == getattr(default[2], name) for name in same)


@pytest.mark.parametrize("num_epochs", [4, 12])
def test_longer_runs_are_those_of_the_methods_and_equally_long(load, runs, num_epochs):
    epochs = load("epochs")
    assert epochs.EPOCHS_AFTER_TOWERS == 4
    for method in epochs.METHODS.values():
        run = epochs.lengthen(method, num_epochs)
        model_args, _, training_args = parse_arguments([str(CONFIG), *run.settings], CONFIG)
        is_hybrid = model_args.video_pooling == "pseudo_query"
        generator_epochs = training_args.generator_epochs if is_hybrid else 0
        assert generator_epochs == is_hybrid
        assert generator_epochs + training_args.num_train_epochs == num_epochs
        known = runs[run.name.removesuffix("_12_epochs")]
        assert (run == known) == (num_epochs == 4)
        assert model_args == parse_arguments([str(CONFIG), *known.settings], CONFIG)[0]


def test_table_of_epochs(load):
    epochs = load("epochs")
    measured = {
        epochs.lengthen(run, number).name: [make_results(row + number), make_results(row + number + 1)]
        for row, run in enumerate(epochs.METHODS.values())
        for number in (4, 12)
    }
    lines = epochs.format_table(measured, [4, 12]).splitlines()
    assert lines[0] == "| t2v_R@1 | 4 epochs | 12 epochs |"
    assert lines[2] == "| CLIP4Clip (mean of frames) | 4.5 ± 0.7 (4.0, 5.0) | 12.5 ± 0.7 (12.0, 13.0) |"
    assert lines[3].startswith("| F-Pig | 5.5 ± 0.7 (5.0, 6.0) | 13.5")


def test_runs_of_a_seed_share_their_towers_and_are_not_repeated(load, scripts, tmp_path):
    shapes_runs = load("shapes_runs")
    arguments = argparse.Namespace(seeds=[3, 5], output_dir=tmp_path, num_jobs=1)
    run = shapes_runs.Run("other", ("--num_proxy_tokens=0",))
    measured = shapes_runs.measure_runs([shapes_runs.F_PIG, run], arguments)
    (folder,) = tmp_path.iterdir()
    for seed in (3, 5):
        stages_dir = folder / f"seed_{seed}" / "other-stages" / "towers"
        assert (stages_dir / "final").is_dir()
        assert (stages_dir / "stage.json").is_file()
    trained = [command for command in scripts if command[0] == "train.py"]
    assert len(trained) == 4
    for command in trained:
        # The first run of a seed makes the towers, the other one goes on from them.
        assert ("--resume_from_checkpoint" in command) == ("--num_proxy_tokens=0" in command)
    assert [Path(results["model"]).parent.name for results in measured["other"]] == ["seed_3", "seed_5"]
    del scripts[:]
    assert shapes_runs.measure_runs([shapes_runs.F_PIG, run], arguments) == measured
    assert scripts == []


def test_stopped_run_goes_on(load, scripts, tmp_path):
    shapes_runs = load("shapes_runs")
    arguments = argparse.Namespace(seeds=[0], output_dir=tmp_path, num_jobs=1)
    shapes_runs.measure_runs([shapes_runs.F_PIG], arguments)
    (results,) = tmp_path.glob("*/seed_0/f_pig/results.json")
    results.unlink()
    del scripts[:]
    shapes_runs.measure_runs([shapes_runs.F_PIG], arguments)
    (command,) = scripts
    assert "--resume_from_checkpoint" in command


def make_results(t2v, **keys):
    metrics = dict.fromkeys(("t2v_R@5", "t2v_R@10", "v2t_R@1"), 50.0)
    return {"metrics": {"t2v_R@1": t2v} | metrics} | keys


def test_methods_table_says_what_was_measured(load):
    methods = load("methods")
    extras = ("class_token_metrics", "two_stage_metrics", "query_interaction_metrics")
    measured = {
        "f_pig": [make_results(40.0, **{key: {"t2v_R@1": 7.0} for key in extras}) for _ in range(2)],
        "clip4clip": [make_results(38.0), make_results(36.0)],
        "clip_vip": [make_results(41.0), make_results(41.0)],
    }
    times = {1000: {"embeddings": 0.5, "two stages": 2.0, "every pair": 70.0}}
    rows = [line.strip("| ").split(" | ") for line in methods.format_table(measured, times).splitlines()]
    assert rows[0][-2:] == ["ms/query, 1,000", "bytes/video"]
    by_name = {row[0]: row[1:] for row in rows[2:]}
    spread = statistics.stdev([38.0, 36.0])
    assert by_name["CLIP4Clip (mean of frames)"][0] == f"37.0 ± {spread:.1f}"
    assert by_name["CLIP4Clip (mean of frames)"][-2:] == ["0.50", "2,048"]
    assert by_name["F-Pig, top 10 re-ranked by the query"][0] == "7.0 ± 0.0"
    assert by_name["F-Pig, top 10 re-ranked by the query"][-2:] == ["2.00", "67,584"]
    assert by_name["F-Pig, the query in the interaction"][-2:] == ["70.00", "65,536"]
    differences = methods.format_differences(measured)
    assert "| CLIP4Clip (mean of frames) | +3.0 ± 1.4 | +2.0, +4.0 |" in differences
    assert "| CLIP-ViP (class token) | -1.0 ± 0.0 | -1.0, -1.0 |" in differences


def test_searches_find_what_they_should(load):
    """Two stages with the whole gallery in the second are the search over every pair."""
    methods = load("methods")
    searches = methods.make_searches(gallery_size=methods.NUM_RERANKED)
    two_stages, every_pair = searches["two stages"](), searches["every pair"]()
    assert sorted(two_stages.tolist()) == sorted(every_pair.tolist()) == list(range(methods.NUM_RERANKED))
    assert two_stages.tolist() == every_pair.tolist()
    assert searches["embeddings"]().shape == (methods.NUM_RERANKED,)


def test_curves_are_drawn_from_the_points(load, tmp_path):
    sensitivity = load("sensitivity")
    names = {run.name for curve in sensitivity.CURVES.values() for run in curve.values()}
    measured = {name: [make_results(40.0 + index), make_results(42.0)] for index, name in enumerate(names)}
    points = sensitivity.collect_points(measured, "k")
    assert points[sensitivity.NUM_SELECTED] == [
        results["metrics"]["t2v_R@1"] for results in measured["f_pig"]
    ]
    assert list(points) == list(sensitivity.NUMS_SELECTED)
    sensitivity.draw_curves(measured, tmp_path / "new" / "curves.png")
    assert (tmp_path / "new" / "curves.png").stat().st_size > 10_000


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clips") / "bars.mp4", seed=1, num_frames=20)


def test_frame_cache_is_timed_where_it_is_used(load, clip, monkeypatch):
    benchmark = load("frame_cache")
    monkeypatch.setattr(benchmark, "COPIES", 2)
    rates, num_bytes = benchmark.measure(clip, num_turns=1, num_workers=0)
    assert list(rates) == ["decoded", "first epoch", "later epoch"]
    assert min(rates.values()) > 0
    frames_bytes = 20 * 3 * 224 * 224  # of a clip with fewer frames than candidates
    assert frames_bytes < num_bytes < frames_bytes + 4096


def test_stages_from_the_file_to_pixel_values(load, clip):
    stages = load("pipeline").time_stages(clip, num_turns=1)
    names = ["open, list packets", "decode", "convert to RGB", "resize", "normalise", "together"]
    assert list(stages) == names
    assert stages["together"] > 0


def test_workers_are_counted_beside_processes_that_hand_nothing_over(load, clip, monkeypatch, tmp_path):
    benchmark = load("pipeline")
    monkeypatch.setattr(benchmark, "VIDEOS_PER_TURN", 4)
    rates = benchmark.count_videos_per_second(clip, max_workers=2, num_turns=1)
    assert [len(values) for values in rates] == [2, 2]
    assert min(map(min, rates)) > 0
    benchmark.draw_throughput({clip.stem: rates}, tmp_path / "figures" / "throughput.png")
    assert (tmp_path / "figures" / "throughput.png").stat().st_size > 5000
