"""The random generators of a process: where they stand, as values that load without running code."""

import random
from typing import Any

import numpy as np
import torch


def get() -> dict[str, Any]:
    """How Python's, numpy's and torch's generators stand; of a GPU where this process uses one."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), *rest],
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
    }


def put(state: dict[str, Any]) -> None:
    """Let the generators stand as they did."""
    name, keys, *rest = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((name, keys.numpy(), *rest))
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(state["cuda"])
    if state.get("mps") is not None and torch.backends.mps.is_available():  # older checkpoints have none
        torch.mps.set_rng_state(state["mps"])
