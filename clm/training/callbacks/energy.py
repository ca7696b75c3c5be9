"""Energy by the machine's own counters, where it lets them be read: RAPL for processors, NVML for NVIDIA's cards."""

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from clm.files import write_json

ENERGY_FILE = "energy.json"
POWERCAP = Path("/sys/class/powercap")
_SECONDS = 30.0  # between two looks: a processor's counter starts over within minutes


@dataclass(frozen=True)
class Counter:
    """Joules used since some moment; from `limit`, if there is one, it starts over at 0."""

    read: Callable[[], float]
    limit: float | None = None


def processor_counters(folder: Path = POWERCAP) -> list[Counter]:
    """Linux's RAPL counter of each processor package (AMD's too); none where they can't be read, often root's only."""
    found = []
    for zone in sorted(folder.glob("intel-rapl:*")):
        try:
            if (zone / "name").read_text().startswith("package"):  # others are parts of these, or hold them
                read = _joules_of(zone / "energy_uj")
                read()
                found.append(Counter(read, int((zone / "max_energy_range_uj").read_text()) / 1e6))
        except (OSError, ValueError):
            continue
    return found


def _joules_of(path: Path) -> Callable[[], float]:
    return lambda: int(path.read_text()) / 1e6


def gpu_counters(uuids: list[str]) -> list[Counter]:
    """NVML's counters of the GPUs with these identities; none where one of them has none (before Volta, or a slice)."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return []
    found = []
    for uuid in uuids:
        handle = ctypes.c_void_p()
        if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode(), ctypes.byref(handle)):
            return []
        if nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(ctypes.c_ulonglong())):
            return []
        found.append(Counter(_joules_of_gpu(nvml, handle)))
    return found


def gpus_of_run(device: torch.device) -> list[str]:
    """The identities of the GPUs that the run's processes use, on every process.

    Each names its own: the numbers that torch gives the cards are of those that a process may see, so they differ.
    """
    return sorted(set(gather_object([str(torch.cuda.get_device_properties(device).uuid)])))


def _joules_of_gpu(nvml: ctypes.CDLL, handle: ctypes.c_void_p) -> Callable[[], float]:
    def read() -> float:
        millijoules = ctypes.c_ulonglong()
        if nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)):
            raise OSError("NVML has lost the device")
        return millijoules.value / 1e3

    return read


class EnergyMeter(TrainerCallback):
    """Writes energy.json at the end of a run that one start has trained from its first step, on one machine.

    It counts all that the processors and the run's GPUs used meanwhile, other programs' share of it included.
    """

    def __init__(self) -> None:
        self._counters: list[Counter] = []

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start to count, if all of the run will be seen."""
        used = gpus_of_run(args.device) if args.device.type == "cuda" else []
        if not state.is_world_process_zero:
            return
        (Path(args.output_dir) / ENERGY_FILE).unlink(missing_ok=True)
        one_machine = args.world_size == int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if state.global_step > 0 or not one_machine:
            return
        processors = processor_counters()
        gpus = gpu_counters(used)
        if args.device.type == "cuda" and not gpus:  # the processors alone would mislead
            return
        if processors or gpus:
            self._of = {"processors": len(processors), "gpus": len(gpus)}
            self._start([*processors, *gpus])

    def _start(self, counters: list[Counter]) -> None:
        self._counters, self._joules, self._over = counters, 0.0, Event()
        self._last = [counter.read() for counter in counters]
        self._watcher = Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        while not self._over.wait(_SECONDS):
            self._count()

    def _count(self) -> None:
        """Add what was used since the last look; where a counter is gone, the sum is no longer known."""
        try:
            now = [counter.read() for counter in self._counters]
        except (OSError, ValueError):
            self._counters = []
            return
        for counter, before, after in zip(self._counters, self._last, now, strict=True):
            self._joules += after - before + (counter.limit or 0.0) * (after < before)
        self._last = now

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write down what was counted."""
        if not self._counters:
            return
        self._over.set()
        self._watcher.join()
        self._count()
        if self._counters:
            write_json(Path(args.output_dir) / ENERGY_FILE, {"kwh": self._joules / 3.6e6, **self._of})
