"""What a machine that fails raises, the one line that it is turned into."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from safetensors import SafetensorError
from torch import distributed

from clm.errors import MachineError, PeerFault, ProcessFault, UserError, path_fault
from clm.launch import signals

_FULL = (errno.ENOSPC, errno.EDQUOT)
_SHARED_MEMORY = ("/dev/shm", "shared memory segment", "(shm)", "</torch_", "Bus error")
# In what NCCL raises where it is a process that it talks to that has ended. gloo raises little else.
_GONE = ("closed by", "reset by", "Broken pipe", "ncclRemoteError", "refused", "likely closed")
_SILENT = ("imed out", "imeout")
# Where it isn't torch's allocator that found no memory: a context, and the workspaces of cuBLAS and cuDNN.
_NO_MEMORY = ("DefaultCPUAllocator", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC")
_BROKEN_GPU = ("uncorrectable ECC", "unspecified launch failure", "hardware stack error", "busy or unavailable")


def disk_fault(error: BaseException) -> str | None:
    """What is wrong with the disk, where that is why `error` was raised."""
    text = str(error)
    if isinstance(error, OSError) and error.errno in _FULL:
        return f"the disk is full ({error.filename})" if error.filename else "the disk is full"
    if isinstance(error, SafetensorError) and any(f"os error {number}" in text for number in _FULL):
        return "the disk is full (model.safetensors)"
    if isinstance(error, RuntimeError) and "PytorchStreamWriter failed" in text:  # it keeps the reason to itself
        return "the disk took no more (optimizer.pt or another .pt): it is full, or broken"
    return None


def _own_line(error: BaseException) -> str | None:
    """What is wrong with this process or its machine."""
    text = str(error)
    if isinstance(error, RuntimeError) and any(word in text for word in _SHARED_MEMORY):
        return (
            f"/dev/shm, the memory that processes share, is too small or full ({_words(text)}): start the container "
            "with --ipc=host or --shm-size 8g, then run the same command again"
        )
    if fault := disk_fault(error):
        return f"{fault}: free some space, then run the same command again; what was saved before is intact"
    no_memory = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(word in text for word in _NO_MEMORY)
    if no_memory or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return (
            "out of memory: lower per_device_train_batch_size (with global_batch_size set, the run stays the same), or "
            "set activation_checkpointing"
        )
    if isinstance(error, torch.AcceleratorError) and any(word in text for word in _BROKEN_GPU):
        return (
            f"the GPU failed, or another program holds it ({' '.join(text.splitlines()[0].split())[:200]}): look at "
            "nvidia-smi and the kernel's log (Xid), then run the same command again"
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
    return None


def _words(text: str) -> str:
    """What NCCL or gloo itself says of an error, without the places in its source: one short line."""
    own = text.partition("Last error:")[2].strip() or text
    own = re.sub(r"\[[^\]]*/[^\]]*:\d+\]|(\S*/)?\S+\.(cc|cpp|hpp|h):\d+,?", "", own)
    return " ".join(own.split())[:200]


def _fault_of_communication(error: BaseException) -> MachineError | UserError | None:
    text = str(error)
    if not isinstance(error, distributed.DistError) and "gloo" not in text and "NCCL" not in text:
        return None
    if "Duplicate GPU" in text:
        return UserError(
            "two processes were given the same GPU: launch no more of them than there are GPUs (--num_processes)"
        )
    words, silent = _words(text), any(word in text for word in _SILENT)
    if "NCCL" in text and not silent and not any(word in text for word in _GONE):
        return ProcessFault(
            f"the processes can't talk to each other ({words}): NCCL_DEBUG=INFO in the environment says more; mend it, "
            "then run the same command again"
        )
    what = "gives no answer (ddp_timeout says how long to wait)" if silent else "is gone"
    return PeerFault(
        f"another process of this run {what}: look for its own message and at its machine ({words}), then run the same "
        "command again"
    )


@contextmanager
def machine_faults() -> Iterator[None]:
    """Turn what a machine that fails raises into a MachineError that says what to change."""
    try:
        yield
    except (OSError, RuntimeError, MemoryError, SafetensorError) as error:
        line = _own_line(error)
        of_path = path_fault(error) if isinstance(error, OSError) else None
        fault = ProcessFault(line) if line else of_path or _fault_of_communication(error)
        if fault is None:
            raise
        if signals.reason() and isinstance(fault, PeerFault):  # it was asked to stop, too, and did so sooner
            raise signals.stopped() from None
        raise fault from None
