"""What a recipe may be planned for: GPUs by name, as their makers describe them, or this machine.

Peaks, memory and NVLink or PCIe are from NVIDIA's data sheets (one direction, decimal units); networks and prices are
assumptions, round figures of clouds at the end of 2025, to be replaced by one's own.
"""

import os
import time
from dataclasses import dataclass

from clm.errors import UserError
from clm.model.flops import PEAKS, UTILISATION, known_peak
from clm.numbers import duration

MEASURED_FOR = 0.2  # seconds: some tens of matmuls on a CPU, of which the best counts
DEVICES_PER_MACHINE = 8  # assumed, as in every maker's large machine


@dataclass(frozen=True)
class Device:
    """One device and its place among others. `price` is dollars an hour; 0 for one's own machine.

    Attributes:
        flops: FLOP/s of dense matmuls in the recipe's precision.
        memory: bytes.
        link: bytes a second to the other devices of its machine, one direction; None where nothing is known of it.
        network: bytes a second from its machine to others, its own share of that.
        measured: when `flops` were measured on this machine, in Unix time; 0 where a data sheet has them.
        cuda: whether the loss is cut as on CUDA, in large parts that take more memory.
    """

    name: str
    flops: float
    memory: float
    utilisation: float
    link: float | None = None
    network: float | None = None
    price: float = 0.0
    measured: float = 0.0
    cuda: bool = False


def _gpu(name: str, gigabytes: float, link: float, network: float, price: float) -> Device:
    peak, memory = PEAKS[name] * 1e12, gigabytes * 1e9
    return Device(name, peak, memory, UTILISATION["gpu"], link * 1e9, network * 1e9, price, cuda=True)


# Gigabytes, GB/s to the neighbours, GB/s of network, dollars an hour.
GPUS = {
    "b200": _gpu("B200", 180, 900, 50, 6.0),
    "h200": _gpu("H200", 141, 450, 50, 4.0),
    "h100": _gpu("H100", 80, 450, 50, 3.0),
    "h100-pcie": _gpu("H100 PCIe", 80, 64, 12.5, 2.5),
    "a100": _gpu("A100", 80, 300, 25, 1.8),
    "l40s": _gpu("L40S", 48, 32, 6.25, 1.0),
    "l4": _gpu("L4", 24, 32, 1.5, 0.7),
    "t4": _gpu("T4", 16, 16, 1.5, 0.35),
    "rtx4090": _gpu("RTX 4090", 24, 32, 1.25, 0.5),
    "rtx3090": _gpu("RTX 3090", 24, 32, 1.25, 0.3),
}


def by_name(name: str) -> Device:
    """The GPU that a user calls `name`.

    Raises:
        UserError: nothing is known of it.
    """
    found = GPUS.get(name.lower().replace(" ", "").replace("_", "-"))
    if found is None:
        raise UserError(f"--device {name}: known are {', '.join(GPUS)}; leave it out to plan for this machine")
    return found


def this_one(device: str, half: bool, processes: int) -> Device:
    """This machine's device of type `device`, its matmul rate measured now unless it is a GPU whose maker's is known.

    Main memory is shared by the processes.
    """
    import torch

    from clm.launch import hardware
    from clm.model.matmul_rate import half_dtype, measured_matmul_rate

    name = hardware.device_name(device)
    rate = known_peak(name) if device == "cuda" and half else None
    measured = 0.0
    if rate is None:
        rate = measured_matmul_rate(device, half_dtype(device) if half else torch.float32, seconds=MEASURED_FOR)
        measured = time.time()
    if device == "cuda":
        memory = float(torch.cuda.get_device_properties(0).total_memory)
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / processes
    name = "this CPU" if device == "cpu" else f"this {name}"
    utilisation = UTILISATION["cpu" if device == "cpu" else "gpu"]
    return Device(name, rate, memory, utilisation, measured=measured, cuda=device == "cuda")


def assumptions(device: Device, processes: int) -> dict[str, str]:
    """What the estimates for these devices rest on."""
    rate = "the data sheet's dense matmuls in half precision"
    if device.measured:
        age = time.time() - device.measured
        rate = f"matmuls measured here {'just now' if age < 60 else f'{duration(age)} ago'}"
    reached = "measured at 12 x 768; a small model reaches less" if device.name == "this CPU" else "assumed"
    notes = {
        "memory": "estimate: fp32 weights, gradients and optimizer states, and the tensors that a block keeps for its "
        "backward pass, which were counted; half a gigabyte for the process; 92 % of a device's memory can be used",
        "seconds": f"estimate: {device.utilisation:.0%} ({reached}) of "
        f"{device.flops / 1e9:,.0f} GFLOP/s, {rate}; without evaluations, saving and the start",
    }
    if processes > 1:
        notes["communication"] = (
            f"estimate: rings at 80 % of {device.link / 1e9:,.0f} GB/s within a machine of {DEVICES_PER_MACHINE}, "
            f"{device.network / 1e9:,.1f} GB/s of network for each device (assumed), beside the arithmetic as far as "
            "it may be (docs/scaling.md)"
            if device.link and device.network
            else "nothing is known of the links between these processes: sending counts as nothing"
        )
    if device.price:
        notes["dollars"] = f"estimate: ${device.price:.2f} an hour for each device (assumed; look up your cloud's)"
    return notes
