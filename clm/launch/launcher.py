"""What started this process: the launcher's command, its accelerate file, and what they ask for."""

import os
from pathlib import Path

from accelerate.commands.config.config_args import default_yaml_config_file, load_config_from_file

_MODULE = "accelerate/commands/launch.py"  # of `python -m accelerate.commands.launch`


def asks_for(engine: str) -> bool:
    """Whether the accelerate file asks for `engine`: FSDP, DEEPSPEED or MEGATRON_LM."""
    return os.environ.get(f"ACCELERATE_USE_{engine}", "").lower() in ("1", "true", "yes")


def _launcher() -> list[str]:
    """The command that started this process, from `accelerate` on; empty if it is another one or can't be seen."""
    try:
        words = Path(f"/proc/{os.getppid()}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []
    names = ("accelerate", "accelerate-launch", "accelerate.commands.launch")
    started = [number for number, word in enumerate(words) if word.endswith(_MODULE) or Path(word).name in names]
    return words[started[0] :] if started else []


def _launcher_option(name: str) -> str:
    """The value of an option in that command; empty where it isn't given."""
    words = _launcher()
    for word, following in zip(words[1:], [*words[2:], ""], strict=False):
        if word.endswith(".py"):  # from here on they are the script's
            break
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.removeprefix(f"{name}=")
    return ""


def processes_asked_for() -> int:
    """How many the launcher's command asks for, or else the accelerate file in force; 0 if neither says."""
    asked = _launcher_option("--num_processes")
    if asked.isdigit():
        return int(asked)
    file = accelerate_file()
    return load_config_from_file(file).num_processes or 0 if file != "none" else 0


def accelerate_file() -> str:
    """The accelerate configuration in force, as the launcher's command line and defaults tell."""
    if given := _launcher_option("--config_file"):
        return given
    return default_yaml_config_file if _launcher() and Path(default_yaml_config_file).is_file() else "none"
