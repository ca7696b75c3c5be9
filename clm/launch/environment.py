"""What a run ran on and with, kept with the run."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from clm.cores import usable_cores
from clm.launch import hardware

ENVIRONMENT_FILE = "environment.json"
_PACKAGES = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy")


def environment(args: TrainingArguments) -> dict[str, Any]:
    """What environment.json holds: device, precision, processes, the machine, and versions."""
    return {
        "device": device_name(args.device),
        "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
        "processes": args.world_size,
        "cpu_cores": usable_cores(),
        "cpu_threads": torch.get_num_threads(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
    }


def device_name(device: torch.device) -> str:
    """The processor or the GPU, as its maker calls it."""
    return cpu_name() if device.type == "cpu" else hardware.device_name(device.type)


def cpu_name() -> str:
    """The processor as its maker calls it, where Linux tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "CPU"


def _memory_gb() -> float | None:
    """Main memory in GB, where the system tells."""
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)
    except (ValueError, OSError, AttributeError):
        return None
