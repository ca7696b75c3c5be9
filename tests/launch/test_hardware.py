"""What becomes of a recipe's requests on GPUs that are made up: cards, drivers and launches of all kinds."""

import os
from types import SimpleNamespace

import pytest
import torch
from transformers import Trainer, TrainingArguments
from transformers.utils import import_utils

from clm.errors import UserError
from clm.launch import gpus, hardware
from clm.model import matmul_rate
from clm.plan import devices
from tests.tiny import run, write_recipe

WHEEL = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]  # torch 2.13's for CUDA 13.0


@pytest.fixture
def matmul_precision():
    """torch's TF32 switches come back as they were."""
    yield
    torch.backends.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.fp32_precision = "none"
    torch.backends.mkldnn.matmul.fp32_precision = "none"


@pytest.fixture
def launch(monkeypatch, matmul_precision):
    """A function that puts this process on a machine with GPUs, as one of so many."""

    def on(name="NVIDIA H100 80GB HBM3", capability=(9, 0), cards=1, processes=1, bf16=True, kernels=WHEEL, **place):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: name)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: kernels)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16)
        place = {"LOCAL_WORLD_SIZE": str(processes), "LOCAL_RANK": "0", **place}
        for key in ("CUDA_VISIBLE_DEVICES", "ACCELERATE_USE_CPU"):
            monkeypatch.delenv(key, raising=False)
        for key, value in place.items():
            monkeypatch.setenv(key, value)

    return on


@pytest.fixture
def old_driver(monkeypatch, tmp_path):
    """A function that makes this a machine with a card and so old a driver that torch sees no GPU."""

    def on(driver="535.183.01", cuda="13.0"):
        line = f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {driver}  Wed May 15 14:39:48 UTC 2024\nGCC version:\n"
        (tmp_path / "version").write_text(line)
        (tmp_path / "nvidia3").touch()  # a container may have been given any one
        monkeypatch.setattr(gpus, "_DRIVER_FILE", tmp_path / "version")
        monkeypatch.setattr(gpus, "_DEVICES", tmp_path)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch, "__version__", "2.13.0+cu130")
        for key in ("CUDA_VISIBLE_DEVICES", "ACCELERATE_USE_CPU"):
            monkeypatch.delenv(key, raising=False)

    return on


# One process, one GPU


def test_one_process_uses_one_gpu_and_says_that_the_others_are_idle(launch):
    launch(cards=4)
    args = SimpleNamespace(device=torch.device("cuda", 0), n_gpu=4)
    (line,) = gpus.use_one(args, "recipes/wt103.json")
    assert args._n_gpu == 1
    assert line == (
        "GPUs: 1 of 4 is used, the others are idle; to use them all: accelerate launch --config_file "
        "recipes/accelerate/ddp.yaml --num_processes 4 run_clm.py --config recipes/wt103.json"
    )


@pytest.mark.parametrize(("cards", "processes", "said"), [(4, 4, 0), (1, 1, 0), (1, 4, 0), (8, 2, 1)])
def test_nothing_is_said_where_every_gpu_is_used(launch, cards, processes, said):
    launch(cards=cards, processes=processes)
    on_gpu, on_cpu = (SimpleNamespace(device=torch.device(device), n_gpu=cards) for device in ("cuda", "cpu"))
    assert len(gpus.use_one(on_gpu, "r.json")) == said
    assert gpus.use_one(on_cpu, "r.json") == []


def test_a_run_that_sees_two_gpus_is_not_split_among_them(workplace, monkeypatch):
    made = TrainingArguments.__post_init__

    def sees_two(args: TrainingArguments) -> None:
        made(args)
        args._n_gpu = 2  # as the stock TrainingArguments count them; the Trainer then takes DataParallel

    monkeypatch.setattr(TrainingArguments, "__post_init__", sees_two)
    assert run("--max_steps", "1", "--eval_strategy", "no", "--load_best_model_at_end", "false") == 0


def test_more_processes_than_gpus_is_one_line(launch):
    launch(cards=2, processes=4)
    with pytest.raises(UserError, match=r"4 processes were launched on this machine, which has 2 GPUs: .*processes 2$"):
        hardware.fit({})
    hardware.fit({"ddp_backend": "gloo"})
    launch(cards=1, processes=2)
    with pytest.raises(UserError, match="which has 1 GPU: launch with --num_processes 1"):
        hardware.fit({})
    launch(cards=1, processes=2, CUDA_VISIBLE_DEVICES="1")  # each may have its own
    hardware.fit({})


# Drivers and kernels


def test_a_driver_that_is_too_old_is_no_cpu_run(old_driver):
    old_driver()
    with pytest.raises(UserError) as raised:
        hardware.fit({"bf16": True})
    assert str(raised.value) == (
        "there is an NVIDIA GPU, but torch 2.13.0+cu130 can't use it: its driver is 535.183.01, and CUDA 13.0 needs "
        "580 or newer: update the driver, or, for a card older than Blackwell, install the CUDA 12 wheels (pip install "
        "torch==2.13.0 --index-url https://download.pytorch.org/whl/cu126); to use the CPU all the "
        "same, say --use_cpu true (or set ACCELERATE_USE_CPU=true)"
    )


def test_a_driver_that_is_too_old_for_cuda_12_has_to_be_updated(old_driver):
    old_driver("470.82.01")
    with pytest.raises(UserError, match=r"needs 580 or newer: update the driver; to use the CPU"):
        hardware.fit({})


@pytest.mark.parametrize(
    ("torchs", "said"),
    [
        (
            "Unexpected error from cudaGetDeviceCount(). Did you",
            "error from cudaGetDeviceCount(): nvidia-smi says more",
        ),
        ("The NVIDIA driver on your system is too old (found version 12020). Please", "12020): update the driver, or"),
    ],
)
def test_another_reason_is_told_in_torchs_words(old_driver, monkeypatch, tmp_path, torchs, said):
    def refuse():
        raise RuntimeError(torchs)

    old_driver("580.65.06")
    (tmp_path / "version").unlink()  # Linux in Windows, which has neither of the two
    (tmp_path / "nvidia3").rename(tmp_path / "libcuda.so.1")
    monkeypatch.setattr(gpus, "_DRIVER_OF_WSL", tmp_path / "libcuda.so.1")
    monkeypatch.setattr(torch.cuda, "init", refuse)
    with pytest.raises(UserError) as raised:
        hardware.fit({})
    assert said in str(raised.value)


def test_a_machine_without_a_card_trains_on_its_cpu(old_driver, tmp_path):
    old_driver()
    (tmp_path / "nvidia3").unlink()
    (tmp_path / "nvidiactl").touch()
    assert hardware.fit({}).lines[0].startswith("device: CPU")


def test_who_asks_for_the_cpu_gets_it(old_driver, monkeypatch):
    old_driver()
    assert hardware.fit({"use_cpu": True}).training["use_cpu"]
    for key, value in (("CUDA_VISIBLE_DEVICES", ""), ("CUDA_VISIBLE_DEVICES", "-1"), ("ACCELERATE_USE_CPU", "true")):
        with monkeypatch.context() as changed:
            changed.setenv(key, value)
            assert hardware.fit({}).lines[0].startswith("device: CPU")
    monkeypatch.setattr(torch.version, "cuda", None)  # a torch for CPUs
    assert hardware.fit({}).lines[0].startswith("device: CPU")


@pytest.mark.parametrize(
    ("capability", "remedy"),
    [
        ((6, 1), "install the CUDA 12 wheels (pip install torch==2.13.0 --index-url"),
        ((7, 0), "install the CUDA 12 wheels"),
        ((11, 0), None),
        ((8, 9), None),
        ((12, 1), None),
        ((13, 0), None),  # from PTX
        ((7, 5), None),
    ],
    ids=str,
)
def test_a_card_without_kernels_is_one_line(launch, monkeypatch, capability, remedy):
    monkeypatch.setattr(torch, "__version__", "2.13.0")
    kernels = [*WHEEL, "sm_110"]
    launch("Tesla P100", capability, kernels=kernels)
    if remedy is None:
        hardware.fit({})
        return
    with pytest.raises(UserError) as raised:
        hardware.fit({})
    dotted = ".".join(map(str, capability))
    assert f"Tesla P100 has compute capability {dotted}, and torch 2.13.0 has no kernels" in str(raised.value)
    assert "(the oldest are for 7.5)" in str(raised.value) and remedy in str(raised.value)


def test_a_card_newer_than_all_kernels_wants_a_newer_torch(launch):
    launch("NVIDIA R100", (14, 0), kernels=["sm_75", "sm_90a"])
    with pytest.raises(UserError, match="install a newer torch"):
        hardware.fit({})
    launch("NVIDIA R100", (14, 0), kernels=[])  # a torch of one's own that doesn't tell
    hardware.fit({})


# TF32


def test_tf32_is_on_in_both_of_torchs_ways_to_say_it(launch):
    launch()
    decision = hardware.fit({"bf16": True})
    assert decision.training["tf32"] is True
    import_utils.enable_tf32.__wrapped__(True)  # as TrainingArguments does
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    assert torch.get_float32_matmul_precision() == "high"  # Inductor asks so under max-autotune


def test_tf32_false_wins_over_the_old_switch(launch):
    launch()
    torch.set_float32_matmul_precision("high")  # NVIDIA's containers
    hardware.fit({"tf32": False})
    import_utils.enable_tf32.__wrapped__(False)
    assert torch.backends.cuda.matmul.fp32_precision == "ieee" and torch.get_float32_matmul_precision() == "highest"


def test_a_run_that_wants_no_tf32_has_none_whatever_accelerate_sets(workplace, monkeypatch, matmul_precision):
    create = Trainer.create_accelerator_and_postprocess

    def create_as_for_compiled_fp32(trainer: Trainer) -> None:
        create(trainer)
        torch.backends.cuda.matmul.allow_tf32 = True

    monkeypatch.setattr(Trainer, "create_accelerator_and_postprocess", create_as_for_compiled_fp32)
    write_recipe(tf32=False, max_steps=1, eval_strategy="no", load_best_model_at_end=False)
    assert run() == 0
    assert torch.backends.cuda.matmul.fp32_precision != "tf32" and torch.get_float32_matmul_precision() == "highest"


def test_amds_cards_have_no_tf32_and_any_name(launch, monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "7.1")
    launch("AMD Instinct MI300X", (9, 4), kernels=["gfx942"])
    assert hardware.fit({"bf16": True}).training.get("tf32") is None
    decision = hardware.fit({"tf32": True})
    assert decision.training["tf32"] is None and "tf32: not on this device, left off" in decision.lines
    assert os.environ["LOCAL_RANK"] == "0"


# What plan takes this machine for


@pytest.mark.parametrize(
    ("name", "rate", "said"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12, "989,000 GFLOP/s, the data sheet's dense matmuls"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 30e12, "30,000 GFLOP/s, matmuls measured here just now"),
    ],
)
def test_a_card_is_planned_with_its_makers_peak_a_slice_with_a_measured_one(launch, monkeypatch, name, rate, said):
    launch(name)
    monkeypatch.setattr(matmul_rate, "measured_matmul_rate", lambda device, dtype, seconds: 30e12)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(total_memory=80e9))
    device = devices.this_one("cuda", half=True, processes=1)
    assert (device.flops, device.memory, device.name) == (rate, 80e9, f"this {name}")
    assert said in devices.assumptions(device, 1)["seconds"]
