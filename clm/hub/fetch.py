"""Back from the Hub: the newest checkpoint that was pushed, put where the run looks for it."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFolder

from clm.errors import MachineError, UserError
from clm.hub import access
from clm.progress import Say
from clm.training.callbacks import samples as sample_log
from clm.training.checkpoint import find
from clm.training.checkpoint.folders import best_of, folders_in, is_name, step_of
from clm.training.checkpoint.writer import publish

_STAGING = ".fetch.tmp"  # stays where a download is killed; the next one goes on with it


def fetch(run_dir: Path, training: Mapping[str, Any], needs_best: bool, say: Say) -> None:
    """Put the newest whole checkpoint of the Hub into `run_dir`, unless one that is as new is there.

    Args:
        needs_best: the best model's checkpoint has to come along, if it is another one.

    Raises:
        UserError: there are some on the Hub, and none is whole.
        MachineError: the Hub can't be reached, and `run_dir` has no checkpoint either.
    """
    target, here = access.Target.of(training), max(map(step_of, folders_in(run_dir)), default=0)
    try:
        _fetch(access.client(), run_dir, target, needs_best, here, say)
    except UserError:
        raise
    except Exception as error:
        if not here:
            raise MachineError(
                f"resume_from_checkpoint: no checkpoint of {target.name} can be fetched ({access.line(error)}); run "
                "the same command again"
            ) from None
        say(f"warning: the Hub can't be asked for a newer checkpoint ({access.line(error)})")


def _fetch(api: HfApi, run_dir: Path, target: access.Target, needs_best: bool, here: int, say: Say) -> None:
    name, branch = access.full_name(api, target.name), target.checkpoint_branch
    try:
        there = [e.path for e in api.list_repo_tree(name, revision=branch) if isinstance(e, RepoFolder)]
    except (RepositoryNotFoundError, RevisionNotFoundError):
        there = []
    steps = sorted((step_of(Path(path)) for path in there if is_name(path)), reverse=True)
    if not steps:
        say(f"{name} has no checkpoint yet")
        return
    for step in steps:
        if step <= here and not _damaged(run_dir / f"checkpoint-{here}", needs_best, say):
            return
        say(f"fetching checkpoint-{step} of {name}")
        for _ in range(2):  # a damaged download may go better the second time; what is damaged there won't
            found = _download(api, name, branch, step, needs_best, run_dir)
            if not found:
                return
        say(f"passing over checkpoint-{step} of {name}: {found}")
    if not here:
        raise UserError(
            f"none of the {len(steps)} checkpoints on the branch {branch} of {name} is whole; delete them to start over"
        )


def _damaged(folder: Path, needs_best: bool, say: Say) -> bool:
    found = find.fault(folder, needs_best)
    if found:
        say(f"passing over {folder}: {found}")
    return bool(found)


def _download(api: HfApi, name: str, branch: str, step: int, needs_best: bool, run_dir: Path) -> str | None:
    """Fetch a checkpoint, check it against its manifest, and put it in its place; why that can't be done, or None."""
    staging = run_dir / _STAGING
    folder = staging / f"checkpoint-{step}"

    def get(*patterns: str) -> None:
        api.snapshot_download(name, revision=branch, local_dir=staging, allow_patterns=list(patterns))

    get(f"{folder.name}/*", sample_log.FILE)
    best = best_of(folder) if needs_best else None
    if best:
        get(f"{best.name}/*")
    found = find.fault(folder, needs_best)
    if not found:
        for each in filter(None, {best: 0, folder: 0}):
            publish(each, run_dir / each.name)
        samples = run_dir / sample_log.FILE
        if (staging / samples.name).is_file() and not samples.exists():
            (staging / samples.name).rename(samples)
    shutil.rmtree(staging)
    return found
