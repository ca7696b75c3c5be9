"""What this machine can do, and what a recipe's requests become on it."""

import ctypes
import os
from dataclasses import dataclass, field
from typing import Any

import torch

from clm.cores import usable_cores
from clm.launch import gpus


@dataclass
class Decision:
    """TrainingArguments fit for this machine, and a line for every choice that was made."""

    training: dict[str, Any]
    lines: list[str] = field(default_factory=list)


def device_type(training: dict[str, Any]) -> str:
    """`cuda`, `mps` or `cpu`: where the Trainer will run."""
    if _wants_cpu(training):
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _wants_cpu(training: dict[str, Any]) -> bool:
    return bool(training.get("use_cpu")) or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")


def device_name(device: str) -> str:
    """The device as its maker calls it."""
    return torch.cuda.get_device_name() if device == "cuda" else device


def has_bf16(device: str) -> bool:
    """Whether matmuls in bfloat16 have hardware of their own here, not an emulation."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def has_fp16(device: str) -> bool:
    """Whether matmuls in float16 have hardware of their own here: NVIDIA's tensor cores, from Volta on."""
    return device == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability() >= (7, 0)


def fit(training: dict[str, Any], trains: bool = True) -> Decision:
    """Turn what the recipe asks for into what this machine has, saying each choice.

    bf16 where there is hardware for it, else fp16 with a gradient scaler where it `trains`, else fp32; TF32 for what
    stays fp32 on a card that has it; on a CPU as many threads as this process's share of the cores.

    Raises:
        UserError: there is a GPU that can't be used, or shared as this launch would.
    """
    device = device_type(training)
    decision = Decision(dict(training))
    if device == "cuda":
        gpus.check_kernels()
        gpus.check_count(training)
    elif not _wants_cpu(training):
        gpus.check_driver()
    if device == "cpu":
        # Without it TrainingArguments refuses bf16 on a machine that has no GPU.
        decision.training["use_cpu"] = True
        threads = max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        torch.set_num_threads(threads)
        _keep_freed_memory()
        decision.lines.append(f"device: CPU, {threads} thread{'s' * (threads > 1)}")
    else:
        decision.lines.append(f"device: {device_name(device)}")
    _fit_precision(decision, device, trains)
    _fit_tf32(decision, device)
    return decision


def use_deterministic_kernels() -> str:
    """Have torch add in one order wherever it can choose, and refuse what it can't do so; the line that says it.

    To be called before the first matmul on a GPU: cuBLAS reads its setting once. It is what transformers'
    `full_determinism` sets, without its waiting for every kernel.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # NVIDIA, cuBLAS, Results Reproducibility
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing here reads memory that it hasn't written
    torch.backends.cudnn.benchmark = False
    return "kernels: deterministic ones only, as the recipe asks"


def _keep_freed_memory() -> None:
    """Have glibc keep what a step frees for the next one, which needs the same again.

    By default it gives large tensors' memory back at once, and the system fills every page with zeros before the next
    tensor has it: 12 x 768 in bf16 trained a fifth slower so.
    """
    m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4  # malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library
        return
    mallopt(m_mmap_max, 0)  # a mapping of its own is given back whatever the threshold says
    mallopt(m_trim_threshold, -1)  # never
    mallopt(m_top_pad, 256 << 20)


def _fit_precision(decision: Decision, device: str, trains: bool) -> None:
    wanted = bool(decision.training.get("bf16"))
    sharded = any(
        os.environ.get(f"ACCELERATE_USE_{engine}", "").lower() in ("1", "true", "yes")
        for engine in ("FSDP", "DEEPSPEED")
    )
    if not wanted or has_bf16(device):
        line = "bf16 autocast over fp32 weights" if wanted else "fp32"
    elif trains and has_fp16(device) and not sharded:
        decision.training |= {"bf16": False, "fp16": True}
        line = "fp16 autocast over fp32 weights and a gradient scaler, since this device has no bf16 arithmetic"
    else:
        decision.training["bf16"] = False
        line = "fp32, since this device has no bf16 arithmetic"
    decision.lines.append(f"precision: {line}")


def _fit_tf32(decision: Decision, device: str) -> None:
    # AMD's cards have capabilities, too, and torch calls them cuda, but TF32 is NVIDIA's.
    has_tf32 = device == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability() >= (8, 0)
    if decision.training.get("tf32") and not has_tf32:
        decision.lines.append("tf32: not on this device, left off")
        decision.training["tf32"] = None
    elif has_tf32 and decision.training.get("tf32") is None:
        decision.training["tf32"] = True
        decision.lines.append("tf32: on for training's remaining fp32 matmuls")
    if has_tf32:
        set_tf32(decision.training["tf32"])


def set_tf32(on: bool) -> None:
    """Say by torch's older switch, too, what TrainingArguments say by the new one: whether matmuls are in TF32.

    NVIDIA's containers turn the older one on by TORCH_ALLOW_TF32_CUBLAS_OVERRIDE, accelerate where it compiles in fp32.
    Inductor reads it under max-autotune, and where the two disagree torch raises.
    """
    torch.set_float32_matmul_precision("high" if on else "highest")
