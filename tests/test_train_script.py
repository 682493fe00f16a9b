"""`train.py` as its users start it: real processes, really encoded videos, a tiny model."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from fpig.settings import get_stages_dir
from fpig.shapes import make_shapes

ROOT = Path(__file__).parents[1]
SETTINGS = {
    "num_frames": 3,
    "num_proxy_tokens": 1,
    "num_selected_tokens": 2,
    "max_length": 32,
    "image_size": 16,
    "patch_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "projection_dim": 16,
    "vocab_size": 514,
    "tower_epochs": 1,
    "generator_epochs": 1,
    "num_train_epochs": 2,
    "learning_rate": 1e-3,
    "generator_learning_rate": 1e-3,
    "per_device_train_batch_size": 8,
    "logging_steps": 1,
    "save_strategy": "steps",
    "eval_strategy": "steps",
    "save_steps": 2,
    "eval_steps": 2,
    "save_total_limit": 100,
    "disable_tqdm": True,
    "use_cpu": True,
    "seed": 3,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Forty generated videos: five steps of eight an epoch."""
    folder = tmp_path_factory.mktemp("shapes")
    return make_shapes(folder, num_train=40, num_validation=8, num_test=8, num_workers=1)


@pytest.fixture(scope="module")
def config(dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(SETTINGS | {"dataset": str(dataset)}))
    return path


def make_command(config, run_dir, *settings, num_processes=1):
    launcher = ["accelerate.commands.launch", "--cpu", "--num_processes=1"]
    if num_processes > 1:
        launcher = ["torch.distributed.run", "--standalone", f"--nproc_per_node={num_processes}"]
    script = [str(ROOT / "train.py"), str(config), f"--output_dir={run_dir}"]
    return [sys.executable, "-m", *launcher, *script, *settings]


def run(command, **arguments):
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, **arguments)


def read_losses(stage_dir):
    """Step → every number that was logged for it, the times aside."""
    checkpoint = max(stage_dir.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    history = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    return [{key: value for key, value in line.items() if "runtime" not in key} for line in history]


@pytest.fixture(scope="module")
def finished_run(config, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    done = run(make_command(config, run_dir))
    assert done.returncode == 0, done.stderr
    return run_dir, done


def test_run_leaves_a_release(finished_run, dataset):
    run_dir, done = finished_run
    assert f"Released to {run_dir}" in done.stdout
    results = json.loads((run_dir / "results.json").read_text())
    assert (results["num_videos"], results["num_captions"], results["split"]) == (8, 40, "test")
    assert f"| text → video | {results['metrics']['t2v_R@1']:.1f} |" in (run_dir / "README.md").read_text()
    settings = yaml.safe_load((run_dir / "settings.yaml").read_text())
    assert settings["tower_epochs"] == 1
    assert settings["dataset"] == dataset.name
    assert json.loads((run_dir / "config.json").read_text())["video_pooling"] == "pseudo_query"
    # All of it may be published: no checkpoints, and no path of this machine.
    files = [path for path in run_dir.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} == {run_dir.name, "1_Normalize"}
    texts = [path.read_text() for path in files if path.suffix not in (".safetensors", ".png")]
    assert not any(str(run_dir.parent) in text or str(dataset.parent) in text for text in texts)
    settings = yaml.safe_load((get_stages_dir(run_dir) / "settings.yaml").read_text())
    assert settings["dataset"] == str(dataset)


def test_run_tells_what_it_took(finished_run, dataset):
    run_dir, _ = finished_run
    training = json.loads((run_dir / "results.json").read_text())["training"]
    stages = training["stages"]
    assert [(stage["name"], stage["num_steps"]) for stage in stages] == [
        ("towers", 5),
        ("generator", 5),
        ("joint", 10),
    ]
    assert all(stage["seconds"] > 0 for stage in stages)
    assert training["seconds"] == pytest.approx(sum(stage["seconds"] for stage in stages))
    assert training["splits"]["train"] == {
        **{"num_videos": 40, "num_captions": 200},
        **{"num_published_videos": None, "skipped_videos": {}},
    }
    assert (training["dataset"], training["start"]) == (dataset.name, "random weights")
    card = (run_dir / "README.md").read_text()
    times = ", ".join(f"{stage['name']} {stage['seconds']:.1f} s" for stage in stages)
    assert f"- Time: {training['seconds']:.1f} s ({training['hours']:.2f} h): {times}." in card
    assert f"about {training['energy']['watt_hours']:.2f} Wh" in card
    assert "\n| joint | 2 | 10 | 0.001 |\n" in card
    assert "\n| `seed` | 3 |\n" in card
    assert "](method.png)" in card
    assert (run_dir / "method.png").is_file()


def test_stages_log_their_own_losses(finished_run):
    run_dir, _ = finished_run
    for stage, num_steps, parts in (
        ("towers", 5, {"retrieval_loss"}),
        ("generator", 5, {"retrieval_loss", "generation_loss"}),
        ("joint", 10, {"retrieval_loss", "generation_loss"}),
    ):
        lines = [line for line in read_losses(get_stages_dir(run_dir) / stage) if "loss" in line]
        assert len(lines) in (num_steps, num_steps - 1)  # the last checkpoint is older than the last step
        assert all(parts == {key for key in line if key.endswith("_loss")} for line in lines)
    towers = [line for line in read_losses(get_stages_dir(run_dir) / "towers") if "loss" in line]
    assert all(line["loss"] == pytest.approx(line["retrieval_loss"], abs=1e-3) for line in towers)
    generator = [line for line in read_losses(get_stages_dir(run_dir) / "generator") if "loss" in line]
    assert all(line["loss"] == pytest.approx(line["generation_loss"], abs=1e-3) for line in generator)
    joint = [line for line in read_losses(get_stages_dir(run_dir) / "joint") if "loss" in line]
    for line in joint:
        assert line["loss"] == pytest.approx(line["retrieval_loss"] + 2 * line["generation_loss"], abs=1e-3)


def test_killed_run_goes_on_to_the_same_losses(finished_run, config, tmp_path):
    whole_dir, _ = finished_run
    run_dir = tmp_path / "killed"
    with subprocess.Popen(
        make_command(config, run_dir),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 240
        while not (get_stages_dir(run_dir) / "joint" / "checkpoint-4" / "trainer_state.json").is_file():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    refused = run(make_command(config, run_dir))
    assert refused.returncode != 0
    assert "pass `--resume_from_checkpoint` to continue it" in refused.stderr
    assert "Traceback" not in refused.stderr.split("error:")[0]
    refused = run(make_command(config, run_dir, "--resume_from_checkpoint", "--num_frames=2"))
    assert refused.returncode != 0
    assert "error: `num_frames` is 2 but the run in " in refused.stderr
    # What a kill in the middle of saving leaves.
    (get_stages_dir(run_dir) / "joint" / "checkpoint-6").mkdir(exist_ok=True)
    (get_stages_dir(run_dir) / "joint" / "checkpoint-6" / "trainer_state.json").write_text("")
    resumed = run(make_command(config, run_dir, "--resume_from_checkpoint"))
    assert resumed.returncode == 0, resumed.stderr
    assert read_losses(get_stages_dir(run_dir) / "joint") == read_losses(get_stages_dir(whole_dir) / "joint")
    assert (run_dir / "model.safetensors").read_bytes() == (whole_dir / "model.safetensors").read_bytes()


def test_two_processes_train_as_one_with_the_joint_batch(finished_run, config, tmp_path):
    whole_dir, _ = finished_run
    run_dir = tmp_path / "two"
    settings = ("--per_device_train_batch_size=4", "--generator_epochs=0", "--num_train_epochs=0")
    done = run(make_command(config, run_dir, *settings, num_processes=2))
    assert done.returncode == 0, done.stderr
    one, two = (
        [line["loss"] for line in read_losses(get_stages_dir(folder) / "towers") if "loss" in line]
        for folder in (whole_dir, run_dir)
    )
    assert two == pytest.approx(one, rel=1e-4)


def test_unreadable_video_ends_in_one_line(config, dataset, tmp_path):
    clip = tmp_path / "broken.mp4"
    clip.write_bytes(b"no video at all")
    rows = [json.dumps({"video": str(clip), "caption": f"caption {n}", "split": "train"}) for n in range(1)]
    rows += [
        json.dumps({"video": str(path), "caption": path.stem, "split": "train"})
        for path in sorted((dataset / "train").glob("*.mp4"))[:7]
    ]
    (tmp_path / "clips.jsonl").write_text("\n".join(rows))
    arguments = [f"--dataset={tmp_path / 'clips.jsonl'}", "--validation_split=", "--test_split="]
    for num_workers in (0, 1):
        command = make_command(config, tmp_path / f"run{num_workers}", *arguments)
        done = run([*command, f"--dataloader_num_workers={num_workers}"])
        assert done.returncode != 0
        message = next(line for line in done.stderr.splitlines() if line.startswith("error: "))
        assert f"`{clip}` of the dataset can't be used: can't read the video" in message


def test_help_is_quick_and_complete():
    start = time.monotonic()
    done = run([sys.executable, str(ROOT / "train.py"), "--help"])
    assert done.returncode == 0
    assert "torch" not in done.stderr
    assert "--tower_epochs" in done.stdout
    assert time.monotonic() - start < 30  # it takes two to three seconds; machines under load take longer
