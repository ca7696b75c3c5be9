"""GPUs that torch can't use, and GPUs that nobody uses: said before any work, not found out after weeks on a CPU."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from clm.errors import UserError

if TYPE_CHECKING:  # takes seconds to import, and a plan has no use for it
    from transformers import TrainingArguments

_DRIVER_FILE, _DEVICES = Path("/proc/driver/nvidia/version"), Path("/dev")
_DRIVER_OF_WSL = Path("/usr/lib/wsl/lib/libcuda.so.1")  # Linux in Windows has the driver's library, and no device file
# The oldest Linux driver for each CUDA (docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html).
_OLDEST_DRIVER = {"12": 525, "13": 580}
# The wheels for older drivers, and for cards older than Turing. They have kernels from Maxwell to Hopper, and there are
# none from torch 2.15 on (PyTorch's RELEASE.md, CUDA Support Matrix; pytorch#190385).
_CUDA_12 = "https://download.pytorch.org/whl/cu126"
_HIDDEN = ("", "-1", "NoDevFiles")  # values of CUDA_VISIBLE_DEVICES by which a user or Slurm hides all of them


def check_driver() -> None:
    """Stop where there is an NVIDIA GPU that torch can't use, when the run would otherwise be a CPU's.

    Raises:
        UserError: it is so, with torch's own reason and what to install.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in _HIDDEN
    there = any(_DEVICES.glob("nvidia[0-9]*")) or _DRIVER_OF_WSL.exists()
    if torch.version.cuda is None or hidden or not there:
        return
    driver, why, remedy = _driver(), _reason(), "nvidia-smi says more"
    oldest = _OLDEST_DRIVER.get(torch.version.cuda.split(".")[0])
    number = int(driver.split(".")[0]) if driver else None
    known = bool(number and oldest and number < oldest)
    if known:
        why = f"its driver is {driver}, and CUDA {torch.version.cuda} needs {oldest} or newer"
    if known and number < _OLDEST_DRIVER["12"]:
        remedy = "update the driver"
    elif known or "too old" in why:
        remedy = f"update the driver, or, for a card older than Blackwell, install the CUDA 12 wheels ({_install()})"
    raise UserError(
        f"there is an NVIDIA GPU, but torch {torch.__version__} can't use it: {why}: {remedy}; to use the CPU all the "
        "same, say --use_cpu true (or set ACCELERATE_USE_CPU=true)"
    )


def _driver() -> str | None:
    """The version of NVIDIA's kernel module, as in 535.183.01."""
    try:
        found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", _DRIVER_FILE.read_text("utf-8"))
    except OSError:
        return None
    return found[0] if found else None


def _reason() -> str:
    """Torch's own words, the first sentence of them."""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return " ".join(str(error).split()).split(". ")[0][:200]
    return "it finds none"


def _install() -> str:
    version = torch.__version__.split("+")[0]
    return f"pip install torch=={version} --index-url {_CUDA_12}"


def check_kernels() -> None:
    """Stop where this torch has no kernels for this process's GPU.

    Raises:
        UserError: it is so, with what to install.
    """
    built = [re.match(r"(sm|compute)_(\d+)(\d)", name) for name in torch.cuda.get_arch_list()]
    kernels = [(match[1], (int(match[2]), int(match[3]))) for match in built if match]
    if torch.version.hip or not kernels:
        return
    index = int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()
    card = torch.cuda.get_device_capability(index)
    # Machine code serves its own major version from its minor one on; PTX is compiled for any newer card.
    if any(card >= built if kind == "compute" else card[0] == built[0] and card >= built for kind, built in kernels):
        return
    name = torch.cuda.get_device_name(index)
    oldest = min(built for _, built in kernels)
    remedy = f"install the CUDA 12 wheels ({_install()})" if card < oldest else "install a newer torch"
    raise UserError(
        f"{name} has compute capability {_dotted(card)}, and torch {torch.__version__} has no kernels for it (the "
        f"oldest are for {_dotted(oldest)}): {remedy}, or use the CPU (--use_cpu true, or ACCELERATE_USE_CPU=true)"
    )


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"


def check_count(training: dict[str, object]) -> None:
    """Stop where processes of this machine would share a GPU, which NCCL can't do. gloo can.

    With a single GPU visible each may have been given its own; where that isn't so, NCCL says it (`faults`).

    Raises:
        UserError: it is so.
    """
    processes, cards = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    own = cards == 1 and "CUDA_VISIBLE_DEVICES" in os.environ
    if processes > cards and not own and training.get("ddp_backend") != "gloo":
        raise UserError(
            f"{processes} processes were launched on this machine, which has {cards} GPU{'s' * (cards > 1)}: launch "
            f"with --num_processes {cards}"
        )


def use_one(args: TrainingArguments, recipe: str) -> list[str]:
    """Let each process use one GPU, as the Trainer of a single process would not; a line where others are idle.

    Seeing several, the stock Trainer wraps the model in DataParallel, which gives a vector of losses.
    """
    args._n_gpu = min(args.n_gpu, 1)
    if args.device.type != "cuda":
        return []
    processes, cards = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if cards <= processes:
        return []
    launch = f"accelerate launch --config_file recipes/accelerate/ddp.yaml --num_processes {cards}"
    used = f"{processes} of {cards} {'is' if processes == 1 else 'are'} used"
    return [f"GPUs: {used}, the others are idle; to use them all: {launch} run_clm.py --config {recipe}"]
