"""Publishing a folder: `fpig push` and what is under it, through the real client to a Hub on 127.0.0.1."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub
import pytest
import torch
from hub_server import TOKEN, Blob, Fault
from huggingface_hub import constants
from safetensors.torch import load_file, save, save_file

from fpig import hub_requests, publishing
from fpig.hub_target import HubTarget
from fpig.publishing import commit_release, list_release_files, prepare_repository, publish_release

FRESH_PROCESS = """
import sys
from safetensors.torch import save_file
from transformers import AutoModel, AutoProcessor

repo_id, revision, output = sys.argv[1:]
model = AutoModel.from_pretrained(repo_id, revision=revision, trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(repo_id, revision=revision, trust_remote_code=True)
save_file({"embeds": model.encode_text(**processor(text=["a red circle moves left"])).detach()}, output)
print(type(model).__module__.split(".")[0])
"""


@pytest.fixture
def home(tmp_path):
    return str(tmp_path / "home")


@pytest.fixture
def folder(release, tmp_path):
    """A copy of the release that a test may change."""
    return Path(shutil.copytree(release, tmp_path / "fpig-toy"))


def push(hub, home, *arguments, token=TOKEN, **changes):
    command = [sys.executable, "-m", "fpig", "push", *map(str, arguments)]
    environment = hub.make_environment(home, token) | changes
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture
def quick(monkeypatch):
    """Takes every release for one that loads, which costs two processes each time; others try that."""
    monkeypatch.setattr(publishing, "embed_apart", lambda *source: {"text_embeds": torch.ones(1, 4)})


def get_repository(hub, name="org/toy"):
    return hub.repositories["models", name]


def test_pushed_folder_loads_in_a_fresh_process(hub, home, folder, model, processor, tmp_path):
    for name in ("optimizer.pt", "training_args.bin", ".env", "holiday.mp4"):
        (folder / name).write_text("nobody's business")
    done = push(hub, home, folder, "org/toy")
    assert done.returncode == 0, done.stderr
    repository = get_repository(hub)
    head = repository.branches["main"]
    assert done.stdout == (
        f"Published {hub.url}/org/toy at {head.sha}\nLoaded from there, it gives the same embeddings.\n"
    )
    assert "left out, no part of a release: .env, holiday.mp4, optimizer.pt, training_args.bin" in done.stderr
    assert set(repository.branches) == {"main"}
    assert not repository.private
    assert "POST /api/validate-yaml" in [request for request, _ in hub.requests]
    names = set(list_release_files(folder))
    assert set(head.files) == names | {".gitattributes"}
    for name in names - {"README.md"}:
        assert head.files[name].content == (folder / name).read_bytes()
    # The card's examples are for those who find it on the Hub.
    card = head.files["README.md"].content.decode()
    assert card.count('from_pretrained("org/toy", trust_remote_code=True)') == 2
    assert 'SentenceTransformer("org/toy", trust_remote_code=True)' in card
    assert (
        card.replace("org/toy", "fpig-toy").replace("\n# toy\n", "\n# fpig-toy\n")
        == (folder / "README.md").read_text()
    )

    output = tmp_path / "embeds.safetensors"
    command = [sys.executable, "-P", "-c", FRESH_PROCESS, "org/toy", head.sha, str(output)]
    environment = hub.make_environment(str(tmp_path / "other_home"), token=None)
    environment.pop("PYTHONPATH", None)
    loaded = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout == "transformers_modules\n"
    with torch.inference_mode():
        expected = model.encode_text(**processor(text=["a red circle moves left"]))
    torch.testing.assert_close(load_file(output)["embeds"], expected, rtol=0, atol=1e-6)


PUSH_AGAIN = """
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained("org/toy", trust_remote_code=True)
model.logit_scale.data += 1
model.push_to_hub("org/again")
AutoProcessor.from_pretrained("org/toy", trust_remote_code=True).push_to_hub("org/again")
"""


def test_downloaded_model_that_its_user_pushes_takes_its_code_along(online, quick, folder, tmp_path):
    """By transformers' own `push_to_hub`, on a machine that has never seen this project."""
    publish_release(folder, HubTarget("org/toy"), "Release")
    outputs = []
    for code in (PUSH_AGAIN, FRESH_PROCESS):
        output = tmp_path / "embeds.safetensors"
        command = [sys.executable, "-P", "-c", code, "org/again", "main", str(output)]
        environment = online.make_environment(str(tmp_path / f"home{len(outputs)}"))
        environment.pop("PYTHONPATH", None)
        outputs.append(
            subprocess.run(
                command,
                env=environment,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
        )
        assert outputs[-1].returncode == 0, outputs[-1].stderr
    assert outputs[-1].stdout == "transformers_modules\n"
    code_files = {name for name in list_release_files(folder) if name.endswith("_fpig.py")}
    assert code_files <= set(get_repository(online, "org/again").branches["main"].files)


def test_private_branch_and_nothing_of_the_token(hub, home, folder):
    done = push(hub, home, folder, "org/toy", "--private", "--revision", "v1", "--commit_message", "First")
    assert done.returncode == 0, done.stderr
    repository = get_repository(hub)
    assert repository.private
    assert set(repository.branches) == {"main", "v1"}
    assert repository.branches["v1"].message == "First"
    assert "model.safetensors" in repository.branches["v1"].files
    assert set(repository.branches["main"].files) == {".gitattributes"}
    assert TOKEN not in done.stdout + done.stderr
    for commit in repository.commits:
        assert not any(TOKEN.encode() in blob.content for blob in commit.files.values())
    assert any(authorization == f"Bearer {TOKEN}" for _, authorization in hub.requests)


@pytest.mark.parametrize(
    ("repo_id", "token", "message"),
    [
        ("toy", TOKEN, "`repo_id` is 'toy'; it must be `organisation/name`"),
        ("org/", TOKEN, "`repo_id` is 'org/'; it must be `organisation/name`"),
        ("org/a b", TOKEN, "`repo_id` is 'org/a b', which the Hub does not allow"),
        ("others/toy", TOKEN, "`others/toy` can't be written with this token (403"),
        ("org/toy", None, "`org/toy` can't be written without a token; run `hf auth login`"),
        ("org/toy", "hf_wrong", "`org/toy` can't be written with this token (401"),
    ],
)
def test_command_refuses_in_one_line(hub, home, folder, repo_id, token, message):
    done = push(hub, home, folder, repo_id, token=token)
    assert done.returncode == 1
    assert f"error: {message}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not hub.repositories
    assert "hf_wrong" not in done.stderr


def test_without_network(online, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    message = (
        r"the Hub at http://127.0.0.1:9 can't be reached for `org/toy` \(ConnectError: .*check the network"
    )
    with pytest.raises(OSError, match=message):
        prepare_repository(HubTarget("org/toy"))


def test_command_needs_a_folder(hub, home, tmp_path):
    done = push(hub, home, tmp_path / "nowhere", "org/toy")
    assert done.returncode == 1
    assert f"error: `{tmp_path / 'nowhere'}` is no folder" in done.stderr


def test_same_folder_again_makes_no_commit(online, quick, folder):
    first = publish_release(folder, HubTarget("org/toy"), "First")
    number = len(get_repository(online).commits)
    assert publish_release(folder, HubTarget("org/toy"), "Second") == first
    assert len(get_repository(online).commits) == number


def test_new_release_takes_the_old_ones_files_away(online, quick, folder):
    target = HubTarget("org/toy")
    (folder / "old_fpig.py").write_text("")
    (folder / "last-checkpoint" / "joint").mkdir(parents=True)
    (folder / "last-checkpoint" / "joint" / "optimizer.pt").write_text("state")
    publish_release(folder, target, "First")
    repository = get_repository(online)
    assert {"old_fpig.py", "last-checkpoint/joint/optimizer.pt"} <= set(repository.branches["main"].files)
    files = repository.branches["main"].files | {"notes.md": Blob(b"by hand", False)}
    files["model-00001-of-00002.safetensors"] = Blob(b"old shard", True)
    files["results.json"] = Blob(b"{}", False)  # numbers of other weights
    files["method.png"] = Blob(b"", False)
    online.add_commit(repository, "main", "by hand", files)

    (folder / "old_fpig.py").unlink()
    shutil.rmtree(folder / "last-checkpoint")
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: value * 1.5 for name, value in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    sha = publish_release(folder, target, "Second")
    head = repository.branches["main"]
    assert head.sha == sha
    assert set(head.files) == {*list_release_files(folder), ".gitattributes", "notes.md"}
    assert head.files["model.safetensors"].content == (folder / "model.safetensors").read_bytes()


def test_other_content_on_the_hub_is_not_overwritten(online, quick, folder):
    for name, files, message in (
        ("org/bert", {"config.json": b'{"model_type": "bert"}'}, r"`org/bert` holds a model of type 'bert'"),
        ("org/data", {"train.csv": b"a,b"}, r"`org/data` holds other files, such as train.csv"),
    ):
        online.add_repository("models", name, files)
        with pytest.raises(FileExistsError, match=message):
            publish_release(folder, HubTarget(name), "Release")
        assert len(online.repositories["models", name].commits) == 1
    for number, config in enumerate((b"[1]", b"no json", b"\xff\xfe")):
        online.add_repository("models", f"org/odd{number}", {"config.json": config})
        with pytest.raises(FileExistsError, match=r"holds other files, such as config.json"):
            prepare_repository(HubTarget(f"org/odd{number}"))
    online.add_repository("models", "org/empty", {"README.md": b"# to come", ".gitattributes": b""})
    prepare_repository(HubTarget("org/empty"))


def test_public_repository_does_not_become_private(online, quick, folder):
    publish_release(folder, HubTarget("org/toy"), "Release")
    with pytest.raises(ValueError, match="`org/toy` is public; make it private in its settings"):
        publish_release(folder, HubTarget("org/toy", private=True), "Release")
    publish_release(folder, HubTarget("org/hidden", private=True), "Release")
    publish_release(folder, HubTarget("org/hidden", private=True), "Again")


def test_token_that_may_only_read_is_found_out_before_the_training(online):
    """`create_repo` takes the refusal for a repository that is there."""
    online.add_repository("models", "org/toy", {"README.md": b""})
    online.faults.append(Fault("POST ", status=403, times=1000))
    with pytest.raises(PermissionError, match=r"`org/toy` can't be written with this token \(403"):
        prepare_repository(HubTarget("org/toy"))


def test_checkpoints_do_not_replace_a_finished_release(online, quick, folder):
    (folder / "results.json").write_text("{}")
    publish_release(folder, HubTarget("org/toy"), "Release")
    with pytest.raises(FileExistsError, match="`org/toy` holds a finished release, which checkpoints would"):
        prepare_repository(HubTarget("org/toy"), for_checkpoints=True)
    prepare_repository(HubTarget("org/toy"))


def test_card_names_the_repository_it_lies_in(release, model, processor, online, quick, folder):
    target = HubTarget("org/second")
    (folder / ".eval_results").mkdir()
    (folder / ".eval_results" / "shapes.yaml").write_text("url: https://huggingface.co/org/first/resolve/x\n")
    card = (folder / "README.md").read_text()
    (folder / "README.md").write_text(
        card.replace('("fpig-toy"', '("org/first"').replace("# fpig-toy", "# first")
    )
    publish_release(folder, target, "Release")
    files = get_repository(online, "org/second").branches["main"].files
    text = files["README.md"].content.decode()
    assert "first" not in re.findall(r"[\w/-]+", text.replace("at first", ""))
    assert text.count('("org/second"') == card.count('("fpig-toy"') == 3
    assert "\n# second\n" in text
    assert files[".eval_results/shapes.yaml"].content == b"url: https://huggingface.co/org/second/resolve/x\n"


@pytest.mark.parametrize("revision", ["", "fpig-push", "fpig-push-1"])
def test_branches_of_pushes_are_nobodys(revision):
    with pytest.raises(ValueError, match=f"`revision` is '{revision}'; name a branch, and none that begins"):
        HubTarget("org/toy", revision)


@pytest.mark.parametrize(
    "missing", ["config.json", "model.safetensors", "processor_config.json", "modeling_fpig.py", "README.md"]
)
def test_half_a_folder_is_refused_before_anything_is_sent(online, folder, missing):
    (folder / missing).unlink()
    with pytest.raises(ValueError, match=rf"has no {missing}, so it is no release; pass the `--output_dir`"):
        publish_release(folder, HubTarget("org/toy"), "Release")
    assert not online.repositories


def test_folder_that_can_not_be_loaded_is_refused_before_anything_is_sent(online, folder):
    (folder / "loss_fpig.py").unlink()
    with pytest.raises(ValueError, match=r"can't be loaded: .*loss_fpig\.py"):
        publish_release(folder, HubTarget("org/toy"), "Release")
    assert not online.repositories


@pytest.mark.parametrize(
    "pattern",
    [
        "POST /api/repos/create",
        "GET /api/models/org/toy$",
        "POST .*/branch/",
        "POST .*/preupload/",
        "POST .*/lfs/objects/batch",
        "PUT /lfs/",
        "POST .*/commit/fpig-push",
        "POST .*/commit/main",
        "GET .*/resolve/.*/model.safetensors",
    ],
)
def test_hub_that_is_down_for_a_moment(online, quick, folder, pattern):
    online.faults.append(Fault(pattern, status=503, times=2))
    sha = publish_release(folder, HubTarget("org/toy"), "Release")
    assert online.faults[0].times == 0
    assert get_repository(online).branches["main"].sha == sha
    assert [commit.message for commit in get_repository(online).commits].count("Release") == 2


@pytest.mark.parametrize(
    "pattern", ["PUT /lfs/", "POST .*/commit/", "POST .*/commit/main", "GET .*/resolve/.*/model.safetensors"]
)
def test_hub_that_stays_down_keeps_what_was_current(online, quick, folder, pattern):
    target = HubTarget("org/toy")
    before = publish_release(folder, target, "First")
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: value * 1.5 for name, value in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    online.faults.append(Fault(pattern, status=500, times=1000))
    with pytest.raises(OSError, match=r"the Hub refuses `org/toy` \(500: .*what was current there still is"):
        publish_release(folder, target, "Second")
    assert get_repository(online).branches["main"].sha == before
    assert set(get_repository(online).branches) == {"main"}
    online.faults.clear()
    assert publish_release(folder, target, "Second") != before


def test_hub_that_does_not_answer(online, folder, monkeypatch):
    monkeypatch.setattr(hub_requests, "ANSWER_SECONDS", 0.3)
    online.faults.append(Fault("POST /api/repos/create", times=1000, seconds=1.0))
    with pytest.raises(OSError, match=r"can't be reached for `org/toy` \(ReadTimeout"):
        prepare_repository(HubTarget("org/toy"))
    online.faults[0].times = 1
    prepare_repository(HubTarget("org/toy"))


def test_upload_that_is_not_answered(online, quick, folder, monkeypatch):
    """The client tries this by itself several times; it must not be multiplied by our own tries."""
    monkeypatch.setattr(hub_requests, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(hub_requests, "PATIENCE_SECONDS", 0.0)
    online.faults.append(Fault("PUT /lfs/", times=1000, seconds=0.6))
    with pytest.raises(OSError, match=r"can't be reached for `org/toy` \(ReadTimeout"):
        publish_release(folder, HubTarget("org/toy"), "Release")
    assert 1000 - online.faults[0].times < 10


def test_error_of_the_storage_is_named(online, quick, folder, monkeypatch):
    """That of Xet, which the tests' Hub does not have, comes without an HTTP error."""

    def fail(*arguments, **keywords):
        raise RuntimeError("Server error: 500")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_commit", fail)
    with pytest.raises(OSError, match=r"`org/toy` was not written \(Server error: 500\); what was current"):
        publish_release(folder, HubTarget("org/toy"), "Release")
    assert set(get_repository(online).branches) == {"main"}


def test_hub_that_changes_the_weights_is_found_out(online, folder):
    """The one that is lied to is the trial; what is current never was touched."""
    wrong = load_file(folder / "model.safetensors")
    wrong["text_projection.weight"] = wrong["text_projection.weight"] * 1.01 + 0.001

    def damage(commit):
        commit.files["model.safetensors"] = Blob(save(wrong, {"format": "pt"}), True)

    online.after_commit = damage
    with pytest.raises(ValueError, match=r"`org/toy` at \w+ gives other text_embeds than the folder"):
        publish_release(folder, HubTarget("org/toy"), "Release")
    assert set(get_repository(online).branches) == {"main"}
    assert set(get_repository(online).branches["main"].files) == {".gitattributes"}


def test_upload_that_is_killed_changes_nothing_and_goes_on(online, quick, home, folder):
    hub = online
    before = publish_release(folder, HubTarget("org/toy"), "First")
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: value * 1.5 for name, value in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    hub.faults.append(Fault("PUT /lfs/", seconds=30))
    command = [sys.executable, "-m", "fpig", "push", str(folder), "org/toy"]
    process = subprocess.Popen(
        command, env=hub.make_environment(home), stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while hub.faults[0].times and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert get_repository(hub).branches["main"].sha == before
    assert len(get_repository(hub).branches) == 2  # one left by the kill, in nobody's way
    hub.faults.clear()
    assert publish_release(folder, HubTarget("org/toy"), "Second") != before
    assert set(get_repository(hub).branches) == {"main"}


def test_one_commit_holds_all_however_many_files(online, folder):
    """`upload_folder` may make several commits of a large folder, of which the first ones do not load."""
    for number in range(60):
        (folder / f"more_{number}_fpig.py").write_text(f"NUMBER = {number}\n")
    prepare_repository(HubTarget("org/toy"))
    number = len(get_repository(online).commits)
    commit_release(folder, HubTarget("org/toy"), "Release")
    assert len(get_repository(online).commits) == number + 1
    assert len(get_repository(online).branches["main"].files) > 80


def test_release_files_are_named_by_what_they_are(tmp_path):
    kept = {"model.safetensors", "loss_fpig.py", "README.md", ".eval_results/shapes.yaml", "method.png"}
    kept |= {"last-checkpoint/joint/checkpoint-2/optimizer.pt", "1_Normalize/config.json", "settings.yaml"}
    for name in (*kept, "training_args.bin", "notes.txt", "sub/model.safetensors", "runs/a_fpig.py", ".env"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert set(list_release_files(tmp_path)) == kept


def test_help_is_quick(hub, home):
    done = push(hub, home, "--help")
    assert done.returncode == 0
    assert "usage: fpig push" in done.stdout
    code = (
        "import sys, fpig.push; print(json.dumps([m for m in ('torch', 'transformers') if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import json; {code}"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []


def test_client_is_the_real_one():
    assert huggingface_hub.HfApi.create_commit.__module__ == "huggingface_hub.hf_api"
