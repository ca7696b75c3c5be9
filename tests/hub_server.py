"""A small Hugging Face Hub for tests, in memory and on 127.0.0.1, for the real client libraries.

    with HubServer() as hub:
        hub.add_repo("dataset", "me/words", {"README.md": b"..."})
        hub.fail(r"/resolve/", status=503, times=2)
        subprocess.run([...], env=hub.env(tmp_path))
        assert hub.requests[0].status == 503

It answers what huggingface_hub 2.4, datasets 5.2 and transformers 5.23 ask when they read and push models and
datasets over plain HTTP and git-LFS (no Xet). Anything else gets a 404.
"""

import base64
import contextlib
import functools
import hashlib
import io
import itertools
import json
import os
import random
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

WRITE_TOKEN, READ_TOKEN = "hf_write", "hf_read"
ROLES = {None: None, f"Bearer {WRITE_TOKEN}": "write", f"Bearer {READ_TOKEN}": "read"}
USER = "tester"
LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".parquet", ".arrow", ".gz", ".zst", ".npz")
LFS_SIZE = 10 * 1024 * 1024
LOCAL_SETTINGS = ("HF_", "HUGGING", "TRANSFORMERS_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


class Request(NamedTuple):
    """One line of the log. `path` has the query; `status` is 0 where the connection was cut unanswered."""

    method: str
    path: str
    status: int


class HubError(Exception):
    """An answer other than success, in the form in which the clients expect it."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str):
        super().__init__(message)
        named = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.reply = status, {"error": message}, named | headers


@dataclass
class Fault:
    path: str
    status: int | None = None
    times: int | None = 1
    method: str | None = None
    delay: float = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    corrupt: bool = False


@dataclass
class Repo:
    kind: str
    id: str
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # commit id -> path -> content
    branches: dict[str, str] = field(default_factory=dict)  # name -> commit id

    def commit(self, files: dict[str, bytes], title: str, branch: str = "main") -> str:
        """Make `files`, the whole tree, the new head of `branch`; the id depends on all commits before it."""
        state = [self.branches.get(branch), title, len(self.commits)]
        state += [(path, oid(path, data)) for path, data in sorted(files.items())]
        commit_id = hashlib.sha1(repr(state).encode()).hexdigest()
        self.commits[commit_id] = dict(files)
        self.branches[branch] = commit_id
        return commit_id

    def find(self, revision: str) -> tuple[str, dict[str, bytes]]:
        commit_id = self.branches.get(revision, revision)
        if commit_id not in self.commits:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit_id, self.commits[commit_id]

    @property
    def files(self) -> dict[str, bytes]:
        """The files at the head of main."""
        return self.commits[self.branches["main"]]


def is_lfs(path: str, size: int) -> bool:
    return size > 0 and (size > LFS_SIZE or path.endswith(LFS_SUFFIXES))


@functools.lru_cache(maxsize=1024)
def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def oid(path: str, data: bytes) -> str:
    """The id by which clients compare contents: sha256 for LFS files, git's blob id for others."""
    if is_lfs(path, len(data)):
        return sha256(data)
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def file_entry(path: str, data: bytes) -> dict:
    entry = {"type": "file", "path": path, "size": len(data), "oid": oid(path, data)}
    if is_lfs(path, len(data)):
        entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 134}
    return entry


def tree(files: dict[str, bytes], folder: str, recursive: bool) -> list[dict]:
    start = f"{folder}/" if folder else ""
    entries = {}
    for path, data in sorted(files.items()):
        names = path.removeprefix(start).split("/")
        if not path.startswith(start):
            continue
        for depth in range(1, len(names)):
            parent = start + "/".join(names[:depth])
            entries[parent] = {
                "type": "directory",
                "path": parent,
                "size": 0,
                "oid": sha256(parent.encode())[:40],
            }
        entries[path] = file_entry(path, data)
    if folder and not entries:
        raise HubError(404, f"{folder} does not exist", "EntryNotFound")
    return [entry for path, entry in entries.items() if recursive or "/" not in path.removeprefix(start)]


class HubServer:
    """The Hub: a context manager, and `start` and `stop` for tests that take it away and bring it back."""

    def __init__(self):
        self.repos: dict[tuple[str, str], Repo] = {}  # (model or dataset, id) -> repo
        self.lfs: dict[str, bytes] = {}  # sha256 -> content
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        self.port = 0

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self) -> None:
        """Listen; after a `stop`, on the same port again."""
        self.listener = Listener(("127.0.0.1", self.port), Handler)
        self.listener.hub = self
        self.port = self.listener.server_port
        threading.Thread(target=self.listener.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """From here on connections are refused, and those that clients kept open are closed."""
        self.listener.shutdown()
        self.listener.server_close()
        for connection in list(self.listener.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def storage_url(self) -> str:
        """Where LFS contents are: another host, as on the real Hub, so clients don't send it their token."""
        return f"http://localhost:{self.port}"

    def page(self, repo: Repo) -> str:
        return f"{self.url}/{'datasets/' if repo.kind == 'dataset' else ''}{repo.id}"

    def env(self, home: Path, token: str | None = WRITE_TOKEN) -> dict[str, str]:
        """The whole environment for a child: this process's, without its own Hub and proxy settings."""
        kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(LOCAL_SETTINGS)}
        ours = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
        return kept | ours | ({"HF_TOKEN": token} if token else {})

    def add_repo(self, kind: str, id: str, files: dict[str, bytes] | None = None, **flags: bool) -> Repo:
        """A repo of `kind` model or dataset with one commit; flags: `private`, `gated`."""
        repo = self.repos[kind, id] = Repo(kind, id, **flags)
        repo.commit(files or {}, "initial commit")
        return repo

    def fail(self, path: str, status: int | None = None, **how: Any) -> None:
        """Make the next `times` requests (None: all) go wrong whose path has a match of the regex `path`.

        `how` has fields of Fault: `method` is the only one to fail; `status` answers with an error and
        `headers`; without it they work as usual, but `delay` waits that many seconds first, `cut` closes the
        connection after that many bytes of an upload's or an answer's body, `corrupt` changes one byte of it.
        """
        self.faults.append(Fault(path, status, **how))

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times != 0 and fault.method in (None, method) and re.search(fault.path, path):
                    fault.times = fault.times and fault.times - 1
                    return fault
        return None


class Listener(ThreadingHTTPServer):
    hub: HubServer
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *args):
        self.connections: set[socket.socket] = set()
        super().__init__(*args)

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):  # a client may leave when it likes
            super().handle_error(request, client_address)


class Connection(BaseHTTPRequestHandler):
    """Bytes in, bytes out, and the faults that were asked for in between."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes
    server: Listener

    def setup(self):
        super().setup()
        self.hub = self.server.hub
        self.server.connections.add(self.connection)

    def finish(self):
        self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, *_):
        pass

    def handle_request(self):
        fault = self.hub.take_fault(self.command, self.path) or Fault("")
        time.sleep(fault.delay)
        upload = self.command in ("PUT", "POST")
        if upload and fault.cut is not None:
            self.rfile.read(min(fault.cut, int(self.headers.get("Content-Length", fault.cut))))
            self.hub.requests.append(Request(self.command, self.path, 0))
            self.close_connection = True
            return
        self.body = self.read_body()
        if upload and fault.corrupt:
            self.body = flip(self.body)
        try:
            if fault.status:
                raise HubError(fault.status, "A fault that the test asked for", **fault.headers)
            reply = self.answer()
            status, body, headers = reply if isinstance(reply, tuple) else (200, reply, {})
        except HubError as error:
            status, body, headers = error.reply
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send(status, flip(body) if fault.corrupt and not upload else body, headers, fault.cut)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_request

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def send(self, status: int, body: bytes, headers: dict[str, str], cut: int | None) -> None:
        self.hub.requests.append(Request(self.command, self.path, status))
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        self.close_connection |= cut is not None


def flip(data: bytes) -> bytes:
    """`data` with its middle byte changed."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else data


ROUTES: list[tuple[str, str, Callable]] = []
ID = r"(?P<id>(?:[^/]+/)?[^/]+?)"
API = rf"/api/(?P<kind>model|dataset)s/{ID}"
PAGE = rf"/(?:(?P<kind>dataset)s/)?{ID}"
REVISION = r"(?P<revision>[^/]+)"


def route(method: str, pattern: str) -> Callable:
    def register(function: Callable) -> Callable:
        ROUTES.append((method, pattern, function))
        return function

    return register


class Handler(Connection):
    """The Hub's protocol: a method for each route returns a body, or status, body and headers.

    A body is bytes, or a value to send as JSON.
    """

    def answer(self) -> Any:
        path, _, query = self.path.partition("?")
        self.query = parse_qs(query)
        for method, pattern, function in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method == self.command.replace("HEAD", "GET"):
                with self.hub.lock:
                    return function(self, **{k: unquote(v) for k, v in match.groupdict().items() if v})
        raise HubError(404, "Sorry, we can't find the page you are looking for.")

    @property
    def role(self) -> str | None:
        authorization = self.headers.get("Authorization")
        if authorization not in ROLES:
            raise HubError(401, "Invalid credentials in Authorization header")
        return ROLES[authorization]

    @property
    def json(self) -> dict:
        return json.loads(self.body)

    def repo(self, kind: str, id: str) -> Repo:
        repo = self.hub.repos.get((kind, id))
        if repo is None or (repo.private and not self.role):
            # The Hub gives strangers a 401 without a code, which clients take for "not found" on https only.
            status, message = (404, "Repository not found") if self.role else (401, "Invalid username or password.")
            raise HubError(status, message, "RepoNotFound")
        return repo

    def check_write(self, message: str = "You don't have the required permissions.") -> None:
        if self.role != "write":
            raise HubError(403, message) if self.role else HubError(401, "Invalid username or password.")

    @route("GET", "/api/whoami-v2")
    def whoami(self):
        if not self.role:
            raise HubError(401, "Invalid username or password.")
        token = {"displayName": "test", "role": self.role}
        account = {"type": "user", "name": USER, "fullname": USER, "isPro": False, "orgs": []}
        return account | {"auth": {"type": "access_token", "accessToken": token}}

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self):
        front = re.match(r"---\r?\n(.*?)^---\s*$", self.json["content"], re.DOTALL | re.MULTILINE)
        if not front:
            warning = {"message": "empty or missing yaml metadata in repo card"}
            return {"errors": [], "warnings": [warning]}
        try:
            yaml.safe_load(front[1])
        except yaml.YAMLError as error:
            return 400, {"errors": [{"message": str(error)}], "warnings": []}, {}
        return {"errors": [], "warnings": []}

    @route("GET", API)
    @route("GET", rf"{API}/revision/{REVISION}")
    def info(self, kind, id, revision="main"):
        repo = self.repo(kind, id)
        commit_id, files = repo.find(revision)
        about = {"_id": commit_id[:24], "id": id, "author": id.split("/")[0], "sha": commit_id, "tags": []}
        about |= {"private": repo.private, "gated": "auto" if repo.gated else False, "disabled": False}
        return about | {"siblings": [{"rfilename": path} for path in sorted(files)]}

    @route("GET", rf"{API}/tree/{REVISION}(?:/(?P<path>.+))?")
    def list_tree(self, kind, id, revision, path=""):
        _, files = self.repo(kind, id).find(revision)
        recursive = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        return tree(files, path.strip("/"), recursive)

    @route("POST", rf"{API}/paths-info/{REVISION}")
    def paths_info(self, kind, id, revision):
        _, files = self.repo(kind, id).find(revision)
        wanted = parse_qs(self.body.decode()).get("paths", [])
        return [entry for entry in tree(files, "", recursive=True) if entry["path"] in wanted]

    @route("GET", f"{API}/refs")
    def refs(self, kind, id):
        heads = self.repo(kind, id).branches.items()
        branches = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": head} for name, head in heads]
        return {"branches": branches, "tags": [], "converts": [], "pullRequests": []}

    @route("GET", rf"{PAGE}/resolve/{REVISION}/(?P<path>.+)")
    def resolve(self, id, revision, path, kind="model"):
        repo = self.repo(kind, id)
        if repo.gated and self.role != "write":
            raise HubError(403 if self.role else 401, f"Access to {kind} {id} is restricted.", "GatedRepo")
        commit_id, files = repo.find(revision)
        about = {"X-Repo-Commit": commit_id}
        if path not in files:
            raise HubError(404, "Entry not found", "EntryNotFound", **about)
        data = files[path]
        etag = f'"{oid(path, data)}"'
        if not is_lfs(path, len(data)):
            return self.ranged(data, about | {"ETag": etag})
        self.hub.lfs[sha256(data)] = data
        linked = {"X-Linked-Size": str(len(data)), "X-Linked-ETag": etag}
        location = f"{self.hub.storage_url}/cdn/{sha256(data)}/{quote(path)}"
        return 302, b"", about | linked | {"Location": location}

    @route("GET", r"/cdn/(?P<key>\w+)/.+")
    def download(self, key):
        return self.ranged(self.hub.lfs[key], {"ETag": f'"{key}"'})

    @route("POST", "/api/repos/create")
    def create_repo(self):
        wanted = self.json
        kind, owner = wanted.get("type", "model"), wanted.get("organization") or USER
        id = f"{owner}/{wanted['name']}"
        self.check_write(f'You don\'t have the rights to create a {kind} under the namespace "{owner}"')
        if known := self.hub.repos.get((kind, id)):
            error = f"You already created this {kind} repo"
            return 409, {"error": error, "url": self.hub.page(known)}, {}
        lines = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES)
        private = wanted.get("visibility") == "private"
        repo = self.hub.add_repo(kind, id, {".gitattributes": lines.encode()}, private=private)
        return {"url": self.hub.page(repo), "name": id, "id": id}

    @route("POST", rf"{API}/preupload/{REVISION}")
    def preupload(self, kind, id, revision):
        repo = self.repo(kind, id)
        self.check_write()
        commit_id, files = repo.find(revision)
        answers = []
        for file in self.json["files"]:
            path, mode = file["path"], "lfs" if is_lfs(file["path"], file["size"]) else "regular"
            known = {"oid": oid(path, files[path])} if path in files else {}
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **known})
        return {"files": answers, "commitOid": commit_id}

    @route("POST", rf"{PAGE}\.git/info/lfs/objects/batch")
    def lfs_batch(self, id, kind="model"):
        verify = {"href": f"{self.hub.page(self.repo(kind, id))}.git/info/lfs/objects/verify"}
        self.check_write()
        objects = []
        for wanted in self.json["objects"]:
            key, actions = wanted["oid"], {}
            if key not in self.hub.lfs:
                upload = {"href": f"{self.hub.storage_url}/lfs/{key}"}
                actions = {"actions": {"upload": upload, "verify": verify}}
            objects.append({"oid": key, "size": wanted["size"], **actions})
        return {"transfer": "basic", "objects": objects}

    @route("PUT", r"/lfs/(?P<key>\w+)")
    def lfs_upload(self, key):
        if sha256(self.body) != key:
            raise HubError(400, "The provided sha256 does not match what was computed.")
        self.hub.lfs[key] = self.body
        return b""

    @route("POST", rf"{PAGE}\.git/info/lfs/objects/verify")
    def lfs_verify(self, id, kind="model"):
        self.check_write()
        found = self.hub.lfs.get(self.json["oid"])
        if found is None or len(found) != self.json["size"]:
            raise HubError(404, "The object was not uploaded.")
        return {"success": True}

    @route("POST", rf"{API}/commit/{REVISION}")
    def commit(self, kind, id, revision):
        repo = self.repo(kind, id)
        self.check_write("Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
        head, old = repo.find(revision)
        files, title = dict(old), ""
        for line in self.body.splitlines():
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "header":
                title = value["summary"]
                if value.get("parentCommit", head) != head:
                    raise HubError(412, "A commit has happened since. Please refresh and try again.")
            else:
                apply(self.hub, files, key, value)
        commit_id = repo.commit(files, title, revision)
        url = f"{self.hub.page(repo)}/commit/{commit_id}"
        return {"success": True, "commitOid": commit_id, "commitUrl": url, "hookOutput": ""}

    @route("POST", rf"{API}/branch/(?P<branch>.+)")
    def create_branch(self, kind, id, branch):
        repo = self.repo(kind, id)
        self.check_write()
        if branch in repo.branches:
            raise HubError(409, f"Reference already exists: refs/heads/{branch}")
        repo.branches[branch], _ = repo.find(self.json.get("startingPoint", "main"))
        return {}

    @route("DELETE", rf"{API}/branch/(?P<branch>.+)")
    def delete_branch(self, kind, id, branch):
        repo = self.repo(kind, id)
        self.check_write()
        if branch == "main" or branch not in repo.branches:
            raise HubError(403 if branch == "main" else 404, f"Cannot delete refs/heads/{branch}")
        del repo.branches[branch]
        return {}

    def ranged(self, data: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not match:
            return 200, data, headers
        first, last = int(match[1]), min(int(match[2] or len(data)), len(data) - 1)
        if first > last:
            return 416, b"", {"Content-Range": f"bytes */{len(data)}"}
        return 206, data[first : last + 1], headers | {"Content-Range": f"bytes {first}-{last}/{len(data)}"}


def apply(hub: HubServer, files: dict[str, bytes], key: str, value: dict) -> None:
    """Do one operation of a commit to `files`."""
    path = value["path"]
    if key == "file":
        files[path] = base64.b64decode(value["content"])
    elif key == "lfsFile":
        if value["oid"] not in hub.lfs:
            raise HubError(400, "LFS pointer pointed to a file that does not exist")
        files[path] = hub.lfs[value["oid"]]
    else:
        folder = key == "deletedFolder" and path.rstrip("/") + "/"
        gone = [name for name in files if name == path or (folder and name.startswith(folder))]
        if not gone:
            raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")
        for name in gone:
            del files[name]


@functools.cache
def lexicon() -> tuple[list[str], list[float]]:
    """50,000 made-up English words, the frequent ones short, and their cumulative Zipf weights."""
    rng = random.Random(0)
    starts = [*"bcdfghlmnprstw", "br", "ch", "cl", "fl", "gr", "pl", "pr", "sh", "st", "th", "tr"]
    ends = [*"aeiouy", "an", "ar", "el", "en", "er", "ing", "ion", "ist", "it", "on", "or", "ous", "ow"]
    words: dict[str, None] = {}
    while len(words) < 50_000:
        syllables = 1 + (len(words) >= 100) + (len(words) >= 15_000)
        words["".join(rng.choice(starts) + rng.choice(ends) for _ in range(syllables))] = None
    return list(words), list(itertools.accumulate(1 / (rank + 2.7) for rank in range(len(words))))


def sentence(rng: random.Random) -> str:
    vocabulary, weights = lexicon()
    words = rng.choices(vocabulary, cum_weights=weights, k=rng.randint(6, 30))
    words[0] = words[0].capitalize()
    place = rng.randrange(1, len(words) - 1)
    words[place] += rng.choice([" ,", " , and", " @-@ made", f" {rng.randint(1, 99)} @,@ 000", "", ""])
    return " ".join(words) + " ."


def wikitext_rows(articles: int, seed: int) -> list[str]:
    """Rows in the form of the Hub's WikiText: a line with its newline, or "" for a blank line.

    An article is some 700 words: ` = Title = ` and ` = = Section = = ` with blank lines on both sides. Every
    third one also has a text line that looks like a title but has no blank lines around it.
    """
    rng = random.Random(seed)
    vocabulary, weights = lexicon()

    def heading(marks: str) -> list[str]:
        words = rng.choices(vocabulary, cum_weights=weights, k=rng.randint(1, 4))
        return ["", f" {marks} {' '.join(words).title()} {marks} \n", ""]

    rows = []
    for article in range(articles):
        rows += heading("=")
        for section in range(rng.randint(1, 5)):
            if section:
                rows += heading("= =")
            for _ in range(rng.randint(1, 4)):
                rows.append(f" {' '.join(sentence(rng) for _ in range(rng.randint(2, 7)))} \n")
        if article % 3 == 2:
            rows += [" = Not A Title = \n", f" {sentence(rng)} \n"]
    return rows


def add_wikitext(hub: HubServer, train_rows: list[str], validation_rows: list[str], test_rows: list[str]) -> Repo:
    """Put Salesforce/wikitext with its config wikitext-103-raw-v1 on the server, laid out as the real one."""
    config, files, sizes, patterns = "wikitext-103-raw-v1", {}, [], []
    for split, rows in {"test": test_rows, "train": train_rows, "validation": validation_rows}.items():
        shards = 2 if split == "train" else 1
        for shard in range(shards):
            part = rows[len(rows) * shard // shards : len(rows) * (shard + 1) // shards]
            buffer = io.BytesIO()
            pq.write_table(pa.table({"text": pa.array(part, pa.string())}), buffer)
            files[f"{config}/{split}-{shard:05d}-of-{shards:05d}.parquet"] = buffer.getvalue()
        size = sum(len(row.encode()) for row in rows)
        sizes.append({"name": split, "num_bytes": size, "num_examples": len(rows)})
        patterns.append({"split": split, "path": f"{config}/{split}-*"})
    features = [{"name": "text", "dtype": "string"}]
    card = {
        "dataset_info": [{"config_name": config, "features": features, "splits": sizes}],
        "configs": [{"config_name": config, "data_files": patterns}],
    }
    files["README.md"] = f"---\n{yaml.safe_dump(card)}---\n\n# WikiText, made up\n".encode()
    return hub.add_repo("dataset", "Salesforce/wikitext", files)
