"""Checkpoint folders: their names, and what interrupted writes leave beside them."""

import re
import shutil
from pathlib import Path

from clm.files import STAGED_FILES, read_json_object

EXPORT_STAGING = ".export.tmp"
STAGED_FOLDERS = ".*.tmp"
_NAME = re.compile(r"checkpoint-(\d+)")


def step_of(folder: Path) -> int:
    """The optimizer step in a checkpoint folder's name."""
    return int(_NAME.fullmatch(folder.name)[1])


def is_name(name: str) -> bool:
    """Whether a folder of this name would be a checkpoint's."""
    return _NAME.fullmatch(name) is not None


def folders_in(output_dir: Path) -> list[Path]:
    """The checkpoint folders there, intact or not."""
    return [folder for folder in output_dir.glob("checkpoint-*") if is_name(folder.name) and folder.is_dir()]


def best_of(folder: Path) -> Path | None:
    """The checkpoint of the best model, as the one in `folder` remembers it: its neighbour, wherever that now is."""
    step = read_json_object(folder / "trainer_state.json").get("best_global_step")
    return folder.parent / f"checkpoint-{step}" if isinstance(step, int) and step else None


def remove_leftovers(output_dir: Path) -> None:
    """Delete what was left half-done by killed saves, rotations, exports and pushes; in a folder nobody else writes."""
    for folder in (*output_dir.glob(".checkpoint-*"), *output_dir.glob(STAGED_FOLDERS)):
        shutil.rmtree(folder, ignore_errors=True)
    for file in output_dir.glob(STAGED_FILES):
        file.unlink()
