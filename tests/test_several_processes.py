"""Real processes of `accelerate launch` give what one process gives, and end when one of them dies."""

import json
import pickle
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import yaml
from accelerate.utils import FullyShardedDataParallelPlugin
from joint_training import measure, train
from test_train_script import SETTINGS
from toys import make_model, make_records

from fpig.checkpoints import ResumableTrainer
from fpig.embedding import load_encoder
from fpig.evaluation import evaluate_retrieval
from fpig.fsdp import check_fsdp
from fpig.training_args import FPigTrainingArguments

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs" / "accelerate"
SCRIPT = Path(__file__).with_name("joint_training.py")
FSDP_SCRIPT = Path(__file__).with_name("fsdp_on_cpu.py")


def make_command(config, num_processes, *script, port=0):
    launcher = ["accelerate.commands.launch", f"--config_file={CONFIGS / config}.yaml"]
    launcher += [f"--num_processes={num_processes}", f"--main_process_port={port}"]
    return [sys.executable, "-m", *launcher, *map(str, script)]


def launch(*commands, **arguments):
    """Runs the commands at the same time, until all have ended; what they wrote."""
    settings = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | arguments
    started = [subprocess.Popen(command, **settings) for command in commands]
    try:
        outputs = [process.communicate(timeout=200) for process in started]
    finally:
        for process in started:
            kill_with_workers(process)
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *output)
        for process, output in zip(started, outputs, strict=True)
    ]


def kill_with_workers(launcher):
    """A launcher that is killed alone leaves its workers behind."""
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(launcher.pid).children(recursive=True):
            process.kill()
    launcher.kill()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Thirteen videos: two steps of six an epoch, and one is left over."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "records.pickle").write_bytes(pickle.dumps(make_records(folder, num_videos=13)))
    (folder / "bad.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture(scope="module")
def records(folder):
    return pickle.loads((folder / "records.pickle").read_bytes())


@pytest.fixture(scope="module")
def expected(records, folder):
    """What one process does with the joint batch."""
    return train(records, folder) | measure(records, str(folder / "bad.mp4"))


def make_commands(name, run_dir):
    if name == "sharded":
        return [make_command("fsdp", 2, FSDP_SCRIPT, SCRIPT, run_dir, 2)]
    if name == "two machines":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = [("--main_process_ip=127.0.0.1", f"--machine_rank={machine}") for machine in (0, 1)]
        return [make_command("multi_node", 2, *option, SCRIPT, run_dir, 2, port=port) for option in options]
    return [make_command("ddp", int(name), SCRIPT, run_dir, name)]


@pytest.mark.parametrize("name", ["2", "3", "sharded", "two machines"])
def test_processes_do_together_what_one_does(folder, processor, records, expected, name):
    run_dir = folder / name.replace(" ", "_")
    run_dir.mkdir()
    for done in launch(*make_commands(name, run_dir)):
        assert done.returncode == 0, done.stderr
        assert "find_unused_parameters" not in done.stderr  # DDP warns where it searches in vain
    outcomes = [torch.load(path, weights_only=False) for path in sorted(run_dir.glob("*.pt"))]
    assert [outcome["size"] for outcome in outcomes] == [len(outcomes)] * (3 if name == "3" else 2)
    assert [outcome["num_rankings"] for outcome in outcomes] == [1] + [0] * (len(outcomes) - 1)
    check_batches([outcome["batches"] for outcome in outcomes], expected["batches"])
    trained = make_model(processor)
    trained.load_state_dict(outcomes[0]["weights"])
    metrics = evaluate_retrieval(trained, processor, records, batch_size=2).metrics
    for outcome in outcomes:
        assert {key: outcome["trained_metrics"][f"eval_{key}"] for key in metrics} == metrics
        assert outcome["losses"] == pytest.approx(expected["losses"], rel=1e-5)
        check_gradients_and_weights(outcome, expected)
        check_measured(outcome, expected)


def check_batches(batches_of_processes, expected):
    """The joint batches are the single process's, and no video is twice in one."""
    joint = [sum(parts, []) for parts in zip(*batches_of_processes, strict=True)]
    assert [sorted(batch) for batch in joint] == [sorted(batch) for batch in expected]
    assert [len(set(batch)) for batch in joint] == [6] * 6


def check_gradients_and_weights(outcome, expected):
    """A key's bias moves all scores alike: its gradient is but rounding, of which AdamW makes steps."""
    for found, gradients in zip(outcome["gradients"], expected["gradients"], strict=True):
        assert found.keys() == gradients.keys()
        norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
        for name, gradient in gradients.items():
            difference = (found[name] - gradient).norm()
            assert difference < 1e-5 * norm, name
            assert difference < 1e-4 * gradient.norm() or name.endswith("k_proj.bias"), name
    for name, weights in expected["weights"].items():
        if not name.endswith("k_proj.bias"):
            torch.testing.assert_close(outcome["weights"][name], weights, rtol=0, atol=5e-5, msg=name)


def check_measured(outcome, expected):
    """To the digit, though each process has embedded only its share."""
    assert outcome["metrics"] == expected["metrics"]
    assert outcome["message"] == expected["message"]
    assert outcome["message"].startswith("`videos[3]` can't be embedded: ")
    found, results = outcome["results"], expected["results"]
    assert torch.equal(found["video_embeds"], results["video_embeds"])
    assert torch.equal(found["text_embeds"], results["text_embeds"])
    for name, ranks in vars(results["ranks"]).items():
        np.testing.assert_array_equal(vars(found["ranks"])[name], ranks)
    assert found["extra_metrics"] == results["extra_metrics"]
    assert len(found["extra_metrics"]) == 3


def write_rows(path, records, split):
    rows = [{"video": r.video, "caption": list(r.captions), "split": split} for r in records]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_eval_script_measures_in_several_processes_what_it_does_in_one(model, processor, records, tmp_path):
    model.save_pretrained(tmp_path / "toy")
    processor.save_pretrained(tmp_path / "toy")
    dataset = write_rows(tmp_path / "clips.jsonl", records[:7], "test")
    options = ("--model", tmp_path / "toy", "--batch_size", 2, "--no_figure")
    measured, refused = launch(
        make_command("ddp", 2, ROOT / "eval.py", *options, "--dataset", dataset, "--output_dir", tmp_path),
        make_command("ddp", 2, ROOT / "eval.py", *options[:2], "--dataset", "tv21"),
        cwd=tmp_path,
    )
    assert measured.returncode == 0, measured.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["metrics"] == evaluate_retrieval(model, processor, records[:7], batch_size=2).metrics
    assert measured.stdout.count("Written to") == measured.stdout.count("text → video ") == 1
    # The first process embeds the first and the third of four batches; the other one shows no progress.
    assert "4/4" in measured.stderr
    assert "3/3" not in measured.stderr
    assert refused.returncode != 0
    assert "error: `num_processes` is 2, but tv21 is searched by one: start `python" in refused.stderr


def test_sharded_run_releases_the_best_of_its_validated_checkpoints(records, tmp_path):
    dataset = tmp_path / "clips.jsonl"
    splits = {"train": records[:6], "validation": records[6:10], "test": records[10:]}
    dataset.write_text(
        "".join(write_rows(tmp_path / split, part, split).read_text() for split, part in splits.items())
    )
    # So small that nothing changes its rank: of equal checkpoints the first is the best.
    settings = SETTINGS | {"dataset": str(dataset), "use_cpu": False, "learning_rate": 1e-5}
    settings |= {"per_device_train_batch_size": 2, "save_steps": 1, "eval_steps": 1}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    script = (ROOT / "train.py", tmp_path / "config.yaml", "--output_dir", tmp_path / "run")
    (done,) = launch(make_command("fsdp", 2, FSDP_SCRIPT, *script))
    assert done.returncode == 0, done.stderr
    stage_dir = tmp_path / "run-stages" / "joint"
    first, last = (load_encoder(str(stage_dir / f"checkpoint-{step}")) for step in (1, 2))
    released = load_encoder(str(tmp_path / "run"))
    assert_equal_weights(released[0], first[0])
    with pytest.raises(AssertionError):
        assert_equal_weights(released[0], last[0])
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["metrics"] == evaluate_retrieval(*released, splits["test"], batch_size=8).metrics
    state = json.loads((stage_dir / "checkpoint-2" / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(stage_dir / "checkpoint-1")
    logged = [line for line in state["log_history"] if "eval_t2v_R@1" in line]
    for encoder, line in zip((first, last), logged, strict=True):
        metrics = evaluate_retrieval(*encoder, splits["validation"], batch_size=8).metrics
        assert {name: line[f"eval_{name}"] for name in metrics} == metrics


def assert_equal_weights(model, expected):
    weights = model.state_dict()
    assert weights.keys() == expected.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in expected.state_dict().items())


def test_run_ends_when_one_of_its_processes_is_killed(records, tmp_path):
    settings = SETTINGS | {"dataset": str(write_rows(tmp_path / "clips.jsonl", records, "train"))}
    settings |= {"validation_split": "", "test_split": "", "tower_epochs": 9999, "save_total_limit": 1}
    settings |= {"per_device_train_batch_size": 2}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    script = (ROOT / "train.py", tmp_path / "config.yaml", "--output_dir", tmp_path / "run")
    with subprocess.Popen(
        make_command("ddp", 2, *script), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as launcher:
        try:
            while not list(tmp_path.glob("run-stages/towers/checkpoint-*/trainer_state.json")):
                assert launcher.poll() is None, launcher.stderr.read()
                time.sleep(0.02)
            processes = psutil.Process(launcher.pid).children(recursive=True)
            workers = [process for process in processes if str(script[0]) in process.cmdline()]
            assert len(workers) == 2
            workers[1].kill()
            _, told = launcher.communicate(timeout=60)
        finally:
            kill_with_workers(launcher)
    assert launcher.returncode != 0
    assert "exitcode  : -9" in told
    assert not any(process.is_running() for process in workers)


def make_plugin(**settings):
    settings = {"fsdp_version": 2, "state_dict_type": "FULL_STATE_DICT"} | settings
    return FullyShardedDataParallelPlugin(cpu_ram_efficient_loading=False, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fsdp_version": 1}, "`fsdp_version` is 1 in the accelerate config; it must be 2"),
        (
            {"state_dict_type": "SHARDED_STATE_DICT"},
            "`fsdp_state_dict_type` is SHARDED_STATE_DICT in the .* config; it must be FULL_STATE_DICT",
        ),
    ],
)
def test_fsdp_that_can_not_be_saved_is_refused(settings, message):
    check_fsdp(make_plugin())
    with pytest.raises(ValueError, match=message):
        check_fsdp(make_plugin(**settings))


def test_weights_that_one_process_alone_would_load_are_refused():
    plugin = make_plugin()
    plugin.cpu_ram_efficient_loading = True
    with pytest.raises(ValueError, match="`fsdp_cpu_ram_efficient_loading` is True .* it must be False"):
        check_fsdp(plugin)


def test_fsdp_on_cpus_is_refused(model, processor, records, tmp_path, monkeypatch):
    """accelerate would train without it and not tell."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    args = FPigTrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    with pytest.raises(ValueError, match="`distributed_type` is FSDP .* but accelerate has it on no CPU"):
        ResumableTrainer(model, args, processor, records, records)
