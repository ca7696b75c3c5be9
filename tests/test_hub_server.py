"""The test Hub, asked by the real clients, each in its own process: they read HF_ENDPOINT at import."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub_protocol import READ_TOKEN, WRITE_TOKEN
from tests.hub_server import HubServer, Request
from tests.wikitext import add_wikitext, wikitext_rows

UPLOAD = "HfApi().upload_folder(repo_id='tester/model', folder_path='model')"
DOWNLOAD = "print(snapshot_download('tester/model'))"
LOAD = "load_dataset('Salesforce/wikitext', 'wikitext-103-raw-v1', split='train'"


@pytest.fixture
def hub():
    with HubServer() as server:
        yield server


def run(hub, tmp_path, code, token=WRITE_TOKEN):
    """What a child Python prints, or its traceback."""
    imports = "from huggingface_hub import *; from huggingface_hub import errors\n"
    env = hub.env(tmp_path / "home", token) | {"OMP_NUM_THREADS": "1"}
    child = subprocess.run(
        [sys.executable, "-c", imports + code],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return (child.stderr if child.returncode else child.stdout).strip()


def error(code, kind="HfHubHTTPError"):
    return f"try: {code}\nexcept errors.{kind} as e: print(type(e).__name__, e.response.status_code)"


def statuses(hub, part):
    return [request.status for request in hub.requests if part in request.path]


@pytest.fixture
def model(tmp_path):
    """A folder with a small file, a large one and one that is LFS by its name, in a subfolder."""
    files = {"config.json": b"{}", "big.dat": b"0123456789ab" * 2**20, "sub/a.safetensors": b"\x00weights"}
    for name, data in files.items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return files


def test_wikitext_rows():
    rows = wikitext_rows(articles=7, seed=1)
    assert rows == wikitext_rows(articles=7, seed=1) != wikitext_rows(articles=7, seed=2)
    assert all(row == "" or (row.startswith(" ") and row.endswith(" \n")) for row in rows)
    shaped = [i for i, row in enumerate(rows) if row.startswith(" = ") and not row.startswith(" = = ")]
    titles = [i for i in shaped if rows[i - 1] == rows[i + 1] == ""]
    assert (len(shaped), len(titles)) == (9, 7)
    assert any(" @-@ " in row for row in rows) and any(" = = " in row for row in rows)


@pytest.mark.parametrize("streaming", [False, True])
def test_load_dataset_reads_wikitext(hub, tmp_path, streaming):
    rows = wikitext_rows(9, 1)
    add_wikitext(hub, rows, wikitext_rows(2, 2), wikitext_rows(2, 3))
    hub.fail("/cdn/.*train-00001", status=429, headers={"Retry-After": "0"}, method="GET")
    code = f"from datasets import load_dataset\nd = {LOAD}, cache_dir='cache', streaming={streaming})\n"
    output = run(hub, tmp_path, code + "import json; print(json.dumps([row['text'] for row in d]))")
    assert eval(output) == rows
    assert 429 in statuses(hub, "train-00001")


def test_a_dataset_that_is_not_there(hub, tmp_path):
    code = "from datasets import load_dataset\nload_dataset('me/none')"
    assert "DatasetNotFoundError" in run(hub, tmp_path, code)
    assert hub.requests[-1].status == 404


def test_push_and_fetch_back(hub, tmp_path, model):
    create = "HfApi().create_repo('tester/model', private=True)\n"
    commit_id = run(hub, tmp_path, create + f"print({UPLOAD}.oid)")
    repo = hub.repos["model", "tester/model"]
    assert repo.branches["main"] == commit_id
    assert {name: repo.files[name] for name in model} == model and repo.private
    assert sum(request.method == "PUT" for request in hub.requests) == 2

    folder = Path(run(hub, tmp_path, DOWNLOAD, READ_TOKEN))
    assert {name: (folder / name).read_bytes() for name in repo.files} == repo.files
    assert run(hub, tmp_path, error(DOWNLOAD.replace("model", "none"))) == "RepositoryNotFoundError 404"
    assert run(hub, tmp_path, error("model_info('tester/model')"), None) == "RepositoryNotFoundError 401"


def test_commits_branches_and_deletions(hub, tmp_path):
    repo = hub.add_repo("model", "tester/model", {"a.txt": b"a", "old/b.txt": b"b", "old/c.txt": b"c"})
    first = repo.branches["main"]
    code = """
api = HfApi()
api.create_branch("tester/model", branch="try/1")
api.create_branch("tester/model", branch="gone")
api.delete_branch("tester/model", branch="gone")
api.create_commit("tester/model", [CommitOperationDelete("old/"), CommitOperationAdd("d.txt", b"d")],
                  commit_message="tidy", revision="try/1")
print([(b.name, b.target_commit) for b in api.list_repo_refs("tester/model").branches],
      api.list_repo_files("tester/model", revision="try/1"),
      [p.size for p in api.get_paths_info("tester/model", ["a.txt"])], api.whoami()["name"])
"""
    second = run(hub, tmp_path, code)
    head = repo.branches["try/1"]
    assert second == f"{[('main', first), ('try/1', head)]} ['a.txt', 'd.txt'] [1] tester"
    assert repo.files == {"a.txt": b"a", "old/b.txt": b"b", "old/c.txt": b"c"}
    stale = f"create_commit('tester/model', [], commit_message='x', parent_commit='{'0' * 40}')"
    stale = stale.replace("[]", "[CommitOperationAdd('x', b'x')]")
    assert run(hub, tmp_path, error(stale)) == "HfHubHTTPError 412"


def test_who_may_do_what(hub, tmp_path, model):
    hub.add_repo("model", "tester/model", {"a.txt": b"a"}, gated=True)
    assert run(hub, tmp_path, error(UPLOAD), READ_TOKEN) == "HfHubHTTPError 403"
    assert run(hub, tmp_path, error("create_repo('tester/new')"), READ_TOKEN) == "HfHubHTTPError 403"
    assert run(hub, tmp_path, error("whoami()"), "hf_wrong").endswith("401")
    fetch = error("hf_hub_download('tester/model', 'a.txt')")
    assert run(hub, tmp_path, fetch, READ_TOKEN) == "GatedRepoError 403"
    assert run(hub, tmp_path, fetch, token=None) == "GatedRepoError 401"
    for what, kind in {
        "'none.txt'": "RemoteEntryNotFoundError",
        "'a.txt', revision='none'": "RevisionNotFoundError",
    }.items():
        assert run(hub, tmp_path, error(f"hf_hub_download('tester/model', {what})")) == f"{kind} 404"


def test_faulty_uploads(hub, tmp_path, model):
    hub.add_repo("model", "tester/model")
    hub.fail("/lfs/", method="PUT", cut=1000)
    hub.fail("/lfs/", status=503, method="PUT")
    assert run(hub, tmp_path, f"print({UPLOAD}.oid)") == hub.repos["model", "tester/model"].branches["main"]
    puts = [request.status for request in hub.requests if request.method == "PUT"]
    assert sorted(puts) == [0, 200, 200, 503]

    hub.lfs.clear()
    (tmp_path / "model/big.dat").write_bytes(b"other" * 2**22)
    hub.fail("/lfs/", method="PUT", corrupt=True)
    assert "RuntimeError: Error while uploading" in run(hub, tmp_path, UPLOAD)
    assert 400 in statuses(hub, "/lfs/")


def test_faulty_downloads(hub, tmp_path):
    repo = hub.add_repo("model", "tester/model", {"a.safetensors": b"0123456789ab" * 2**20})
    hub.fail("/cdn/", cut=11 * 2**20)  # clients keep what they have in pieces of 10 MiB
    folder = Path(run(hub, tmp_path, DOWNLOAD))
    assert (folder / "a.safetensors").read_bytes() == repo.files["a.safetensors"]
    assert statuses(hub, "/cdn/") == [200, 206]

    repo.commit({"a.safetensors": bytes(250)}, "next")
    hub.fail("/cdn/", corrupt=True)
    folder = Path(run(hub, tmp_path, DOWNLOAD))
    assert (folder / "a.safetensors").read_bytes() == bytes(125) + b"\x01" + bytes(124)


def test_slow_answers_and_a_hub_that_is_away(hub, tmp_path):
    hub.add_repo("model", "tester/model")
    hub.fail("/api/models/", delay=5, times=None)
    slow = "HfApi().model_info('tester/model', timeout=0.2)"
    assert "ReadTimeout" in run(hub, tmp_path, slow)
    hub.stop()
    assert "ConnectError" in run(hub, tmp_path, "whoami()")
    hub.start()
    assert run(hub, tmp_path, "print(whoami()['name'])") == "tester"
    assert hub.requests[-1] == Request("GET", "/api/whoami-v2", 200)
