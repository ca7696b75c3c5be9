"""What devices that train together have to send each other, and how long that takes: closed formulas.

Collectives are rings: each of N devices sends to its neighbour only (Patarasuk and Yuan 2009, *Bandwidth optimal
all-reduce algorithms for clusters of workstations*); an all-reduce of short messages is a pair of trees, as in NCCL
since 2.4 (Sanders, Speck and Träff 2009, *Two-tree algorithms for full bandwidth broadcast, reduction and scan*), with
the ring's bandwidth in fewer hops. Their simulation is in tests/plan/test_communication.py; docs/scaling.md has what
they give.
"""

import math
from dataclasses import dataclass

from clm.plan.devices import DEVICES_PER_MACHINE, Device
from clm.plan.memory import Shape

LINK_SHARE = 0.8  # of a link's data-sheet rate that a collective reaches: assumed
LINK_HOP, NETWORK_HOP = 1e-6, 5e-6  # seconds until the shortest message is at the neighbour: assumed


def ring_pass(size: float, devices: int) -> tuple[float, int]:
    """An all-gather or a reduce-scatter of `size` bytes in all: what each device sends, and in how many hops."""
    return size * (devices - 1) / devices, devices - 1


def all_reduce(size: float, devices: int) -> tuple[float, int]:
    """An all-reduce of `size` bytes on each device: a reduce-scatter, then an all-gather."""
    sent, hops = ring_pass(size, devices)
    return 2 * sent, 2 * hops


def ring_rate(device: Device, devices: int) -> float:
    """Bytes a second that each device of the ring can send.

    Within a machine that is its link. Between machines there is a ring for every network adapter, and each ring carries
    a part of the data: together they are as fast as the adapters of a machine.
    """
    rate = device.link
    if devices > DEVICES_PER_MACHINE:
        rate = min(rate, device.network * DEVICES_PER_MACHINE)
    return rate * LINK_SHARE


def hop_seconds(devices: int) -> float:
    """The mean over a ring's hops, one from each machine being over the network."""
    machines = math.ceil(devices / DEVICES_PER_MACHINE) if devices > DEVICES_PER_MACHINE else 0
    return LINK_HOP + (NETWORK_HOP - LINK_HOP) * machines / devices


def latency(devices: int) -> float:
    """Seconds of an all-reduce of next to nothing: the ring's hops, or up and down a tree of machines, if faster."""
    machines = math.ceil(devices / DEVICES_PER_MACHINE)
    within = min(devices, DEVICES_PER_MACHINE) - 1
    tree = 2 * (within * LINK_HOP + tree_depth(machines) * NETWORK_HOP)
    return min(2 * (devices - 1) * hop_seconds(devices), tree)


def tree_depth(machines: int) -> int:
    """Hops from a leaf to the root of a balanced binary tree of machines that are combined in pairs."""
    return (machines - 1).bit_length()


@dataclass(frozen=True)
class Communication:
    """Of one optimizer step: bytes that each device sends, and seconds if nothing else went on."""

    sent: float
    seconds: float


def _rings(sends: list[tuple[float, int]], device: Device, devices: int) -> Communication:
    sent = sum(size for size, _ in sends)
    hops = sum(count for _, count in sends)
    return Communication(sent, sent / ring_rate(device, devices) + hops * hop_seconds(devices))


BUCKET = 25 * 2**20  # bytes of gradients that DDP reduces at a time, by default


def ddp(shape: Shape, device: Device, devices: int) -> Communication:
    """DDP: fp32 gradients are all-reduced once a step, in buckets, after its last micro-batch."""
    size = 4 * shape.parameters
    sent, _ = all_reduce(size, devices)
    waits = math.ceil(size / BUCKET) * latency(devices)
    return Communication(sent, sent / ring_rate(device, devices) + waits)


def fsdp2(shape: Shape, device: Device, devices: int) -> Communication:
    """FSDP2: each micro-batch gathers the weights for its forward pass, and the blocks' again for its backward pass.

    Gradients are reduce-scattered in fp32 after the last micro-batch. A block is a collective, the rest are two.
    """
    weights, hops = ring_pass(_compute_bytes(shape) * (shape.parameters + shape.blocks), devices)
    gradients, _ = ring_pass(4 * shape.parameters, devices)
    gathers = shape.accumulation * (2 * shape.n_layer + 2)
    sends = [(shape.accumulation * weights, gathers * hops), (gradients, (shape.n_layer + 2) * hops)]
    return _rings(sends, device, devices)


def zero2(shape: Shape, device: Device, devices: int) -> Communication:
    """DeepSpeed's ZeRO-2: every micro-batch reduce-scatters its gradients; the step ends by gathering the weights."""
    size, hops = ring_pass(_compute_bytes(shape) * shape.parameters, devices)
    buckets = math.ceil(_compute_bytes(shape) * shape.parameters / BUCKET)
    rounds = shape.accumulation + 1
    return _rings([(rounds * size, rounds * buckets * hops)], device, devices)


def _compute_bytes(shape: Shape) -> int:
    return 2 if shape.bf16 else 4


def hidden_seconds(compute: float, accumulation: int, once_a_step: bool) -> float:
    """Seconds of communication that a step's arithmetic of `compute` seconds can hide, if all overlaps that may.

    What is sent once a step overlaps with the backward pass of the last micro-batch, which is two thirds of that one's
    arithmetic. What every micro-batch sends overlaps with all arithmetic.
    """
    return compute * 2 / 3 / accumulation if once_a_step else compute
