"""Speed, FLOP/s and shares, with a clock that is set by hand."""

from types import SimpleNamespace

import pytest
import torch

from clm.config.fields import ModelOptions
from clm.model import flops, matmul_rate
from clm.model.distillation import Teachers
from clm.model.gpt2 import from_config, model_config
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
    ("name", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H20", 148),
        ("NVIDIA H200", 989),
        ("NVIDIA B200", 2250),
        ("NVIDIA B300 SXM6 AC", 2250),
        ("NVIDIA GB200", 2500),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA A10G", 70),
        ("NVIDIA A10", 125),
        ("NVIDIA A40", 150),
        ("NVIDIA RTX A6000", 155),
        ("NVIDIA L4", 121),
        ("NVIDIA L40", 181),
        ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 2080 with Max-Q Design", None),
        ("NVIDIA GeForce RTX 4080", 97),
        ("NVIDIA GeForce RTX 4080 SUPER", 104),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA A40-48Q", None),
        ("Tesla V100-PCIE-16GB", 112),
        ("Tesla V100-SXM2-32GB", 125),
        ("NVIDIA GeForce RTX 5090", 210),
        ("NVIDIA GeForce RTX 5070 Ti", 88),
        ("Tesla T4", 65),
        ("Unknown", None),
    ],
)
def test_cards_of_one_name_are_told_apart(name, teraflops):
    assert flops.known_peak(name) == (teraflops and teraflops * 1e12)


def test_what_no_data_sheet_tells_is_measured(monkeypatch):
    matmul_rate.peak_flops.cache_clear()
    measured = {torch.float32: 20e12, torch.bfloat16: 300e12}
    monkeypatch.setattr(matmul_rate, "measured_matmul_rate", lambda device, dtype: measured[dtype])
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert matmul_rate.peak_flops("cuda", "NVIDIA H100 PCIe", half=True) == 756e12
    assert matmul_rate.peak_flops("cuda", "NVIDIA H100 PCIe", half=False) == 20e12
    assert matmul_rate.peak_flops("cuda", "NVIDIA A100-SXM4-40GB MIG 3g.20gb", half=True) == 300e12
    assert matmul_rate.peak_flops("mps", "mps", half=False) is None
    matmul_rate.peak_flops.cache_clear()


def test_a_gpus_matmuls_are_queued_and_waited_for_once(monkeypatch):
    now, queued, waits = [0.0], [0], []

    def mm(left, right, out):
        now[0] += 1e-5  # the launch
        queued[0] += 1

    def synchronize():  # each matmul takes 10 ms, the way there and back 50
        now[0] += queued[0] * 0.01 + 0.05
        waits.append(queued[0])
        queued[0] = 0

    monkeypatch.setattr(matmul_rate.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(matmul_rate.torch, "mm", mm)
    square = torch.empty(1000, 1000)
    rate = matmul_rate._queued_rate(square, square, synchronize, seconds=3.5)
    # Two take 70.02 ms, so 99 of 35.01 ms fit into 3.5 s; each is 2 x 1000^3 FLOPs.
    assert max(waits) == 99 and sum(count > 2 for count in waits) == 1
    assert rate == pytest.approx(99 * 2e9 / (99 * 0.01001 + 0.05))


def test_a_cpus_peak_is_measured():
    assert matmul_rate.measured_matmul_rate("cpu", torch.float32, size=64, seconds=0.01) > 1e6


def test_the_work_of_teachers_counts(clock):
    args = SimpleNamespace(device=torch.device("cpu"), per_device_train_batch_size=1, gradient_accumulation_steps=1,
                           world_size=1, bf16=False, fp16=False)  # fmt: skip
    model = from_config(model_config(ModelOptions(n_layer=1, n_head=2, n_embd=8), 16, vocab_size=50, end_of_text=0))

    def flops_a_token() -> float:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(throughput, "peak_flops", lambda *_: None)
            results = throughput.throughput_of(model, args).results(10**12)
        return results["tflops"] * 1e12 / results["tokens_per_second"]

    alone = flops_a_token()
    model.teachers = Teachers([from_config(model.config)] * 2, 0.5)
    # Forward and backward of the student are three parts, the forward of each teacher, which is as large, is one.
    assert flops_a_token() == pytest.approx(alone * 5 / 3, rel=1e-6)
