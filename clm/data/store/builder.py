"""Builds a token store in parts: each is built once, by the first process that comes to it, and then they are joined.

While a store grows, its finished parts lie in `NAME.parts/part-00000` … When the last one is there, `store.json` is put
beside them and the folder is renamed to `NAME`. A part is written to a staging folder, under a lock of its own, and
renamed. So machines that share the folder share the work, and a killed build loses only the parts it was writing.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock, Timeout

from clm.cores import usable_cores
from clm.data.sources.documents import NoText, Source
from clm.data.store.writer import token_dtype, write_part
from clm.errors import MachineError, UserError
from clm.files import read_json, read_json_object, write_bytes, write_json
from clm.progress import Say, StepProgress
from clm.rollback import Rollback, lock_file

if TYPE_CHECKING:  # takes seconds to import
    from transformers import PreTrainedTokenizerBase


def is_built(folder: Path, fingerprint: dict) -> bool:
    """Whether there is a whole store at `folder` with this fingerprint."""
    return read_json_object(folder / "store.json").get("fingerprint") == fingerprint


def build(
    folder: Path, source: Source, tokenizer: PreTrainedTokenizerBase, fingerprint: dict, rollback: Rollback, say: Say
) -> None:
    """Make the store at `folder`, unless another process does so meanwhile.

    Raises:
        UserError: the source's own errors, or no text.
        MachineError: the disk is full.
    """
    parts = source.parts()
    growing = _growing(folder)
    with rollback.locked(folder):
        if is_built(folder, fingerprint):
            return
        if (read_json(growing / "fingerprint.json") or fingerprint) != fingerprint:
            shutil.rmtree(growing)
    with _failing_cleanly(folder):
        if _workers(parts) == 1:
            jobs = [(folder, number, part, tokenizer, fingerprint, True, say) for number, part in enumerate(parts)]
            left = [job for job in jobs if not _build_part(*job, wait=False)]
            for job in left:  # another process had begun these, and has finished or given up
                _build_part(*job)
        else:
            _build_in_processes(folder, parts, tokenizer, fingerprint, say)
        with FileLock(lock_file(folder)):
            if not is_built(folder, fingerprint):
                _join(folder, len(parts), source, tokenizer, fingerprint)
                rollback.built(folder)


def _growing(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.parts")


def part_folder(folder: Path, number: int) -> Path:
    """Where part `number` of the store at `folder` lies."""
    return folder / f"part-{number:05d}"


def _workers(parts: list[Source]) -> int:
    return min(usable_cores(), len(parts))


def _build_part(
    folder: Path,
    number: int,
    source: Source,
    tokenizer: PreTrainedTokenizerBase,
    fingerprint: dict,
    show: bool,
    say: Say,
    wait: bool = True,
) -> bool:
    """Build one part unless it is there. Without `wait`, return False at once where another process is building it."""
    final = part_folder(_growing(folder), number)
    lock = folder.with_name(f"{folder.name}.{final.name}.lock")
    staging = folder.with_name(f"{folder.name}.tmp-{number}-{os.getpid()}")
    try:
        with FileLock(lock, timeout=-1 if wait else 0):
            try:
                for left_behind in folder.parent.glob(f"{folder.name}.tmp-{number}-*"):
                    shutil.rmtree(left_behind)
                with FileLock(lock_file(folder)):
                    there = is_built(folder, fingerprint) or (final / "part.json").is_file()
                if not there:
                    write_part(staging, source, tokenizer, show, say)
                    _publish(staging, final, folder, fingerprint)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
                lock.unlink(missing_ok=True)
            return True
    except Timeout:
        return False


def _publish(staging: Path, final: Path, folder: Path, fingerprint: dict) -> None:
    with FileLock(lock_file(folder)):
        final.parent.mkdir(exist_ok=True)
        write_json(final.parent / "fingerprint.json", fingerprint)
        if not final.exists():
            staging.rename(final)


def _build_in_processes(
    folder: Path, parts: list[Source], tokenizer: PreTrainedTokenizerBase, fingerprint: dict, say: Say
) -> None:
    say(f"encoding {len(parts):,} parts in {_workers(parts)} processes")
    jobs = [(folder, number, part, tokenizer, fingerprint, False, _quiet) for number, part in enumerate(parts)]
    with (
        ProcessPoolExecutor(_workers(parts), get_context("spawn"), _one_thread_each) as pool,
        StepProgress("encoding parts", len(parts)) as progress,
    ):
        # First the parts that nobody works on. Then those that another process had begun, and finished or gave up.
        futures = [pool.submit(_build_part, *job, wait=False) for job in jobs]
        for future in as_completed(futures):
            if future.result():
                progress.step()
        left = [job for job, future in zip(jobs, futures, strict=True) if not future.result()]
        for future in as_completed([pool.submit(_build_part, *job) for job in left]):
            future.result()
            progress.step()


def _one_thread_each() -> None:
    os.environ["RAYON_NUM_THREADS"] = "1"  # the fast encoder's and tokenizers' own threads


def _quiet(_: str) -> None:
    pass


def _join(folder: Path, count: int, source: Source, tokenizer: PreTrainedTokenizerBase, fingerprint: dict) -> None:
    growing = _growing(folder)
    parts = [read_json(part_folder(growing, number) / "part.json") for number in range(count)]
    if not any(part["documents"] for part in parts):
        shutil.rmtree(growing)
        raise NoText(f"{source.origin}: holds no text")
    about = {
        "fingerprint": fingerprint,
        "dtype": token_dtype(len(tokenizer)).name,
        "vocab_size": len(tokenizer),
        "end_of_text": tokenizer.eos_token_id,
        "documents_by_length": documents_by_length(
            np.fromfile(part_folder(growing, number) / "lengths.bin", np.uint32) for number in range(count)
        ),
        "parts": parts,
    }
    counts = sum(np.fromfile(part_folder(growing, number) / "counts.bin", np.int64) for number in range(count))
    write_bytes(growing / "counts.bin", counts.tobytes())
    write_json(growing / "store.json", about)
    (growing / "fingerprint.json").unlink()
    shutil.rmtree(folder, ignore_errors=True)
    growing.rename(folder)


def documents_by_length(lengths: Iterable[np.ndarray]) -> list[list[int]]:
    """How many documents have how many tokens, end-of-text included: rows of (shortest, longest, documents).

    A row spans from a power of two to before the next one; rows without documents at either end are left out.
    """
    documents = np.zeros(33, np.int64)
    for some in lengths:
        documents += np.bincount(np.frexp(some)[1] - 1, minlength=33)  # 2**power <= length < 2**(power + 1)
    there = np.flatnonzero(documents)
    return [[2**power, 2 ** (power + 1) - 1, int(documents[power])] for power in range(there[0], there[-1] + 1)]


@contextmanager
def _failing_cleanly(folder: Path) -> Iterator[None]:
    try:
        yield
    except UserError:  # the text is refused, so nobody needs its finished parts
        shutil.rmtree(_growing(folder), ignore_errors=True)
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise MachineError(f"{folder.parent}: the disk is full; free some space or set another cache_dir") from None
