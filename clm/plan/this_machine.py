"""This machine as the device of a plan. What torch finds out about it is kept for an hour.

To import torch and time its matmuls takes two seconds, where the rest of a plan takes half of one. It is kept in the
user's cache, not in the project: there a plan writes nothing.
"""

import hashlib
import json
import os
import platform
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from clm.config.recipe import Recipe
from clm.cores import usable_cores
from clm.files import read_json, write_json
from clm.plan import devices
from clm.plan.devices import Device

KEPT = 3600.0  # seconds: a rate that was measured beside other work mustn't stay for good
_BOOT = Path("/proc/sys/kernel/random/boot_id")  # another one on every machine, and after every start of it
_ASKED = ("use_cpu", "bf16", "tf32", "ddp_backend")  # keys of a recipe that decide what is used, and in what precision
_ENVIRONMENT = ("CUDA_VISIBLE_DEVICES", "LOCAL_WORLD_SIZE", "LOCAL_RANK", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def this_device(recipe: Recipe, processes: int) -> tuple[Device, bool]:
    """What this machine has to train the recipe on, and whether that will be in half precision.

    Raises:
        UserError: it has a GPU that can't be used.
    """
    known = _identity(recipe, processes)
    name = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
    cache = _cache() if known["boot"] else None
    kept = read_json(cache / f"machine-{name}.json") if cache else None
    with suppress(KeyError, TypeError):  # a file that isn't ours
        if 0 <= time.time() - kept["device"]["measured"] < KEPT:
            return Device(**kept["device"]), kept["half"]
    device, half = _found_out(recipe, processes)
    if device.measured and cache:
        with suppress(OSError):  # then the next plan measures, too
            cache.mkdir(parents=True, exist_ok=True)
            write_json(cache / f"machine-{name}.json", {"device": asdict(device), "half": half})
    return device, half


def _cache() -> Path | None:
    """Where programs of this user may keep what they can find out again; None for a user without a home."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "clm"
    with suppress(RuntimeError):
        return Path.home() / ".cache" / "clm"
    return None


def _found_out(recipe: Recipe, processes: int) -> tuple[Device, bool]:
    from clm.launch import hardware  # imports torch, which a plan for another device doesn't need

    fitted = hardware.fit(recipe.training).training
    half = bool(fitted["bf16"] or fitted.get("fp16"))
    return devices.this_one(hardware.device_type(fitted), half, processes), half


def _identity(recipe: Recipe, processes: int) -> dict[str, Any]:
    """All that the answer depends on: the machine, what of it may be used, torch, and what the recipe asks for."""
    boot = ""
    with suppress(OSError):
        boot = _BOOT.read_text("ascii").strip()
    return {
        "boot": boot,
        "host": platform.node(),
        "cores": usable_cores(),
        "gpus": sorted(map(str, Path("/dev").glob("nvidia*"))),
        "torch": metadata.version("torch"),
        "python": sys.prefix,
        "environment": {
            name: value for name, value in os.environ.items() if name in _ENVIRONMENT or name.startswith("ACCELERATE_")
        },
        "asked": {key: recipe.training.get(key) for key in _ASKED},
        "processes": processes,
    }
