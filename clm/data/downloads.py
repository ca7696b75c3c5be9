"""Where what comes from the Hub is kept."""

import os
from pathlib import Path

from huggingface_hub import constants


def hub_cache(cache_dir: str | Path) -> str:
    """The folder for downloads: below the recipe's cache_dir, but where HF_HOME or HF_HUB_CACHE say if one is set."""
    if {"HF_HOME", "HF_HUB_CACHE"} & set(os.environ):
        return constants.HF_HUB_CACHE
    return str(Path(cache_dir) / "hub")
