"""Writes checkpoints in the background: complete under their final name, or not there at all."""

import shutil
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from clm.files import sync
from clm.launch.faults import disk_fault
from clm.training.checkpoint import manifest
from clm.training.checkpoint.folders import folders_in, step_of
from clm.training.checkpoint.snapshot import Snapshot, tensor_bytes

Saved = Callable[[], None] | None
_ROOM_BESIDES = 4 * 2**20  # for what a checkpoint holds but tensors: tokenizer, logged history


class CheckpointWriter:
    """One checkpoint at a time, in a thread of its own; used by the main process only.

    Training waits for a copy of the tensors in memory, and for no more: writing, flushing, hashing and renaming are
    done while it goes on, on a core that it leaves idle, if there is one.

    Args:
        output_dir: where the checkpoints go.
        limit: how many are kept; None for all.
        resumed_from: a checkpoint that is never deleted.
        saved: called, in the thread, when a checkpoint is there.
    """

    def __init__(self, output_dir: Path, limit: int | None, resumed_from: Path | None, saved: Saved = None) -> None:
        self._output_dir, self._limit, self._resumed_from, self._saved = output_dir, limit, resumed_from, saved
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._snapshot = Snapshot()
        self._saving: Future | None = None

    def start(
        self,
        step: int,
        live: dict[str, Any],
        write: Callable[[Path, dict[str, Any]], dict[str, Any]],
        facts: dict[str, Any],
        keep: set[Path | None],
    ) -> None:
        """Begin to save what training has come to; waits for the save before, if that is still under way.

        Args:
            step: the optimizer step.
            live: the tensors, in dicts and lists.
            write: called with a folder and a copy of `live`; puts every file there, and returns the size and SHA-256 of
                those that it has flushed and hashed already.
            facts: what the manifest says besides.
            keep: checkpoints that must stay, besides this one.
        """
        self.wait()
        self._saving = self._pool.submit(self._save, step, self._snapshot.take(live), write, facts, keep)

    def wait(self) -> str | None:
        """Return once nothing is being written: why the last checkpoint isn't there, or None where it is."""
        return self._saving.result() if self._saving else None

    def close(self) -> None:
        """Return once nothing is being written, and be done."""
        self._pool.shutdown()

    def _save(
        self, step: int, tensors: dict[str, Any], write: Callable, facts: dict[str, Any], keep: set
    ) -> str | None:
        final = self._output_dir / f"checkpoint-{step}"
        staging = self._output_dir / f".{final.name}.tmp"
        fault = None
        try:
            fault = self._no_room(tensor_bytes(tensors))
            if not fault:
                shutil.rmtree(staging, ignore_errors=True)
                staging.mkdir(parents=True)
                manifest.write(staging, {"step": step, **facts}, write(staging, tensors))
                publish(staging, final)
                rotate(self._output_dir, self._limit, {final, self._resumed_from, *keep})
                if self._saved:
                    self._saved()
        except (OSError, RuntimeError, SafetensorError) as error:
            fault = disk_fault(error) or (
                f"{error.strerror} ({error.filename})" if isinstance(error, OSError) else None
            )
            if not fault:
                raise
            shutil.rmtree(staging, ignore_errors=True)
        if fault:
            print(f"warning: {final} isn't saved: {fault}; the older ones are intact", file=sys.stderr, flush=True)
        return fault

    def _no_room(self, needed: int) -> str | None:
        free, needed = shutil.disk_usage(self._output_dir).free, needed + _ROOM_BESIDES
        if free > needed:
            return None
        return f"it needs {needed / 1e6:,.0f} MB, and the disk of {self._output_dir} has {free / 1e6:,.0f} MB free"


def publish(staging: Path, final: Path) -> None:
    """Rename a folder with its manifest to its final name, in the place of what may be there."""
    if final.exists():
        _delete(final)
    staging.rename(final)
    sync(final.parent)


def rotate(output_dir: Path, limit: int | None, keep: set[Path | None]) -> None:
    """Delete the oldest checkpoints over `limit`, but none of `keep`, and what interrupted saves and rotations left."""
    for leftover in output_dir.glob(".checkpoint-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    folders = sorted(folders_in(output_dir), key=step_of)
    kept = {folder.resolve() for folder in keep if folder}
    others = [folder for folder in folders if folder.resolve() not in kept]
    excess = len(folders) - limit if limit else 0
    for folder in others[: max(0, excess)]:
        _delete(folder)


def _delete(folder: Path) -> None:
    """By another name first, so that no half of a checkpoint is ever seen under a checkpoint's name."""
    gone = folder.with_name(f".{folder.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
