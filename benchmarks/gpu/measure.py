"""Time, memory and launches on the device at hand."""

import gc
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.memory import peak_rss


def synchronize(device: str) -> None:
    """Wait for all that a GPU was asked to do."""
    if device == "cuda":
        torch.cuda.synchronize()


def milliseconds(work: Callable[[], object], device: str, rounds: int) -> float:
    """Median time of one call over five batches of `rounds`, each waited for at its end, as training would."""
    work()
    work()
    times = []
    for _ in range(5):
        synchronize(device)
        began = time.perf_counter()
        for _ in range(rounds):
            work()
        synchronize(device)
        times.append((time.perf_counter() - began) / rounds * 1e3)
    return statistics.median(times)


def forget(device: str) -> None:
    """Free what nobody holds, so that the next peak is the next measurement's own."""
    torch.compiler.reset()
    gc.collect()
    if device == "cuda":
        torch.cuda.init()  # there are no statistics before
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gigabytes(device: str) -> float:
    """The most that tensors took since `forget`; on a CPU, the process since its start."""
    return (torch.cuda.max_memory_allocated() if device == "cuda" else peak_rss()) / 1e9


def launches(work: Callable[[], object], device: str) -> int:
    """Kernels and copies that one call has a GPU start, counted by CUPTI; 0 on a CPU, or where CUPTI sees nothing."""
    work()
    synchronize(device)
    if device != "cuda":
        return 0
    with torch.profiler.profile(activities=list(torch.profiler.supported_activities())) as profile:
        work()
        synchronize(device)
    return sum(event.count for event in profile.key_averages() if _starts(event.key))


def _starts(name: str) -> bool:
    return name.startswith(("cudaLaunchKernel", "cuLaunchKernel", "cudaMemcpyAsync", "cudaMemsetAsync"))


def out_of_memory(error: Exception) -> bool:
    """Whether this is what torch raises where a card is too small."""
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error)
