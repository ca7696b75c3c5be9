"""Speed, FLOP/s and shares, with a clock that is set by hand."""

import pytest
import torch

from clm.model import flops
from clm.training import throughput
from clm.training.throughput import Throughput


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now[0])
    return now


def test_speed_leaves_out_evaluation_and_saving(clock):
    run = Throughput(tokens_per_step=1000, flops_per_token=2e9, peak_flops=4e12)
    run.start(10, elapsed_seconds=50.0)
    clock[0] += 5
    for what in ("evaluation", "saving", "data", "logging"):
        with run.waiting_for(what):
            clock[0] += 1
    reading = run.read(14)  # 4 steps of 1,000 tokens in 9 - 2 seconds
    assert reading["tokens_per_second"] == pytest.approx(4000 / 7, abs=0.1)
    assert reading["tflops"] == pytest.approx(4000 / 7 * 2e9 / 1e12, abs=1e-4)
    assert reading["mfu"] == pytest.approx(4000 / 7 * 2e9 / 4e12, abs=1e-4)
    assert reading["elapsed_seconds"] == 59.0 and reading["memory_gb"] > 0
    clock[0] += 1
    assert run.read(16)["tokens_per_second"] == 2000
    results = run.results(6)
    assert results["tokens_per_second"] == 6000 / 8
    assert {results[f"{what}_share"] for what in ("evaluation", "saving", "data", "logging")} == {0.1}


def test_without_a_known_peak_there_is_no_mfu(clock):
    run = Throughput(1000, 2e9, None)
    clock[0] += 1
    assert "mfu" not in run.read(1) and "mfu" not in run.results(1)


def test_the_flops_of_a_token_by_hand():
    # 10 parameters in matmuls: 6 x 10; 2 layers, 4 wide, 8 tokens of context: 6 x 2 x 4 x 8.
    assert flops.flops_per_token(10, n_layer=2, n_embd=4, block_size=8) == 60 + 384


@pytest.mark.parametrize(
    ("name", "peak"),
    [("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA L40S", 362e12), ("Unknown", None)],
)
def test_common_gpus_have_a_peak_in_bf16_only(name, peak):
    assert flops.peak_flops("cuda", name, bf16=True) == peak
    assert flops.peak_flops("cuda", name, bf16=False) is None


def test_a_cpus_peak_is_measured():
    assert flops.measured_matmul_rate("cpu", torch.float32, size=64, seconds=0.01) > 1e6
