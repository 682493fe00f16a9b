"""Metric and data sets on the Hub: real libraries in fresh processes, a Hub on 127.0.0.1."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from hub_server import TOKEN

METRIC = Path(__file__).parents[1] / "metrics" / "video_retrieval"
LOAD_METRIC = """
import evaluate

metric = evaluate.load("org/video_retrieval")
scores = [[0.9, 0.2, 0.1], [0.3, 0.8, 0.1], [0.2, 0.7, 0.4]]
results = metric.compute(predictions=scores, references=[0, 1, 2])
print(type(metric).__module__.split(".")[0], results["t2v_R@1"], results["t2v_MdR"], results["v2t_R@1"])
"""
PUSH_DATASET = """
import sys
from datasets import Dataset, load_dataset

embeds = [[0.6, 0.8], [1.0, 0.0], [0.0, -1.0]]
dataset = Dataset.from_dict({"video": ["a.mp4", "b.mp4", "c.mp4"], "embeds": embeds})
dataset.push_to_hub("org/clips", private=True)
loaded = load_dataset("org/clips", split="train")
print(loaded["video"][:], loaded.with_format("torch")["embeds"][:].tolist())
"""


def run(hub, home, code, token=TOKEN):
    environment = hub.make_environment(str(home), token)
    environment |= {"HF_EVALUATE_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=environment,
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_metric_loads_from_its_space(online, tmp_path):
    """Uploaded by the command of its README, with the page and nothing that Python left there."""
    readme = (METRIC / "README.md").read_text(encoding="utf-8").replace("organisation/", "org/")
    arguments = shlex.split(re.search(r"^hf (upload .*)$", readme, re.MULTILINE)[1])
    folder = shutil.copytree(METRIC, tmp_path / "metrics" / "video_retrieval")
    (folder / "__pycache__").mkdir(exist_ok=True)
    (folder / "__pycache__" / "ranking.cpython-311.pyc").write_bytes(b"0")
    environment = online.make_environment(str(tmp_path / "uploader"))
    done = subprocess.run(
        [sys.executable, "-m", "huggingface_hub.cli.hf", *arguments],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    files = online.repositories["spaces", "org/video_retrieval"].branches["main"].files
    page = {"app.py", "requirements.txt", "run_files.py", "uploads.py", "examples/scores.csv"}
    assert {"README.md", "video_retrieval.py", "ranking.py"} | page <= set(files)
    assert not [name for name in files if "__pycache__" in name]
    assert run(online, tmp_path / "home", LOAD_METRIC, token=None) == (
        "evaluate_modules 66.66666666666667 1.0 100.0"
    )


def test_dataset_with_embeds_comes_back_from_the_hub(hub, tmp_path):
    line = run(hub, tmp_path / "home", PUSH_DATASET)
    assert (
        line
        == "['a.mp4', 'b.mp4', 'c.mp4'] [[0.6000000238418579, 0.800000011920929], [1.0, 0.0], [0.0, -1.0]]"
    )
    assert hub.repositories["datasets", "org/clips"].private
