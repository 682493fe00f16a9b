"""`train.py --push_to_hub`: real runs that push to a Hub on 127.0.0.1, are killed, and go on elsewhere."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
import torch
import yaml
from hub_server import TOKEN, start_server
from safetensors.torch import load_file
from test_train_script import SETTINGS, make_command

from fpig.hub_checkpoints import fetch_last_checkpoint
from fpig.hub_target import HubTarget
from fpig.sentence_transformers_files import SENTENCE_TRANSFORMERS_FILES
from fpig.settings import get_stages_dir
from fpig.shapes import make_shapes
from fpig.stages import find_last_checkpoint, place_best_checkpoint

PUSH = ("--push_to_hub", "--hub_model_id=org/tiny", "--hub_strategy=checkpoint", "--hub_always_push")
PUSH += (f"--hub_token={TOKEN}",)
LOAD_ALL = """
import sys, torch
from transformers import AutoModel, AutoProcessor

for revision in sys.argv[2:]:
    model = AutoModel.from_pretrained(sys.argv[1], revision=revision, trust_remote_code=True).eval()
    processor = AutoProcessor.from_pretrained(sys.argv[1], revision=revision, trust_remote_code=True)
    with torch.inference_mode():
        norms = model.encode_text(**processor(text=["a red ring grows", "a ring"])).norm(dim=-1)
        videos = torch.zeros(1, 6, 3, 40, 40, dtype=torch.uint8)
        norms = torch.cat([norms, model.encode_video(**processor(videos=[videos[0]])).norm(dim=-1)])
    assert type(model).__module__.startswith("transformers_modules.org."), type(model).__module__
    print(revision, model.config.video_pooling, torch.allclose(norms, torch.ones(3)))
"""


@pytest.fixture(scope="module")
def server():
    server = start_server()
    yield server
    server.shutdown()


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    dataset = make_shapes(folder, num_train=40, num_validation=8, num_test=8, num_workers=1)
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(SETTINGS | {"dataset": str(dataset)}))
    return path


def run(server, home, command, **arguments):
    environment = server.hub.make_environment(str(home))
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=240, check=False, **arguments
    )


@pytest.fixture(scope="module")
def whole_run(server, config, tmp_path_factory):
    """A run that nothing disturbs: its folder, what it printed, its repository."""
    folder = tmp_path_factory.mktemp("whole")
    done = run(server, folder / "home", make_command(config, folder / "run", *PUSH))
    assert done.returncode == 0, done.stderr
    return folder / "run", done, server.hub.repositories["models", "org/tiny"]


def load_commits(server, home, repo_id, commits):
    command = [sys.executable, "-P", "-c", LOAD_ALL, repo_id, *(commit.sha for commit in commits)]
    environment = server.hub.make_environment(str(home), token=None)
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        command, env=environment, cwd=home.parent, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


def test_every_commit_loads_in_a_fresh_process(server, whole_run, tmp_path):
    _, done, repository = whole_run
    commits = repository.commits[1:]  # the first is the Hub's own
    messages = [commit.message for commit in commits]
    saved = [("towers", 5, (2, 4, 5)), ("generator", 5, (2, 4, 5)), ("joint", 10, (2, 4, 6, 8, 10))]
    assert messages == [
        f"Training in progress: stage {stage}, step {step} of {last}"
        for stage, last, steps in saved
        for step in steps
    ] + ["Release", "Release"]
    assert set(repository.branches) == {"main"}
    loaded = load_commits(server, tmp_path / "home", "org/tiny", commits)
    poolings = ["mean"] * 3 + ["pseudo_query"] * 10
    assert loaded == [
        [commit.sha, pooling, "True"] for commit, pooling in zip(commits, poolings, strict=True)
    ]
    for commit in commits:
        assert set(SENTENCE_TRANSFORMERS_FILES) <= set(commit.files)
        card = commit.files["README.md"].content.decode()
        assert commit.message in card if commit.message != "Release" else "in progress" not in card
    assert f"Published {server.url}/org/tiny at {commits[-1].sha}" in done.stdout


def test_release_on_the_hub_is_the_one_of_the_run(whole_run):
    run_dir, _, repository = whole_run
    files = repository.branches["main"].files
    assert set(files) - {".gitattributes"} == {
        str(path.relative_to(run_dir)) for path in run_dir.rglob("*") if path.is_file()
    }
    assert all((run_dir / name).read_bytes() == files[name].content for name in files if name[0] != ".")
    assert 'from_pretrained("org/tiny"' in files["README.md"].content.decode()


def test_commits_tell_nothing_of_the_machine(config, whole_run):
    run_dir, done, repository = whole_run
    secrets = [TOKEN, str(run_dir.parent), str(config.parent), os.environ.get("HOME", "/nowhere") + "/"]
    names = set()
    for commit in repository.commits:
        names |= set(commit.files)
        for name, blob in commit.files.items():
            assert not [secret for secret in secrets if secret.encode() in blob.content], name
    assert not [name for name in names if name.endswith("training_args.bin")]
    assert any(name.startswith("last-checkpoint/joint/checkpoint-") for name in names)
    assert TOKEN not in done.stdout + done.stderr
    for arguments in get_stages_dir(run_dir).rglob("training_args.bin"):
        assert TOKEN.encode() not in arguments.read_bytes()


def test_killed_run_goes_on_from_the_hub_on_another_machine(server, config, whole_run, tmp_path):
    """Killed in the moment of a push: what is there loads, and leads to the same weights."""
    name = "org/killed"
    settings = (*PUSH[:1], f"--hub_model_id={name}", *PUSH[2:])
    process = None

    def kill(commit):
        if "stage joint, step 8" in commit.message:
            os.killpg(process.pid, signal.SIGKILL)

    server.hub.after_commit = kill
    process = subprocess.Popen(
        make_command(config, tmp_path / "first", *settings),
        env=server.hub.make_environment(str(tmp_path / "home")),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.wait(timeout=240) == -signal.SIGKILL
    server.hub.after_commit = None
    repository = server.hub.repositories["models", name]
    loaded = load_commits(server, tmp_path / "second_home", name, repository.commits[-1:])
    assert loaded == [[repository.branches["main"].sha, "pseudo_query", "True"]]
    files = repository.branches["main"].files
    assert "last-checkpoint/joint/checkpoint-8/optimizer.pt" in files
    assert not (tmp_path / "first").exists()

    elsewhere = tmp_path / "elsewhere" / "run"
    done = run(
        server,
        tmp_path / "other_home",
        make_command(config, elsewhere, *settings, "--resume_from_checkpoint"),
    )
    assert done.returncode == 0, done.stderr
    whole_dir, _, whole_repository = whole_run
    weights, expected = (load_file(folder / "model.safetensors") for folder in (elsewhere, whole_dir))
    torch.testing.assert_close(weights, expected, rtol=0, atol=0)
    assert (
        json.loads((elsewhere / "results.json").read_text())["metrics"]
        == (json.loads((whole_dir / "results.json").read_text())["metrics"])
    )
    assert not (get_stages_dir(elsewhere) / "towers" / "final").exists()
    stages = json.loads((elsewhere / "results.json").read_text())["training"]["stages"]
    assert [stage["name"] for stage in stages] == ["towers", "generator", "joint"]
    files = repository.branches["main"].files
    assert not [name for name in files if name.startswith("last-checkpoint")]
    assert files["model.safetensors"] == whole_repository.branches["main"].files["model.safetensors"]
    head = load_commits(server, tmp_path / "third_home", name, repository.commits[-1:])
    assert head == [[repository.branches["main"].sha, "pseudo_query", "True"]]


def test_downloaded_model_is_fine_tuned_and_pushed_with_its_code(server, config, whole_run, tmp_path):
    revision = whole_run[2].branches["main"].sha
    settings = ("--model_name_or_path=org/tiny", f"--model_revision={revision}", "--trust_remote_code")
    settings += ("--generator_epochs=0", "--num_train_epochs=0.5", "--eval_strategy=no", "--save_strategy=no")
    settings += ("--load_best_model_at_end=false", "--push_to_hub", "--hub_model_id=org/tuned")
    settings += ("--hub_private_repo",)
    done = run(server, tmp_path / "home", make_command(config, tmp_path / "tuned", *settings))
    assert done.returncode == 0, done.stderr
    repository = server.hub.repositories["models", "org/tuned"]
    assert repository.private
    assert not whole_run[2].private
    assert [commit.message for commit in repository.commits[1:]] == ["Release", "Release"]
    files = repository.branches["main"].files
    original = whole_run[2].branches["main"].files
    code = {name for name in original if name.endswith("_fpig.py")}
    assert len(code) > 10
    assert {name: files[name] for name in code} == {name: original[name] for name in code}
    assert files["model.safetensors"] != original["model.safetensors"]
    card = files["README.md"].content.decode()
    assert "\nbase_model: org/tiny\n" in card
    assert "\nbase_model_relation: finetune\n" in card
    assert re.search(rf"model_revision: '?{revision}", files["settings.yaml"].content.decode())


def test_repository_without_a_checkpoint_is_named(online, release, tmp_path):
    online.add_repository("models", "org/bare", {"README.md": b"# empty"})
    with pytest.raises(ValueError, match=r"`org/bare` has no last-checkpoint; `--hub_strategy checkpoint`"):
        fetch_last_checkpoint(HubTarget("org/bare"), tmp_path / "run-stages")
    assert not (tmp_path / "run-stages").exists()


def test_best_checkpoint_is_found_where_the_run_lies_now(tmp_path):
    checkpoint = tmp_path / "joint" / "checkpoint-8"
    checkpoint.mkdir(parents=True)
    state = {"best_model_checkpoint": "/elsewhere/joint/checkpoint-4", "global_step": 8}
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    place_best_checkpoint(checkpoint)
    placed = json.loads((checkpoint / "trainer_state.json").read_text())
    assert placed == state | {"best_model_checkpoint": str(tmp_path / "joint" / "checkpoint-4")}
    assert find_last_checkpoint(tmp_path / "joint") == str(checkpoint)
