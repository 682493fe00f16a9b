"""After a kill in the middle of a save, or on a full disk, a run goes on from its last whole checkpoint."""

import json
from dataclasses import replace

import pytest
import torch
from dying_stage import Accident, start
from toys import make_records

from fpig.checkpoints import explain_failed_writes
from fpig.embedding import load_encoder
from fpig.settings import get_stages_dir
from fpig.stages import find_last_checkpoint, remove_torn_checkpoints
from modeling_fpig import FPigModel

PATIENCE_SECONDS = 60  # in which the others of a process that died must have ended
IN_EVERY_PLACE = (
    Accident("ResumableTrainer", "_save", "before"),
    Accident("transformers.modeling_utils", "safe_save_file", "halfway"),
    Accident("Trainer", "_save_optimizer_and_scheduler", "before"),
    Accident("torch", "save", "halfway", count=6),
    Accident("TrainerState", "save_to_json", "before"),
    Accident("TrainerState", "save_to_json", "halfway"),
)

OF_TWO_PROCESSES = (
    Accident("Trainer", "_save_rng_state", "before", rank=1),
    Accident("TrainerState", "save_to_json", "halfway"),
    Accident("FPigTrainer", "training_step", "before", rank=1),
)
RUNS = {"one": {}, "two": {"size": 2}, "sharded": {"size": 2, "use_fsdp": True}}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Four steps of two an epoch."""
    return make_records(tmp_path_factory.mktemp("clips"), num_videos=8)


def train(folder, records, **settings):
    """Runs a stage until all its processes have ended; their exit codes."""
    with start(folder / "run", records, **settings) as processes:
        for process in processes:
            process.join(PATIENCE_SECONDS)
        return [process.exitcode for process in processes]


def get_stage_dir(folder):
    return get_stages_dir(folder / "run") / "joint"


def read_outcome(folder):
    """Every loss that was logged, and the weights."""
    stage_dir = get_stage_dir(folder)
    (checkpoint,) = stage_dir.glob("checkpoint-*")
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    losses = [(line["loss"], line["grad_norm"]) for line in state["log_history"] if "loss" in line]
    assert len(losses) == int(checkpoint.name.rpartition("-")[2]) in (4, 8)
    return losses, (stage_dir / "final" / "model.safetensors").read_bytes()


def find_last_step(folder):
    checkpoint = find_last_checkpoint(get_stage_dir(folder))
    return int(checkpoint.rpartition("-")[2]) if checkpoint else 0


@pytest.fixture(scope="module")
def expected(records, tmp_path_factory):
    """What comes out where nothing happens, by the number of processes."""
    outcomes = {}
    for name, settings in RUNS.items():
        folder = tmp_path_factory.mktemp("whole")
        assert set(train(folder, records, **settings)) == {0}
        outcomes[name] = read_outcome(folder)
    return outcomes


def test_run_killed_anywhere_in_a_save_goes_on_to_the_same_end(records, expected, tmp_path):
    for number, accident in enumerate(IN_EVERY_PLACE, start=1):
        assert train(tmp_path, records, accident=accident) == [-9], accident
        assert find_last_step(tmp_path) == number, accident  # and it was not removed too early
    assert train(tmp_path, records) == [0]
    assert read_outcome(tmp_path) == expected["one"]


@pytest.mark.parametrize("name", ["two", "sharded"])
def test_several_processes_killed_in_a_save_go_on_to_the_same_end(records, expected, tmp_path, name):
    for number, accident in enumerate(OF_TWO_PROCESSES, start=1):
        codes = train(tmp_path, records, accident=accident, **RUNS[name])
        assert codes.pop(accident.rank) == -9, accident
        assert codes[0] > 0, accident  # the other ended by itself, and not well
        assert find_last_step(tmp_path) == number, accident
    assert train(tmp_path, records, **RUNS[name]) == [0, 0]
    assert read_outcome(tmp_path) == expected[name]
    # With FSDP too a checkpoint is a model with its own code.
    loaded, _ = load_encoder(find_last_checkpoint(get_stage_dir(tmp_path)))
    final = FPigModel.from_pretrained(get_stage_dir(tmp_path) / "final").state_dict()
    assert all(torch.equal(value, final[key]) for key, value in loaded.state_dict().items())


@pytest.mark.parametrize(
    ("owner", "name", "count"),
    [
        ("transformers.modeling_utils", "safe_save_file", 2),
        ("TokenizersBackend", "_save_pretrained", 2),
        ("torch", "save", 6),  # the optimizer's state, after three of the first checkpoint's and two others
    ],
)
def test_full_disk_is_told_and_the_last_checkpoint_is_whole(records, expected, tmp_path, owner, name, count):
    accident = Accident(owner, name, "10000", count=count)
    assert train(tmp_path, records, accident=accident) == [1]
    message = (tmp_path / "stderr0").read_text().splitlines()[-1]
    assert message.startswith(f"error: can't write to `{get_stage_dir(tmp_path)}`: ")
    assert "make room, and `--resume_from_checkpoint` goes on from the last whole checkpoint" in message
    assert find_last_step(tmp_path) == 1
    assert train(tmp_path, records) == [0]
    assert read_outcome(tmp_path) == expected["one"]


def test_what_a_kill_cut_short_is_cleared_away(tmp_path):
    for step in (2, 4, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
    remove_torn_checkpoints(tmp_path, str(tmp_path / "checkpoint-4"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-4"]
    remove_torn_checkpoints(tmp_path, None)
    assert list(tmp_path.iterdir()) == []


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="^Connection closed by peer$"), explain_failed_writes("run"):
        raise RuntimeError("Connection closed by peer")
    with pytest.raises(FileNotFoundError, match="^no card"), explain_failed_writes("run"):
        raise FileNotFoundError("no card")


def test_unreadable_video_of_one_process_ends_the_other(records, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    damaged = [*records[:-1], replace(records[-1], video_id="bad", video=str(tmp_path / "bad.mp4"))]
    assert train(tmp_path, damaged, size=2) == [1, 1]
    told = [(tmp_path / f"stderr{rank}").read_text() for rank in range(2)]
    assert ["error: `bad` of the dataset can't be used: " in text for text in told].count(True) == 1
    assert sorted("Traceback" in text for text in told) == [False, True]  # the other one lost its connection
