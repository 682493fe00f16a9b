"""Releases on the Hub: a commit holds a whole release or nothing, and none is current before it was tried."""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    get_session,
    get_token,
    snapshot_download,
)
from huggingface_hub.errors import HfHubHTTPError, HTTPError  # the latter: no answer at all
from safetensors.torch import load_file

from fpig.hub_target import HubTarget

# What a release is made of; anything else in a folder stays there.
RELEASE_PATTERNS = (
    *("*.safetensors", "*.safetensors.index.json", "*_fpig.py", "README.md", "config.json", "results.json"),
    *("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json", "settings.yaml"),
    *("tokenizer*.json", "vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json"),
    *("modules.json", "*sentence_*.json", "config_sentence_transformers.json", "1_Normalize/*"),
    *("method.png", "LICENSE", ".eval_results/*.yaml", "last-checkpoint/*"),
)
# Of these none stays in the repository that the new release does not have: they would be loaded or resumed.
STALE_PATTERNS = ("*.safetensors", "*.index.json", "*_fpig.py", ".eval_results/*.yaml", "last-checkpoint/*")
HARMLESS_FILES = (".gitattributes", "README.md", "LICENSE", ".gitignore")
TRIAL_BRANCH = "fpig-push"
NUM_TRIES = 4
TOLERANCE = 1e-5
ANSWER_SECONDS = 120.0
RETRIED_STATUSES = (408, 429, 500, 502, 503, 504)

logger = logging.getLogger(__name__)
Result = TypeVar("Result")


def find_hub_error(error: BaseException | None) -> HTTPError | None:
    """What the Hub answered, or that it did not, among an error's causes; `None` if it was not the Hub."""
    while error is not None and not isinstance(error, HTTPError):
        error = error.__cause__
    return error


@contextmanager
def name_hub_errors(target: HubTarget) -> Iterator[None]:
    """
    Raises:
        OSError: whatever the Hub answered, or that it did not, in one line with the repair.
    """
    try:
        yield
    except (OSError, HTTPError, RuntimeError) as error:
        hub_error = find_hub_error(error)
        if hub_error is None:
            raise
        if not isinstance(hub_error, HfHubHTTPError):
            raise OSError(
                f"the Hub at {target.api.endpoint} can't be reached for `{target.repo_id}` "
                f"({type(hub_error).__name__}: {hub_error}); check the network, then push again"
            ) from error
        status, reason = hub_error.response.status_code, get_reason(hub_error)
        if status in (401, 403):
            raise PermissionError(
                f"`{target.repo_id}` can't be written with this token ({status}: {reason}); run "
                "`hf auth login` with one that may write there"
            ) from error
        raise OSError(
            f"the Hub refuses `{target.repo_id}` ({status}: {reason}); what was current there still is: push "
            "again"
        ) from error


def get_reason(error: Exception) -> str:
    """The first line of an error that says something."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__).strip()


def retry(call: Callable[[], Result]) -> Result:
    """What `call` returns; tried again where the Hub is down or silent, with longer and longer pauses."""
    for number in range(1, NUM_TRIES):
        get_session().timeout = ANSWER_SECONDS  # huggingface_hub would wait for ever
        try:
            return call()
        except (OSError, HTTPError, RuntimeError) as error:  # an upload's thread wraps it in the last
            hub_error = find_hub_error(error)
            has_answered = isinstance(hub_error, HfHubHTTPError)
            if hub_error is None or (has_answered and hub_error.response.status_code not in RETRIED_STATUSES):
                raise
            logger.warning("The Hub: %s; trying again", get_reason(hub_error))
            time.sleep(2 ** (number - 1))
    get_session().timeout = ANSWER_SECONDS
    return call()


def prepare_repository(target: HubTarget) -> None:
    """
    Makes the repository if it is not there, and sees that a release may be put into it.

    Raises:
        PermissionError: no token, or one without the right to write.
        FileExistsError: it holds something else than an F-Pig.
        OSError: the Hub can't be reached or refuses.
    """
    if not (target.token or get_token()):
        raise PermissionError(
            f"`{target.repo_id}` can't be written without a token; run `hf auth login`, or set HF_TOKEN"
        )
    api, repo_id, revision = target.api, target.repo_id, target.revision
    with name_hub_errors(target):
        retry(lambda: api.create_repo(repo_id, private=target.private, exist_ok=True))
        if revision:
            retry(lambda: api.create_branch(repo_id, branch=revision, exist_ok=True))
        info = retry(lambda: api.model_info(repo_id, revision=revision, timeout=ANSWER_SECONDS))
        names = [sibling.rfilename for sibling in info.siblings]
        model_type = None
        if "config.json" in names:
            config = retry(lambda: api.hf_hub_download(repo_id, "config.json", revision=info.sha))
            model_type = json.loads(Path(config).read_text()).get("model_type")
    others = [name for name in names if name not in HARMLESS_FILES]
    if others and model_type != "fpig":
        what = f"a model of type {model_type!r}" if model_type else f"other files, such as {others[0]}"
        raise FileExistsError(
            f"`{repo_id}` holds {what}; push to another repository, or empty that one first"
        )


def list_release_files(folder: Path) -> list[str]:
    """Paths of a folder's files that belong to a release, relative to it."""
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [path for path in paths if matches(path, RELEASE_PATTERNS)]


def matches(path: str, patterns: tuple[str, ...]) -> bool:
    """Whether a path fits one of the patterns; one without a slash is for files at the top."""
    return any(fnmatch(path, pattern) and ("/" in path) <= ("/" in pattern) for pattern in patterns)


def commit_release(folder: Path, target: HubTarget, message: str, revision: str | None = None) -> str:
    """
    Makes the release in `folder` the content of a branch, in one commit.

    `upload_folder` is no way to do this: it may split a large folder into several commits.

    Args:
        folder: what belongs to a release of its files is taken.
        target: the repository.
        message: of the commit.
        revision: another branch than the target's.

    Returns:
        The commit.

    Raises:
        HTTPError, HfHubHTTPError: the Hub can't be reached or refuses, after several tries.
    """
    api, branch = target.api, revision or target.revision
    names = list_release_files(folder)

    def commit() -> str:
        present = api.model_info(target.repo_id, revision=branch, timeout=ANSWER_SECONDS).siblings
        stale = [
            sibling.rfilename
            for sibling in present
            if sibling.rfilename not in names and matches(sibling.rfilename, STALE_PATTERNS)
        ]
        operations = [CommitOperationDelete(path_in_repo=name) for name in stale]
        for name in names:
            content = name_repository(folder, target.repo_id) if name == "README.md" else folder / name
            operations.append(CommitOperationAdd(path_in_repo=name, path_or_fileobj=content))
        return api.create_commit(target.repo_id, operations, commit_message=message, revision=branch).oid

    return retry(commit)


def name_repository(folder: Path, repo_id: str) -> bytes:
    """A folder's card whose examples load the repository where they loaded the folder."""
    card, name = (folder / "README.md").read_text(), folder.resolve().name
    card = card.replace(f'from_pretrained("{name}"', f'from_pretrained("{repo_id}"')
    return card.replace(f'SentenceTransformer("{name}"', f'SentenceTransformer("{repo_id}"').encode()


def publish_release(folder: Path, target: HubTarget, message: str) -> str:
    """
    Publishes a release: commits it to a branch of its own, loads it from there, compares its embeddings with
    the folder's, and only then makes it current.

    Args:
        folder: written by [`write_release`].
        target: the repository; see [`prepare_repository`].
        message: of the commit.

    Returns:
        The commit.

    Raises:
        ValueError: the folder is no release, or the Hub's copy gives other embeddings.
        OSError: the Hub can't be reached or refuses; what was current still is.
    """
    expected = check_release(folder)
    prepare_repository(target)
    api, repo_id = target.api, target.repo_id
    trial = {"branch": TRIAL_BRANCH, "revision": target.revision, "exist_ok": True}
    with name_hub_errors(target):
        with suppress(HfHubHTTPError):  # one that a killed push has left
            api.delete_branch(repo_id, branch=TRIAL_BRANCH)
        retry(lambda: api.create_branch(repo_id, **trial))
        try:
            check_published(commit_release(folder, target, message, TRIAL_BRANCH), target, expected)
            return commit_release(folder, target, message)
        finally:
            with suppress(HfHubHTTPError, HTTPError):
                api.delete_branch(repo_id, branch=TRIAL_BRANCH)


def check_release(folder: Path) -> dict[str, torch.Tensor]:
    """
    The embeddings that a release gives when it is loaded as its users will load it: the files that would be
    published, alone.

    Raises:
        ValueError: something that a release needs is missing.
    """
    needed = ("config.json", "processor_config.json", "modeling_fpig.py", "processing_fpig.py", "README.md")
    names = list_release_files(folder)
    missing = [name for name in needed if name not in names]
    if not any(matches(name, ("*.safetensors",)) for name in names):
        missing.append("model.safetensors")
    if missing:
        raise ValueError(
            f"`{folder}` has no {', '.join(missing)}, so it is no release; pass the `--output_dir` of a "
            "finished train.py, or what `save_pretrained` of model and processor wrote, with a README.md"
        )
    with TemporaryDirectory() as alone:
        for name in names:
            (Path(alone) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(alone) / name).symlink_to((folder / name).resolve())
        return embed_apart(alone)


def check_published(commit: str, target: HubTarget, expected: dict[str, torch.Tensor]) -> None:
    """
    Fetches a commit, all of it, and loads it.

    Raises:
        ValueError: it gives other embeddings than `expected`.
    """
    source = {"revision": commit, "token": target.token}
    with TemporaryDirectory() as cache_dir:
        retry(lambda: snapshot_download(target.repo_id, cache_dir=cache_dir, **source))
        embeds = embed_apart(target.repo_id, commit, cache_dir)
    for name, value in expected.items():
        if not torch.allclose(embeds[name], value, rtol=0, atol=TOLERANCE):
            raise ValueError(
                f"`{target.repo_id}` at {commit} gives other {name} than the folder; what was current before "
                "still is: push again"
            )


def embed_apart(
    name_or_path: str, revision: str = "main", cache_dir: str | None = None
) -> dict[str, torch.Tensor]:
    """
    What `release_probe` embeds, in a fresh process without network that knows of no other code.

    Raises:
        ValueError: it can't be loaded.
    """
    with TemporaryDirectory() as scratch:
        output = Path(scratch, "embeds.safetensors")
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": scratch}
        if cache_dir is not None:
            environment["HF_HUB_CACHE"] = cache_dir
        script = Path(__file__).with_name("release_probe.py")
        command = [sys.executable, "-P", str(script), name_or_path, revision, str(output)]
        done = subprocess.run(
            command, cwd=scratch, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ValueError(f"`{name_or_path}` can't be loaded: {done.stderr.strip().splitlines()[-1]}")
        return load_file(output)


__all__ = ["commit_release", "list_release_files", "prepare_repository", "publish_release"]
