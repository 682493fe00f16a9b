"""What a run records of itself: time over all its starts, hardware and an energy estimate."""

import json
import os
import shutil
import time
from dataclasses import asdict

import pytest
import torch
from conftest import make_config
from toys import make_model, make_records

from fpig.datasets import CaptionedSplit
from fpig.settings import get_stages_dir
from fpig.stages import Stage, run_stage
from fpig.training_args import DataArguments, FPigTrainingArguments, ModelArguments
from fpig.training_record import (
    Hardware,
    TrainingClock,
    count_cores_in_use,
    describe_hardware,
    describe_training,
    estimate_energy,
    read_cpu_name,
    read_power_limit,
)

UUID = "3f1c9e52-0a4b-4d1e-9c55-6a3f7f0c2b11"
JOINT = Stage("joint", 2, 1e-3, make_config())


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("clips"), num_videos=5)


@pytest.fixture
def make_args(tmp_path):
    def make(**settings):
        arguments = {"output_dir": str(tmp_path / "run"), "use_cpu": True, "disable_tqdm": True, "seed": 7}
        arguments |= {"per_device_train_batch_size": 2, "save_strategy": "epoch", "save_total_limit": None}
        return FPigTrainingArguments(**arguments | settings)

    return make


def read_seconds(checkpoint):
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    return state["stateful_callbacks"]["TrainingClock"]["attributes"]["seconds"]


@pytest.fixture
def run_joint(processor, records, make_args):
    def run():
        return run_stage(JOINT, make_model(processor), processor, records, [], make_args())

    return run


def test_stage_is_recorded_beside_its_model(run_joint, make_args):
    start = time.monotonic()
    run_joint()
    elapsed = time.monotonic() - start
    stage_dir = get_stages_dir(make_args().output_dir) / "joint"
    record = json.loads((stage_dir / "training.json").read_text())
    assert (record["name"], record["num_epochs"], record["learning_rate"]) == ("joint", 2, 1e-3)
    assert record["num_steps"] == 4
    checkpoints = [read_seconds(stage_dir / f"checkpoint-{step}") for step in (2, 4)]
    assert 0 < checkpoints[0] < checkpoints[1] < record["seconds"] < elapsed
    assert record["hardware"] == asdict(describe_hardware(make_args()))


@pytest.fixture
def killed_dir(run_joint, make_args, monkeypatch):
    """The folder of a stage that was killed when its first checkpoint was there."""

    def kill(self, args, state, control, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingClock, "on_save", kill)
        with pytest.raises(KeyboardInterrupt):
            run_joint()
    return get_stages_dir(make_args().output_dir) / "joint"


def test_resumed_stage_goes_on_counting(run_joint, killed_dir):
    """The seconds before the kill are the checkpoint's, whatever this start takes."""
    assert not (killed_dir / "final").exists()
    state_path = killed_dir / "checkpoint-2" / "trainer_state.json"
    state = json.loads(state_path.read_text())
    attributes = state["stateful_callbacks"]["TrainingClock"]["attributes"]
    assert 0 < attributes["seconds"] < 100
    attributes["seconds"] += 1000
    state_path.write_text(json.dumps(state))
    start = time.monotonic()
    run_joint()
    elapsed = time.monotonic() - start
    record = json.loads((killed_dir / "training.json").read_text())
    assert record["num_steps"] == 4
    assert attributes["seconds"] < record["seconds"] < attributes["seconds"] + elapsed
    assert attributes["seconds"] < read_seconds(killed_dir / "checkpoint-4") < record["seconds"]


def test_checkpoint_without_a_clock_starts_it_at_zero(run_joint, killed_dir):
    """One that was written before there was a clock."""
    state_path = killed_dir / "checkpoint-2" / "trainer_state.json"
    state = json.loads(state_path.read_text())
    del state["stateful_callbacks"]["TrainingClock"]
    state_path.write_text(json.dumps(state))
    run_joint()
    assert 0 < read_seconds(killed_dir / "checkpoint-4") < 100


def make_stage_record(seconds, **hardware):
    fields = {"unit": "GPU", "name": "H200", "num_units": 1, "num_processes": 1, "watts_per_unit": 700.0}
    return {"seconds": seconds, "hardware": asdict(Hardware(**fields | hardware))}


def test_energy_by_hand():
    # 8 × 700 W for half an hour, then 2 × 12 W for 90 s.
    gpus = make_stage_record(1800, num_units=8, num_processes=8)
    cores = make_stage_record(90, unit="CPU core", name="EPYC", num_units=2, watts_per_unit=12.0)
    assert estimate_energy([gpus])["watt_hours"] == pytest.approx(2800)
    assert estimate_energy([cores])["watt_hours"] == pytest.approx(0.6)
    both = estimate_energy([gpus, cores, cores])
    assert both["watt_hours"] == pytest.approx(2801.2)
    assert both["estimate"].count("power limit") == 1
    assert both["estimate"].count("12 W") == 1
    assert "assumption" in estimate_energy([cores])["estimate"]
    assert "assumption" not in estimate_energy([gpus])["estimate"]


def test_energy_of_an_unknown_board_is_not_guessed():
    stages = [make_stage_record(10), make_stage_record(10, name="Board X", watts_per_unit=None)]
    energy = estimate_energy(stages)
    assert energy["watt_hours"] is None
    assert "Board X is not known" in energy["estimate"]


def test_cpu_is_described_without_nvidia_smi(make_args, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    hardware = describe_hardware(make_args(dataloader_num_workers=0))
    assert hardware.unit == "CPU core"
    assert hardware.name == read_cpu_name()
    assert hardware.num_units == 1  # the tests have one thread
    assert hardware.num_processes == 1
    assert hardware.watts_per_unit == 12.0
    assert read_power_limit(UUID) is None


def test_cores_in_use_are_threads_and_workers_but_no_more_than_there_are(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert count_cores_in_use(num_processes=1, num_threads=2, num_workers=1) == 3
    assert count_cores_in_use(num_processes=3, num_threads=2, num_workers=1) == 9
    assert count_cores_in_use(num_processes=4, num_threads=8, num_workers=0) == 16
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # three machines with two processes each
    assert count_cores_in_use(num_processes=6, num_threads=3, num_workers=0) == 18


def test_cpu_name_is_the_systems(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Fast CPU: 9000 @ 3 GHz\n\nmodel name\t: other\n")
    assert read_cpu_name(cpuinfo) == "Fast CPU: 9000 @ 3 GHz"
    assert read_cpu_name(tmp_path / "none") != ""


@pytest.fixture
def fake_smi(tmp_path, monkeypatch):
    """`nvidia-smi` on the PATH: it says `answer` and writes down how it was called."""

    def make(answer, status=0):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        script = folder / "nvidia-smi"
        script.write_text(f"#!/bin/sh\necho \"$@\" > '{folder}/called'\necho '{answer}'\nexit {status}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return folder / "called"

    return make


def test_gpu_is_described_with_the_limit_of_its_board(make_args, fake_smi, monkeypatch):
    called = fake_smi("700.00")
    properties = type("Properties", (), {"name": "NVIDIA H200", "uuid": UUID})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    args = type("Args", (), {"device": torch.device("cuda", 0), "world_size": 4})
    assert describe_hardware(args) == Hardware("GPU", "NVIDIA H200", 4, 4, 700.0)
    asked = called.read_text().split()
    assert f"--id=GPU-{UUID}" in asked
    assert "--query-gpu=power.limit" in asked
    assert "--format=csv,noheader,nounits" in asked


@pytest.mark.parametrize(("answer", "status"), [("[N/A]", 0), ("No devices were found", 6), ("300.00", 9)])
def test_board_without_a_limit_is_none(fake_smi, answer, status):
    fake_smi(answer, status)
    assert read_power_limit(UUID) is None


@pytest.fixture
def stage_dirs(tmp_path):
    folders = []
    for name, seconds in (("generator", 60), ("joint", 120)):
        record = make_stage_record(seconds) | {"name": name, "num_epochs": 1, "num_steps": 3}
        folder = tmp_path / "stages" / name
        folder.mkdir(parents=True)
        (folder / "training.json").write_text(json.dumps(record | {"learning_rate": 1e-4}))
        folders.append(folder)
    return folders


def describe(make_args, processor, records, stage_dirs, **overrides):
    groups = (
        ModelArguments(**overrides.get("model", {})),
        DataArguments(**overrides.get("data", {})),
        make_args(),
    )
    splits = {
        "train": CaptionedSplit("toys", "train", records, {"gone.mp4": "missing"}, 6),
        "test": CaptionedSplit("toys", "test", records[:2]),
    }
    model_overrides = overrides.get("config", {})
    config = make_model(processor, **model_overrides).config
    return describe_training(groups, splits, stage_dirs, config, processor)


def test_training_is_described(make_args, processor, records, stage_dirs):
    training = describe(make_args, processor, records, stage_dirs)
    assert training["start"] == "random weights"
    assert (training["dataset"], training["language"]) == ("shapes", "en")
    published = {"num_published_videos": 6, "skipped_videos": {"gone.mp4": "missing"}}
    unpublished = {"num_published_videos": None, "skipped_videos": {}}
    assert training["splits"] == {
        "train": {"num_videos": 5, "num_captions": 9} | published,
        "test": {"num_videos": 2, "num_captions": 3} | unpublished,
    }
    assert [stage["name"] for stage in training["stages"]] == ["generator", "joint"]
    assert (training["seconds"], training["hours"]) == (180, 0.05)
    assert training["energy"]["watt_hours"] == pytest.approx(35)
    settings = training["settings"]
    expected = {"num_frames": 4, "image_size": 24, "max_length": 20, "num_selected_tokens": 5, "seed": 7}
    expected |= {"generation_loss_weight": 2.0, "num_processes": 1, "per_device_train_batch_size": 2}
    assert expected.items() <= settings.items()
    assert settings["precision"] == "fp32"
    assert json.loads(json.dumps(training)) == training


def test_no_path_and_no_guessed_language_is_published(make_args, processor, records, stage_dirs, tmp_path):
    (tmp_path / "clips").mkdir()
    training = describe(
        make_args,
        processor,
        records,
        stage_dirs,
        data={"dataset": str(tmp_path / "clips")},
        model={"clip_name_or_path": str(shutil.copytree(stage_dirs[0], tmp_path / "clip"))},
    )
    assert (training["dataset"], training["start"], training["language"]) == ("clips", "clip", None)
    assert str(tmp_path) not in json.dumps(training)


def test_baseline_has_no_settings_of_the_generator(make_args, processor, records, stage_dirs):
    training = describe(make_args, processor, records, stage_dirs, config={"video_pooling": "class_token"})
    assert not {"num_selected_tokens", "generation_loss_weight"} & training["settings"].keys()
