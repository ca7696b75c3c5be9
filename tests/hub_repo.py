"""What the test Hub keeps: repos with their commits and branches, and what it tells about their files."""

import functools
import hashlib
from dataclasses import dataclass, field

LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".parquet", ".arrow", ".gz", ".zst", ".npz")
LFS_SIZE = 10 * 1024 * 1024


class HubError(Exception):
    """An answer other than success, in the form in which the clients expect it."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str):
        super().__init__(message)
        named = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.reply = status, {"error": message}, named | headers


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
            entries[parent] = {"type": "directory", "path": parent, "size": 0, "oid": sha256(parent.encode())[:40]}
        entries[path] = file_entry(path, data)
    if folder and not entries:
        raise HubError(404, f"{folder} does not exist", "EntryNotFound")
    return [entry for path, entry in entries.items() if recursive or "/" not in path.removeprefix(start)]


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
