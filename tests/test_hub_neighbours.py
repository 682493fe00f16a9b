"""Metric and data sets on the Hub: real libraries in fresh processes, a Hub on 127.0.0.1."""

import subprocess
import sys
from pathlib import Path

from hub_server import TOKEN
from huggingface_hub import HfApi

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
    api = HfApi()
    api.create_repo("org/video_retrieval", repo_type="space", space_sdk="gradio")
    api.upload_folder(repo_id="org/video_retrieval", folder_path=METRIC, repo_type="space")
    files = online.repositories["spaces", "org/video_retrieval"].branches["main"].files
    assert {"README.md", "video_retrieval.py", "ranking.py"} <= set(files)
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
