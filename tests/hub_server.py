"""
A small Hub on 127.0.0.1 for the real huggingface_hub client: repositories, branches, commits, LFS, tokens.

    python tests/hub_server.py    # prints what a client needs, then serves until it is stopped

Everything is in memory. A commit is atomic, as on the Hub. `faults` makes chosen requests fail.
"""

import base64
import hashlib
import json
import os
import re
import secrets
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_" + "t" * 34
USER = "org"
KINDS = {"models": "", "datasets": "datasets/", "spaces": "spaces/"}


@dataclass(frozen=True)
class Blob:
    """A file of a commit."""

    content: bytes
    is_lfs: bool

    @property
    def oid(self) -> str:
        """What git calls it, or its LFS object's name."""
        if self.is_lfs:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


@dataclass(frozen=True)
class Commit:
    sha: str
    message: str
    files: dict[str, Blob]


@dataclass
class Repository:
    private: bool
    branches: dict[str, Commit]
    commits: list[Commit] = field(default_factory=list)  # all of them, oldest first

    def find(self, revision: str) -> Commit | None:
        by_sha = {commit.sha: commit for commit in self.commits}
        return self.branches.get(unquote(revision)) or by_sha.get(revision)


@dataclass
class Fault:
    """The next `times` requests whose `METHOD /path` matches fail: with a status, or silence for seconds."""

    pattern: str
    status: int = 503
    times: int = 1
    seconds: float = 0.0


@dataclass
class Hub:
    """The state behind the server; `requests` holds every `METHOD /path` with its Authorization header."""

    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    lfs_objects: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    after_commit: Callable[[Commit], None] | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)
    url: str = ""

    def make_environment(self, home: str, token: str | None = TOKEN) -> dict[str, str]:
        """This process's environment, changed so that a new process takes this server for the Hub."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        changed = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": home,
            "HF_HUB_DISABLE_XET": "1",
            "OMP_NUM_THREADS": "1",
        }
        return kept | changed | ({"HF_TOKEN": token} if token else {})

    def add_repository(
        self, kind: str, name: str, files: dict[str, bytes], private: bool = False
    ) -> Repository:
        repository = Repository(private, {})
        self.repositories[kind, name] = repository
        self.add_commit(repository, "main", "initial commit", {p: Blob(c, False) for p, c in files.items()})
        return repository

    def add_commit(self, repository: Repository, branch: str, message: str, files: dict[str, Blob]) -> Commit:
        sha = secrets.token_hex(20)  # clients keep code by it, and no two hubs may share one
        commit = Commit(sha, message, files)
        repository.commits.append(commit)
        repository.branches[branch] = commit
        return commit


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "HubServer"

    @property
    def hub(self) -> Hub:
        return self.server.hub

    def log_message(self, *arguments) -> None:
        pass

    def answer(self, status: int, body=None, headers=None) -> None:
        content = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def refuse(self, status: int, code: str) -> None:
        self.answer(status, {"error": code}, {"X-Error-Code": code, "X-Error-Message": code})

    def handle_request(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.body = self.read_chunks()
        place = f"{self.command} {urlsplit(self.path).path}"
        self.hub.requests.append((place, self.headers.get("Authorization", "")))
        for fault in self.hub.faults:
            if fault.times > 0 and re.search(fault.pattern, place):
                fault.times -= 1
                if fault.seconds:
                    threading.Event().wait(fault.seconds)
                    self.close_connection = True
                    return None
                return self.refuse(fault.status, "InternalError")
        for pattern, method in ROUTES:
            match = re.fullmatch(pattern, place)
            if match:
                with self.hub.lock:
                    return method(
                        self, **{name: unquote(value) for name, value in match.groupdict("").items()}
                    )
        return self.refuse(404, "EntryNotFound")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_request

    def read_chunks(self) -> bytes:
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def is_authorized(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def find_repository(self, kind: str, name: str, to_write: bool = False) -> Repository | None:
        """The repository, or an answer has been sent: who may not see it gets what the Hub would say."""
        repository = self.hub.repositories.get((kind, name))
        if not self.is_authorized() and (to_write or repository is None or repository.private):
            return self.refuse(401, "RepoNotFound")
        return repository or self.refuse(404, "RepoNotFound")

    def find_commit(self, kind: str, name: str, revision: str) -> Commit | None:
        repository = self.find_repository(kind, name)
        if repository is None:
            return None
        return repository.find(revision) or self.refuse(404, "RevisionNotFound")

    def create(self) -> None:
        order = json.loads(self.body)
        kind, name = f"{order.get('type', 'model')}s", f"{order.get('organization') or USER}/{order['name']}"
        if not self.is_authorized():
            return self.refuse(401, "Unauthorized")
        if name.split("/")[0] != USER:
            return self.refuse(403, "Forbidden")
        url = {"url": f"{self.hub.url}/{KINDS[kind]}{name}"}
        if (kind, name) in self.hub.repositories:
            return self.answer(409, url | {"error": "You already created this repo"})
        private = order.get("private", False) or order.get("visibility") == "private"
        self.hub.add_repository(kind, name, {".gitattributes": b"*.safetensors filter=lfs\n"}, private)
        return self.answer(200, url)

    def preupload(self, kind: str, name: str, revision: str) -> None:
        commit = self.find_commit(kind, name, revision)
        if commit is None:
            return
        files = []
        for file in json.loads(self.body)["files"]:
            path, blob = file["path"], commit.files.get(file["path"])
            is_lfs = path.endswith((".safetensors", ".parquet", ".pt", ".pth")) or file["size"] > 10_000_000
            mode = {"path": path, "uploadMode": "lfs" if is_lfs else "regular", "shouldIgnore": False}
            files.append(mode | {"oid": blob.oid if blob else None})
        self.answer(200, {"files": files})

    def lfs_batch(self, name: str) -> None:
        if not self.is_authorized():
            return self.refuse(401, "Unauthorized")
        objects = json.loads(self.body)["objects"]
        for item in objects:
            if item["oid"] not in self.hub.lfs_objects:
                item["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{item['oid']}"}}
        return self.answer(200, {"transfer": "basic", "objects": objects})

    def put_lfs(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self.refuse(400, "WrongContent")
        self.hub.lfs_objects[oid] = self.body
        return self.answer(200)

    def commit(self, kind: str, name: str, branch: str) -> None:
        repository = self.find_repository(kind, name, to_write=True)
        if repository is None:
            return None
        if branch not in repository.branches:
            return self.refuse(404, "RevisionNotFound")
        head = repository.branches[branch]
        files = dict(head.files)
        message = ""
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
                if value.get("parentCommit", head.sha) != head.sha:
                    return self.refuse(412, "Conflict")
            elif item["key"] == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), False)
            elif item["key"] == "lfsFile":
                files[value["path"]] = Blob(self.hub.lfs_objects[value["oid"]], True)
            elif item["key"] == "deletedFile":
                del files[value["path"]]
            else:
                files = {path: blob for path, blob in files.items() if not path.startswith(value["path"])}
        commit = self.hub.add_commit(repository, branch, message, files)
        url = f"{self.hub.url}/{KINDS[kind]}{name}/commit/{commit.sha}"
        self.answer(200, {"success": True, "commitOid": commit.sha, "commitUrl": url})
        if self.hub.after_commit:
            self.hub.after_commit(commit)
        return None

    def create_branch(self, kind: str, name: str, branch: str) -> None:
        repository = self.find_repository(kind, name, to_write=True)
        if repository is None:
            return None
        if branch in repository.branches:
            return self.refuse(409, "Conflict")
        start = json.loads(self.body or b"{}").get("startingPoint", "main")
        repository.branches[branch] = repository.find(start)
        return self.answer(200)

    def delete_branch(self, kind: str, name: str, branch: str) -> None:
        repository = self.find_repository(kind, name, to_write=True)
        if repository is None:
            return None
        if repository.branches.pop(branch, None) is None:
            return self.refuse(404, "RevisionNotFound")
        return self.answer(200)

    def refs(self, kind: str, name: str) -> None:
        repository = self.find_repository(kind, name)
        if repository is not None:
            names = repository.branches.items()
            branches = [
                {"name": branch, "ref": f"refs/heads/{branch}", "targetCommit": commit.sha}
                for branch, commit in names
            ]
            self.answer(200, {"branches": branches, "converts": [], "tags": []})

    def info(self, kind: str, name: str, revision: str = "main") -> None:
        commit = self.find_commit(kind, name, revision)
        if commit is None:
            return
        private = self.hub.repositories[kind, name].private
        siblings = [{"rfilename": path} for path in commit.files]
        self.answer(
            200,
            {"id": name, "sha": commit.sha, "private": private, "siblings": siblings, "tags": []}
            | {"lastModified": "2026-01-01T00:00:00.000Z", "cardData": {}},
        )

    def describe(self, path: str, blob: Blob) -> dict:
        entry = {"type": "file", "path": path, "size": len(blob.content), "oid": blob.oid}
        if blob.is_lfs:
            entry["lfs"] = {"oid": blob.oid, "size": len(blob.content), "pointerSize": 130}
        return entry

    def tree(self, kind: str, name: str, revision: str, path: str = "") -> None:
        commit = self.find_commit(kind, name, revision)
        if commit is None:
            return None
        is_recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() == "true"
        inside = {p: blob for p, blob in commit.files.items() if not path or p.startswith(f"{path}/")}
        if path and not inside:
            return self.refuse(404, "EntryNotFound")
        entries, folders = [], set()
        for file, blob in inside.items():
            parts = file[len(path) + 1 if path else 0 :].split("/")
            prefixes = ["/".join(([path] if path else []) + parts[:n]) for n in range(1, len(parts))]
            folders |= set(prefixes if is_recursive else prefixes[:1])
            if is_recursive or len(parts) == 1:
                entries.append(self.describe(file, blob))
        entries += [{"type": "directory", "path": folder, "size": 0, "oid": "0" * 40} for folder in folders]
        return self.answer(200, entries)

    def paths_info(self, kind: str, name: str, revision: str) -> None:
        commit = self.find_commit(kind, name, revision)
        if commit is None:
            return
        if self.headers.get("Content-Type", "").startswith("application/json"):
            paths = json.loads(self.body)["paths"]
        else:
            paths = parse_qs(self.body.decode())["paths"]
        self.answer(200, [self.describe(path, commit.files[path]) for path in paths if path in commit.files])

    def resolve(self, kind: str, name: str, revision: str, path: str) -> None:
        commit = self.find_commit(kind, name, revision)
        if commit is None:
            return None
        headers = {"X-Repo-Commit": commit.sha, "Content-Type": "application/octet-stream"}
        blob = commit.files.get(path)
        if blob is None:
            return self.answer(404, headers=headers | {"X-Error-Code": "EntryNotFound"})
        headers |= {"ETag": f'"{blob.oid}"', "Accept-Ranges": "bytes"}
        if blob.is_lfs:
            headers |= {"X-Linked-Etag": f'"{blob.oid}"', "X-Linked-Size": str(len(blob.content))}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            return self.answer(200, blob.content, headers)
        size = len(blob.content)
        start, end = int(wanted[1]), min(int(wanted[2] or size - 1), size - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{size}"
        return self.answer(206, blob.content[start : end + 1], headers)

    def validate(self) -> None:
        """The Hub's checks of a card's metadata: here only that there is some, and that it is a mapping."""
        import yaml

        parts = json.loads(self.body)["content"].split("---\n")
        metadata = yaml.safe_load(parts[1]) if len(parts) >= 3 and not parts[0] else None
        errors = [] if isinstance(metadata, dict) else [{"message": "the card has no metadata"}]
        self.answer(400 if errors else 200, {"errors": errors, "warnings": []})

    def whoami(self) -> None:
        if not self.is_authorized():
            return self.refuse(401, "Unauthorized")
        return self.answer(200, {"type": "user", "name": USER, "orgs": [], "auth": {"type": "access_token"}})


REPO = r"(?P<name>[^/]+/[^/]+)"
API = rf"/api/(?P<kind>models|datasets|spaces)/{REPO}"
ROUTES = [
    (r"POST /api/repos/create", Handler.create),
    (r"POST /api/validate-yaml", Handler.validate),
    (r"GET /api/whoami-v2", Handler.whoami),
    (rf"POST {API}/preupload/(?P<revision>[^/]+)", Handler.preupload),
    (rf"POST {API}/commit/(?P<branch>[^/]+)", Handler.commit),
    (rf"POST {API}/branch/(?P<branch>[^/]+)", Handler.create_branch),
    (rf"DELETE {API}/branch/(?P<branch>[^/]+)", Handler.delete_branch),
    (rf"POST {API}/paths-info/(?P<revision>[^/]+)", Handler.paths_info),
    (rf"GET {API}/refs", Handler.refs),
    (rf"GET {API}/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", lambda self, **k: self.tree(**k)),
    (rf"GET {API}/revision/(?P<revision>[^/]+)", Handler.info),
    (rf"GET {API}", Handler.info),
    (rf"POST /(?:datasets/|spaces/)?{REPO}\.git/info/lfs/objects/batch", Handler.lfs_batch),
    (r"PUT /lfs/(?P<oid>\w+)", Handler.put_lfs),
    *[
        (
            rf"(?:GET|HEAD) /{prefix}{REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)",
            lambda self, kind=kind, **k: self.resolve(kind, **k),
        )
        for kind, prefix in reversed(KINDS.items())
    ],
]


class HubServer(ThreadingHTTPServer):
    """Serves `hub`, which a test may replace."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.hub = Hub(url=self.url)


def start_server() -> HubServer:
    """A server on a free port, in threads of this process."""
    server = HubServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    sys.stdout.write(f"HF_ENDPOINT={start_server().url} HF_TOKEN={TOKEN} HF_HUB_DISABLE_XET=1\n")
    sys.stdout.flush()
    threading.Event().wait()
