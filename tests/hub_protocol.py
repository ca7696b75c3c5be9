"""The routes of the test Hub: what huggingface_hub 2.4, datasets 5.2 and transformers 5.23 ask over plain HTTP.

They read and push models and datasets, with git-LFS and without Xet. Anything else gets a 404.
"""

import base64
import json
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import yaml

from tests.hub_repo import LFS_SUFFIXES, HubError, Repo, is_lfs, oid, sha256, tree

WRITE_TOKEN, READ_TOKEN = "hf_write", "hf_read"
ROLES = {None: None, f"Bearer {WRITE_TOKEN}": "write", f"Bearer {READ_TOKEN}": "read"}
USER = "tester"
LICENSES = ("unknown", "other", "mit", "apache-2.0", "cc-by-sa-3.0", "cc-by-sa-4.0")  # some of the Hub's list

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


class Routes(BaseHTTPRequestHandler):
    """A method for each route returns a body, or status, body and headers; a body is bytes, or a value for JSON.

    The subclass that speaks HTTP sets `hub`, the HubServer, and `body`, the request's, before it calls `answer`.
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
        """Faults in a card's metadata: as far as they are checked here, what the Hub refuses too."""
        front = re.match(r"---\r?\n(.*?)^---\s*$", self.json["content"], re.DOTALL | re.MULTILINE)
        try:
            faults = card_faults(yaml.safe_load(front[1]) if front else {})
        except yaml.YAMLError as error:
            faults = [str(error)]
        errors = [{"message": fault} for fault in faults]
        return 400 if faults else 200, {"errors": errors, "warnings": []}, {}

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
                apply(files, self.hub.lfs, key, value)
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
        del repo.branches[branch]
        return {}

    def ranged(self, data: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not match:
            return 200, data, headers
        first, last = int(match[1]), min(int(match[2] or len(data)), len(data) - 1)
        return 206, data[first : last + 1], headers | {"Content-Range": f"bytes {first}-{last}/{len(data)}"}


def card_faults(card: dict) -> list[str]:
    """What is wrong with the license, the languages or the results that a card's metadata gives."""
    faults = []
    if card.get("license", "unknown") not in LICENSES:
        faults.append('"license" must be one of a list')
    languages = card.get("language") or []
    languages = [languages] if isinstance(languages, str) else languages
    if not all(re.fullmatch("[a-z]{2,3}", language) for language in languages):
        faults.append('"language" must be an ISO 639 code, or a list of them')
    for model in card.get("model-index", []):
        for result in model["results"]:
            if not ({"task", "dataset", "metrics"} <= set(result) and {"name", "type"} <= set(result["dataset"])):
                faults.append('"model-index" needs task, dataset and metrics, and of the dataset name and type')
    return faults


def apply(files: dict[str, bytes], lfs: dict[str, bytes], key: str, value: dict) -> None:
    """Do one operation of a commit to `files`."""
    path = value["path"]
    if key == "file":
        files[path] = base64.b64decode(value["content"])
    elif key == "lfsFile":
        files[path] = lfs[value["oid"]]
    else:
        folder = key == "deletedFolder"
        gone = [name for name in files if (name.startswith(path.rstrip("/") + "/") if folder else name == path)]
        if not gone:
            raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")
        for name in gone:
            del files[name]
