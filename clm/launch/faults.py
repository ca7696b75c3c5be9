"""What a machine that fails raises, and the one line that it is turned into."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from safetensors import SafetensorError
from torch import distributed

from clm.errors import MachineError
from clm.launch import signals

_FULL = (errno.ENOSPC, errno.EDQUOT)


def disk_fault(error: BaseException) -> str | None:
    """What is wrong with the disk, where that is why `error` was raised."""
    text = str(error)
    if isinstance(error, OSError) and error.errno in _FULL:
        return f"the disk is full ({error.filename or 'no file named'})"
    if isinstance(error, SafetensorError) and any(f"os error {number}" in text for number in _FULL):
        return "the disk is full (model.safetensors)"
    if isinstance(error, RuntimeError) and "PytorchStreamWriter failed" in text:  # it keeps the reason to itself
        return "the disk took no more (optimizer.pt or another .pt): it is full, or broken"
    return None


def _line(error: BaseException) -> str | None:
    text = str(error)
    if fault := disk_fault(error):
        return f"{fault}: free some space, then run the same command again; the last checkpoint is intact"
    no_memory = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in text
    if no_memory or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return (
            "out of memory: lower per_device_train_batch_size (with global_batch_size set, the run stays the same), or "
            "set activation_checkpointing"
        )
    if "DataLoader timed out" in text:
        return (
            "a worker that reads data has hung: look at the disk of cache_dir, or set dataloader_num_workers 0; then "
            "run the same command again"
        )
    if "DataLoader worker" in text:
        return (
            "a worker that reads data has died, most often for want of memory: lower dataloader_num_workers, then run "
            "the same command again"
        )
    if isinstance(error, distributed.DistError) or "gloo" in text:
        hung = "imed out" in text or "imeout" in text
        return (
            f"another process of this run {'gives no answer (ddp_timeout says how long to wait)' * hung or 'is gone'}: "
            "look for its own message and at its machine, then run the same command again"
        )
    return None


@contextmanager
def machine_faults() -> Iterator[None]:
    """Turn what a machine that fails raises into a MachineError that says what to change."""
    try:
        yield
    except (OSError, RuntimeError, MemoryError, SafetensorError) as error:
        line = _line(error)
        if line is None:
            raise
        if signals.reason() and line.startswith("another process"):  # it was asked to stop, too, and did so sooner
            raise signals.stopped() from None
        raise MachineError(line) from None
