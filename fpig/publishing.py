"""Releases on the Hub: a commit holds a whole release or nothing, and none is current before it was tried."""

import hashlib
import json
import os
import re
import secrets
import subprocess
import sys
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    get_token,
    snapshot_download,
)
from huggingface_hub.errors import HfHubHTTPError, HTTPError  # the latter: no answer at all
from safetensors.torch import load_file

from fpig.hub_requests import ANSWER_SECONDS, find_hub_error, get_reason, name_hub_errors, retry
from fpig.hub_target import TRIAL_PREFIX, HubTarget

# What a release is made of; anything else in a folder stays there.
RELEASE_PATTERNS = (
    *("*.safetensors", "*.safetensors.index.json", "*_fpig.py", "README.md", "config.json", "results.json"),
    *("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json", "settings.yaml"),
    *("tokenizer*.json", "vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json"),
    *("modules.json", "*sentence_*.json", "1_Normalize/*"),
    *("method.png", "LICENSE", ".eval_results/*.yaml", "last-checkpoint/*"),
)
HARMLESS_FILES = (".gitattributes", "README.md", "LICENSE", ".gitignore")
TOLERANCE = 1e-5


def prepare_repository(target: HubTarget, for_checkpoints: bool = False) -> None:
    """
    Makes the repository if it is not there, and sees that a release may be put into it.

    Args:
        target: the repository.
        for_checkpoints: commits will become current that nobody has tried.

    Raises:
        PermissionError: no token, or one without the right to write.
        FileExistsError: it holds something else than an F-Pig, or a release that checkpoints would replace.
        ValueError: it is public and should be private.
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
        # `create_repo` passes over a repository that is there, whether or not this token may write to it.
        probe = f"{TRIAL_PREFIX}-{secrets.token_hex(4)}"
        retry(lambda: api.create_branch(repo_id, branch=probe, exist_ok=True))
        retry(lambda: api.delete_branch(repo_id, branch=probe))
        info = retry(lambda: api.model_info(repo_id, revision=revision, timeout=ANSWER_SECONDS))
    if target.private and not info.private:
        raise ValueError(
            f"`{repo_id}` is public; make it private in its settings on the Hub, then push again"
        )
    names = [sibling.rfilename for sibling in info.siblings]
    check_content(target, info.sha, names)
    if for_checkpoints and "results.json" in names:
        raise FileExistsError(
            f"`{repo_id}` holds a finished release, which checkpoints would replace before any is tried; "
            "push them to a branch with `--hub_revision`, or choose `--hub_strategy end`"
        )


def check_content(target: HubTarget, commit: str, names: list[str]) -> None:
    """
    Raises:
        FileExistsError: the repository holds something else than an F-Pig.
    """
    model_type = None
    if "config.json" in names:
        with name_hub_errors(target):
            path = retry(lambda: target.api.hf_hub_download(target.repo_id, "config.json", revision=commit))
        with suppress(ValueError):  # no JSON, no text
            config = json.loads(Path(path).read_text(encoding="utf-8"))
            model_type = config.get("model_type") if isinstance(config, dict) else None
    others = [name for name in names if name not in HARMLESS_FILES]
    if others and model_type != "fpig":
        what = f"a model of type {model_type!r}" if model_type else f"other files, such as {others[0]}"
        raise FileExistsError(
            f"`{target.repo_id}` holds {what}; push to another repository, or empty that one first"
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
            if sibling.rfilename not in (*names, *HARMLESS_FILES)
            and matches(sibling.rfilename, RELEASE_PATTERNS)
        ]
        operations = [CommitOperationDelete(path_in_repo=name) for name in stale]
        for name in names:
            is_text = name == "README.md" or name.startswith(".eval_results/")
            content = name_repository(folder, name, target.repo_id) if is_text else folder / name
            operations.append(CommitOperationAdd(path_in_repo=name, path_or_fileobj=content))
        try:
            return api.create_commit(target.repo_id, operations, commit_message=message, revision=branch).oid
        except RuntimeError as error:
            if find_hub_error(error) is not None:
                raise
            raise OSError(  # of the Hub's storage, which has errors of its own
                f"`{target.repo_id}` was not written ({get_reason(error)}); what was current there still is: "
                "push again"
            ) from error

    return retry(commit)


def name_repository(folder: Path, name: str, repo_id: str) -> bytes:
    """
    A folder's card, or a file of `.eval_results`, with the repository in place of what the card's example
    loads: the folder, or the repository that the release was first meant for.
    """
    text = (folder / name).read_text(encoding="utf-8")
    example = re.search(
        r'AutoModel\.from_pretrained\("([^"]+)"', (folder / "README.md").read_text(encoding="utf-8")
    )
    if example is None:
        return text.encode()
    former = example[1]
    text = text.replace(f'("{former}"', f'("{repo_id}"')
    if "/" in former:
        text = text.replace(f"/{former}/", f"/{repo_id}/")
    titles = rf"^(# |- name: ){re.escape(former.split('/')[-1])}$"
    return re.sub(titles, rf"\g<1>{repo_id.split('/')[-1]}", text, flags=re.MULTILINE).encode()


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
    # The same for the same folder, so that it finds what a killed push of it has left; nobody else's.
    branch = f"{TRIAL_PREFIX}-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]}"
    trial = {"branch": branch, "revision": target.revision, "exist_ok": True}
    with name_hub_errors(target):
        with suppress(HfHubHTTPError):
            api.delete_branch(repo_id, branch=branch)
        retry(lambda: api.create_branch(repo_id, **trial))
        try:
            check_published(commit_release(folder, target, message, branch), target, expected)
            return commit_release(folder, target, message)
        finally:
            with suppress(HfHubHTTPError, HTTPError):
                api.delete_branch(repo_id, branch=branch)


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
            lines = done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"]
            raise ValueError(f"`{name_or_path}` can't be loaded: {lines[-1]}")
        return load_file(output)


__all__ = ["commit_release", "list_release_files", "prepare_repository", "publish_release"]
