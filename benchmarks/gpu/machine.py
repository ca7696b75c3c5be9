"""The card, its driver, the wheel and the compiler: what every other part stands on."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.gpu.rows import Row, fact, left_out, number
from benchmarks.gpu.setting import Setting
from clm.launch import acceleration, hardware
from clm.model import flops, liger, matmul_rate

DRIVER = Path("/proc/driver/nvidia/version")


def check(setting: Setting) -> Iterator[Row]:
    """Prove that this torch has kernels for this card, that Triton compiles, and that the card is known by name."""
    device = torch.device(setting.device)
    name = hardware.device_name(setting.device)
    yield Row("card", name)
    yield Row("torch", f"{torch.__version__}, CUDA {torch.version.cuda}")
    yield Row("driver", DRIVER.read_text("utf-8").splitlines()[0] if DRIVER.exists() else "no NVIDIA kernel module")
    if setting.device == "cuda":
        yield from _card(name)
    for line in hardware.fit({"bf16": True, "use_cpu": setting.rehearsal}).lines[1:]:
        yield Row("training", line)
    yield _tried("a small matmul and its gradient", _multiply, device)
    if setting.rehearsal:
        return
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))), "none found")
    yield Row("C compiler", compiler)
    yield _tried("torch.compile on something small", acceleration.compile_a_little, device)
    if missing := liger.missing():
        yield left_out("Liger Kernel's loss on something small", missing)
    else:
        yield _tried("Liger Kernel's loss on something small", liger.try_out, device)


def _multiply(device: torch.device) -> None:
    square = torch.ones(8, 8, device=device, requires_grad=True)
    (square @ square).sum().backward()
    assert square.grad.sum().item() == 2 * 8 * 64


def _tried(name: str, attempt: Callable[[torch.device], None], device: torch.device) -> Row:
    fault = acceleration.fault_of(attempt, device)
    return fact(name, fault is None, fault or "works", "works")


def _card(name: str) -> Iterator[Row]:
    """Its properties, and its matmuls beside what its name promises: a wrong peak makes every MFU wrong."""
    properties = torch.cuda.get_device_properties(0)
    capability = f"{properties.major}.{properties.minor}"
    yield Row("compute capability; kernels in the wheel", f"{capability}; {' '.join(torch.cuda.get_arch_list())}")
    yield number("memory", properties.total_memory / 1e9, "GB")
    yield number("GPUs that are visible", torch.cuda.device_count())
    yield number("/dev/shm, which NCCL needs", shutil.disk_usage("/dev/shm").total / 1e9, "GB")
    from clm.launch import gpus  # imported here, so that without it the rest of this part is still found

    gpus.check_driver()
    gpus.check_kernels()
    half = matmul_rate.half_dtype("cuda")
    peak, rate = flops.known_peak(name), matmul_rate.measured_matmul_rate("cuda", half, seconds=2.0)
    yield number(f"matmuls of 8,192 in {str(half).removeprefix('torch.')}", rate / 1e12, "TFLOP/s")
    if peak is None:
        yield Row("the same, share of the peak by name", "the name isn't in the table: its peak is measured")
    else:
        yield number("the same, share of the peak by name", rate / peak, at_least=0.5, at_most=1.05)
