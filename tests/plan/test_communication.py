"""The closed formulas of communication, held against rings that are simulated chunk by chunk."""

import math

import numpy as np
import pytest

from clm.plan import communication
from clm.plan.devices import DEVICES_PER_MACHINE, GPUS, Device

LINK, NETWORK = 450e9, 50e9
DEVICE = Device("a GPU", 1e15, 80e9, 0.4, LINK, NETWORK)


def ring_all_reduce(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Sum `values` (devices, numbers) over devices, every one sending to the next one only, a chunk at a time.

    Returns what each device then has, the numbers that each has sent, and the steps taken.
    """
    devices = len(values)
    chunks = [list(np.array_split(row.copy(), devices)) for row in values]
    sent, steps = np.zeros(devices, int), 0
    for phase in ("reduce-scatter", "all-gather"):
        for step in range(devices - 1):
            first = 0 if phase == "reduce-scatter" else 1  # whose chunk a device begins with
            moving = [chunks[d][(d + first - step) % devices].copy() for d in range(devices)]
            for d in range(devices):
                to, number = (d + 1) % devices, (d + first - step) % devices
                sent[d] += len(moving[d])
                chunks[to][number] = moving[d] + chunks[to][number] if phase == "reduce-scatter" else moving[d]
            steps += 1
    return np.array([np.concatenate(row) for row in chunks]), sent, steps


@pytest.mark.parametrize("devices", [2, 3, 8, 64])
def test_a_ring_sums_and_sends_what_the_formula_says(devices):
    values = np.random.default_rng(0).integers(0, 100, (devices, 10 * devices))
    has, sent, steps = ring_all_reduce(values)
    assert (has == values.sum(0)).all()
    told, hops = communication.all_reduce(10 * devices, devices)
    assert (sent == told).all() and steps == hops == 2 * (devices - 1)


def seconds_of_rings(devices: int, size: float) -> float:
    """An all-reduce by one ring for each place in a machine, step by step over links that rings share.

    Ring r leaves each machine by its device number r, so by that one's network adapter.
    """
    machines = max(1, devices // DEVICES_PER_MACHINE)
    here = min(devices, DEVICES_PER_MACHINE)
    rings = here if machines > 1 else 1
    share = size / rings
    seconds = 0.0
    for _ in range(2 * (devices - 1)):
        out_of_device = np.zeros((machines, here))
        out_of_adapter = np.zeros((machines, here))
        for ring in range(rings):
            order = [(ring + 1 + place) % here for place in range(here)]  # ends with device `ring`
            for machine in range(machines):
                for device in order[:-1] if machines > 1 else order:
                    out_of_device[machine, device] += share / devices
                if machines > 1:
                    out_of_adapter[machine, ring] += share / devices
        seconds += max(out_of_device.max() / LINK, out_of_adapter.max() / NETWORK)
    return seconds


@pytest.mark.parametrize("devices", [2, 8, 16, 64, 512])
def test_rings_over_shared_links_are_as_fast_as_the_formula_says(devices):
    size = 4e8
    simulated = seconds_of_rings(devices, size)
    sent, _ = communication.all_reduce(size, devices)
    assert sent / communication.ring_rate(DEVICE, devices) * communication.LINK_SHARE == pytest.approx(simulated)


def tree_all_reduce(values: list[int]) -> tuple[list[int], int]:
    """Sum over machines that combine in pairs, and hand the sum back down: what each then has, and the rounds taken."""
    machines, rounds, apart = len(values), 0, 1
    while apart < machines:
        for machine in range(0, machines - apart, 2 * apart):
            values[machine] += values[machine + apart]
        apart, rounds = 2 * apart, rounds + 1
    while apart > 1:
        apart, rounds = apart // 2, rounds + 1
        for machine in range(0, machines - apart, 2 * apart):
            values[machine + apart] = values[machine]
    return values, rounds


@pytest.mark.parametrize("machines", [1, 2, 3, 8, 64])
def test_a_tree_takes_as_many_rounds_as_the_formula_says(machines):
    has, rounds = tree_all_reduce(list(range(machines)))
    assert has == [sum(range(machines))] * machines
    assert rounds == 2 * communication.tree_depth(machines)
    ring = 2 * (8 * machines - 1) * communication.hop_seconds(8 * machines)
    tree = 2 * (7 * communication.LINK_HOP + rounds / 2 * communication.NETWORK_HOP)
    assert communication.latency(8 * machines) == pytest.approx(min(ring, tree))


def test_a_hop_is_longer_where_it_leaves_the_machine():
    link, network = communication.LINK_HOP, communication.NETWORK_HOP
    assert communication.hop_seconds(8) == link
    ring = [network if device % 8 == 7 else link for device in range(64)]
    assert 64 * communication.hop_seconds(64) == pytest.approx(math.fsum(ring))


def test_every_gpu_is_faster_within_its_machine_than_beyond():
    for gpu in GPUS.values():
        assert gpu.link > gpu.network > 0 and gpu.memory > 1e9 and gpu.price > 0
