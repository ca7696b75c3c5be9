"""The machine that a measurement holds for."""

import datetime
import platform
from importlib.metadata import version
from typing import Any

import torch

from clm.cores import usable_cores
from clm.launch import environment, hardware

PACKAGES = ("torch", "transformers", "datasets", "tokenizers", "gigatoken", "numpy", "pyarrow")


def machine() -> dict[str, Any]:
    """Processor, GPU if there is one, cores, system, versions and the date, for a benchmark's JSON."""
    gpu = {"gpu": hardware.device_name("cuda")} if torch.cuda.is_available() else {}
    return {
        "cpu": environment.cpu_name(),
        **gpu,
        "cores": usable_cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "date": datetime.date.today().isoformat(),
    }
