"""What of a run's folder goes where on the Hub.

The model's branch (main unless hub_revision says otherwise) has the finished run, or, labelled as that, the best model
of one that isn't finished. Checkpoints have a branch of their own, as `checkpoint-N/`. Each push makes the repository
say what the folder says now, in one commit a branch; what is there already isn't sent again.
"""

import fnmatch
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.sha import git_hash

from clm.errors import UserError
from clm.explain.explanation import EXPLANATION_FILE
from clm.hub.access import WITH_CHECKPOINTS, Target, open_repository
from clm.launch import status
from clm.report import card
from clm.training.callbacks import samples as sample_log
from clm.training.checkpoint.folders import best_of, folders_in, is_name, step_of
from clm.training.checkpoint.manifest import MANIFEST, manifest_of

MODEL = ("config.json", "generation_config.json", "model*.safetensors*", "tokenizer*.json")
ABOUT = ("recipe.json", "data.json", "environment.json")
# What other people need of a finished run's folder. Checkpoints, locks and logs stay here.
PUBLISHED = (
    *("README.md", *MODEL, *ABOUT, "*_results.json", "trainer_state.json"),
    *("energy.json", sample_log.FILE, EXPLANATION_FILE, "report.html", "loss_curve.png"),
)


def push(api: HfApi, run_dir: Path, target: Target) -> str:
    """Push a run's folder as `target` says; what is there now, and where, in a few words.

    Raises:
        UserError: there is nothing in it to push, or the Hub refuses.
        Exception: the Hub can't be reached, or is in trouble.
    """
    steps = status.finished_steps(run_dir)
    with _staged(run_dir, target) as checkpoints:
        if steps is None and (not checkpoints or target.strategy == "end"):
            reason = "hub_strategy is end" if checkpoints else "it has no checkpoint"
            raise UserError(f"{run_dir}: the run isn't finished, and {reason}: there is nothing to push yet")
        name = open_repository(api, target)
        if steps is None:
            folder = _model_of(checkpoints[-1])
            step, newest = step_of(folder), step_of(checkpoints[-1])
            files = _matching(folder, MODEL) + _matching(run_dir, ABOUT)
            text = card.unfinished(run_dir, name, step)
            what = f"the model of step {step:,} of a run that isn't finished"
        else:
            newest, files = steps, _matching(run_dir, PUBLISHED)
            text, what = card.for_repository(run_dir, name), f"the finished run of {steps:,} steps"
        additions = [CommitOperationAdd(path.name, path) for path in files if path.name != card.FILE]
        additions.append(CommitOperationAdd(card.FILE, text.encode()))
        url = _commit_model(api, name, target.branch, additions, what)
        if target.strategy in WITH_CHECKPOINTS and checkpoints:
            what += f", checkpoint {newest:,}"
            _commit_checkpoints(api, name, target, checkpoints, run_dir / sample_log.FILE)
    return f"{url} ({what})"


@contextmanager
def _staged(run_dir: Path, target: Target) -> Iterator[list[Path]]:
    """Whole checkpoints, oldest first. They are links, which stay when the training deletes what they link to."""
    staging = Path(tempfile.mkdtemp(prefix=".push-", suffix=".tmp", dir=run_dir))
    try:
        folders = sorted(folders_in(run_dir), key=step_of)
        if target.strategy != "all_checkpoints":
            folders = [folder for folder in {_best_of(folders[-1]): 0, folders[-1]: 0} if folder] if folders else []
        yield [copy for folder in folders if (copy := _link(folder, staging / folder.name))]
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _best_of(folder: Path) -> Path | None:
    best = best_of(folder)
    return best if best and best.is_dir() else None


def _link(folder: Path, to: Path) -> Path | None:
    """A copy of `folder` as links; None where it isn't whole, or is deleted meanwhile."""
    try:
        shutil.copytree(folder, to, copy_function=_link_file)
    except OSError:  # shutil.Error is one
        return None
    names = manifest_of(to).get("files", {})
    return to if names and all((to / name).is_file() for name in names) else None


def _link_file(source: str, to: str) -> None:
    try:
        os.link(source, to)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without links
        shutil.copy2(source, to)


def _model_of(newest: Path) -> Path:
    """The checkpoint with the best model until `newest`, where the run keeps that one; else `newest`."""
    return _best_of(newest) or newest


def _matching(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def _commit_model(api: HfApi, name: str, branch: str, additions: list[CommitOperationAdd], what: str) -> str:
    """Make the branch say what `additions` say, in one commit; what an earlier push left of another state goes."""
    sent = {addition.path_in_repo for addition in additions}
    there = [entry.path for entry in api.list_repo_tree(name, revision=branch) if isinstance(entry, RepoFile)]
    gone = [path for path in there if path not in sent and any(fnmatch.fnmatch(path, p) for p in PUBLISHED)]
    operations = [*additions, *map(CommitOperationDelete, gone)]
    return api.create_commit(name, operations, commit_message=what.capitalize(), revision=branch).commit_url


def _commit_checkpoints(api: HfApi, name: str, target: Target, folders: list[Path], samples: Path) -> None:
    """Add `folders`; delete those that aren't kept, and those of later steps, which are another run's."""
    branch, newest = target.checkpoint_branch, step_of(folders[-1])
    there = {entry.path: entry for entry in api.list_repo_tree(name, revision=branch, recursive=True)}
    additions = [CommitOperationAdd(samples.name, samples)] if samples.is_file() else []
    for folder in folders:
        pushed = there.get(f"{folder.name}/{MANIFEST}")
        if pushed is None or pushed.blob_id != git_hash((folder / MANIFEST).read_bytes()):
            additions += _additions(folder)
    kept = {folder.name for folder in folders}
    remote = {path for path, entry in there.items() if not isinstance(entry, RepoFile)} - kept
    gone = [
        path
        for path in sorted(filter(is_name, remote))
        if target.strategy == "checkpoint" or step_of(Path(path)) > newest
    ]
    operations = [*additions, *(CommitOperationDelete(f"{path}/") for path in gone)]
    if operations:
        api.create_commit(name, operations, commit_message=f"Checkpoint {newest:,}", revision=branch)


def _additions(folder: Path) -> list[CommitOperationAdd]:
    """A checkpoint's files, each as its manifest has it.

    Raises:
        UserError: one isn't.
    """
    files = manifest_of(folder)["files"]
    additions = [CommitOperationAdd(f"{folder.name}/{name}", folder / name) for name in files]
    for addition in additions:
        name = Path(addition.path_in_repo).name
        if addition.upload_info.sha256.hex() != files[name]["sha256"]:
            raise UserError(f"{folder.name} isn't pushed: {name} isn't what was written (its SHA-256 differs)")
    return [*additions, CommitOperationAdd(f"{folder.name}/{MANIFEST}", folder / MANIFEST)]
