"""The `evaluate` module, loaded from its folder as from the Hub, without network."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import evaluate
import numpy as np
import pytest
from video_retrieval.ranking import rank_scores, summarize_retrieval

FOLDER = Path(__file__).parent.parent / "metrics" / "video_retrieval"


@pytest.fixture(scope="module")
def metric(tmp_path_factory):
    cache = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", str(cache / "modules"))
        yield evaluate.load(str(FOLDER), cache_dir=str(cache))


def test_metric_is_the_pure_function(metric):
    generator = np.random.default_rng(0)
    scores, labels = generator.integers(0, 4, (50, 20)) / 4, generator.integers(0, 15, 50)
    expected = summarize_retrieval(rank_scores(scores, labels))
    assert metric.compute(predictions=scores, references=labels) == expected
    assert metric.compute(predictions=scores.tolist(), references=labels.tolist()) == expected
    for row, label in zip(scores, labels, strict=True):
        metric.add(prediction=row, reference=label)
    assert metric.compute() == expected


def test_keys(metric):
    results = metric.compute(predictions=[[1.0, 0.0], [0.5, 0.5]], references=[0, 1])
    names = ("R@1", "R@5", "R@10", "SumR", "MdR", "MnR", "num_tied_queries")
    assert set(results) == {f"{d}_{name}" for d in ("t2v", "v2t", "v2t_caption_pool") for name in names}
    assert (results["t2v_R@1"], results["t2v_MnR"], results["t2v_num_tied_queries"]) == (50.0, 1.5, 1)


def test_double_precision_makes_no_ties(metric):
    """Through float32 these scores would be equal."""
    results = metric.compute(predictions=[[1 + 1e-12, 1.0]], references=[0])
    assert (results["t2v_R@1"], results["t2v_num_tied_queries"]) == (100.0, 0)


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([[1.0, float("nan")], [1.0, 2.0]], [0, 1], r"`scores` has 1 NaN .* a NaN has no rank"),
        ([[1.0, None], [1.0, 2.0]], [0, 1], r"`scores` has 1 NaN"),
        ([[1.0, 2.0], [1.0]], [0, 1], r"`predictions\[1\]` has 1 scores but `predictions\[0\]` has 2"),
        ([[1.0, 2.0], [1.0, 2.0]], [0, 2], r"`references\[1\]` is 2 but there are 2 videos"),
        ([[1.0, 2.0], [1.0, 2.0]], [-1, 0], r"`references\[0\]` is -1 .* from 0 to 1"),
        ([[1.0, 2.0], [1.0, 2.0]], [0], r"Mismatch in the number of predictions \(2\) and references \(1\)"),
        ([], [], r"`predictions` is empty; pass one row of scores per caption"),
        ([[], []], [0, 0], r"`predictions` is empty"),
        ([1.0, 2.0], [0, 1], r"don't match the expected format"),
        ([[[1.0, 2.0]]], [0], r"don't match the expected format"),
    ],
)
def test_bad_input_is_refused(metric, predictions, references, message):
    with pytest.raises(ValueError, match=message):
        metric.compute(predictions=predictions, references=references)
    assert metric.compute(predictions=[[1.0]], references=[0])["t2v_R@1"] == 100.0


def test_loads_alone_in_a_fresh_process(tmp_path):
    """A copy of the folder, away from the project, with no `video_retrieval` or `fpig` to import."""
    shutil.copytree(FOLDER, tmp_path / "video_retrieval", ignore=shutil.ignore_patterns("__pycache__"))
    code = """
import sys
sys.path = [path for path in sys.path if path not in ("", sys.argv[1])]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
import evaluate
metric = evaluate.load(sys.argv[2])
assert not {"fpig", "video_retrieval"} & set(sys.modules), "the project was imported"
print(metric.compute(predictions=[[0.1, 0.9], [0.2, 0.8]], references=[1, 1])["t2v_R@1"])
"""
    command = [sys.executable, "-c", code, str(FOLDER.parent.parent), str(tmp_path / "video_retrieval")]
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "100.0"), done.stderr


def test_the_readme_example_prints_what_it_says(metric, monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "load", lambda name: metric)
    block = re.search(r"```python\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)[1]
    exec(block, {})
    assert capsys.readouterr().out.strip() == block.strip().rsplit("# ", 1)[1]
