"""Energy is what the counters say, over their starting over, and unknown rather than half known."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from clm.training.callbacks import energy
from clm.training.callbacks.energy import EnergyMeter, processor_counters


@pytest.fixture
def powercap(tmp_path, monkeypatch):
    """Two packages of 1 MJ each before their counters start over, a part of one, and the whole machine."""
    for zone, name in (("0", "package-0"), ("1", "package-1"), ("0:0", "core"), ("2", "psys")):
        folder = tmp_path / "powercap" / f"intel-rapl:{zone}"
        folder.mkdir(parents=True)
        (folder / "name").write_text(name + "\n")
        (folder / "max_energy_range_uj").write_text("1000000000000\n")
        (folder / "energy_uj").write_text("900000000000\n")
    monkeypatch.setattr(energy, "processor_counters", lambda: processor_counters(tmp_path / "powercap"))
    return tmp_path / "powercap"


def train(folder: Path, powercap: Path, uses: list[int], device: str = "cpu", step: int = 0) -> None:
    """A run from `step` during which package N's counter comes to uses[N] microjoules."""
    args = SimpleNamespace(output_dir=str(folder), world_size=1, device=torch.device(device))
    state = SimpleNamespace(is_world_process_zero=True, global_step=step)
    meter = EnergyMeter()
    meter.on_train_begin(args, state, None)
    for number, value in enumerate(uses):
        (powercap / f"intel-rapl:{number}" / "energy_uj").write_text(f"{value}\n")
    meter.on_train_end(args, state, None)


def test_the_packages_are_added_and_a_counter_may_start_over(tmp_path, powercap):
    assert len(processor_counters(powercap)) == 2
    # 50 kJ, and 100 kJ to the end of the other counter and 60 kJ from there: 210 kJ are 0.0583 kWh.
    train(tmp_path, powercap, [950_000_000_000, 60_000_000_000])
    written = json.loads((tmp_path / "energy.json").read_text())
    assert written == {"kwh": pytest.approx(210 / 3600), "processors": 2, "gpus": 0}


def test_a_resumed_run_takes_back_what_was_written_and_writes_nothing(tmp_path, powercap):
    train(tmp_path, powercap, [950_000_000_000])
    train(tmp_path, powercap, [960_000_000_000], step=5)
    assert not (tmp_path / "energy.json").exists()


def test_without_counters_or_with_one_that_goes_nothing_is_written(tmp_path, powercap):
    train(tmp_path, powercap, ["gone"])
    assert not (tmp_path / "energy.json").exists()
    for name in ("intel-rapl:0", "intel-rapl:1"):
        (powercap / name / "energy_uj").unlink()
    train(tmp_path, powercap, [])
    assert not (tmp_path / "energy.json").exists()


@pytest.fixture
def card(monkeypatch):
    """A GPU that only this process may see, as number 0, and another process that has one of its own."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="b"))
    monkeypatch.setattr(energy, "gather_object", lambda own: [*own, "a"])


def test_the_processors_alone_do_not_stand_for_a_run_on_gpus(tmp_path, powercap, monkeypatch, card):
    monkeypatch.setattr(energy, "gpu_counters", lambda uuids: [])
    train(tmp_path, powercap, [950_000_000_000], device="cuda")
    assert not (tmp_path / "energy.json").exists()
    joules = iter([1000.0, 4600.0])
    monkeypatch.setattr(energy, "gpu_counters", lambda uuids: [energy.Counter(lambda: next(joules))])
    train(tmp_path, powercap, [950_000_000_000], device="cuda")  # no more than before: 3.6 kJ of the GPU
    assert json.loads((tmp_path / "energy.json").read_text()) == {"kwh": 0.001, "processors": 2, "gpus": 1}


class Nvml:
    """NVML of a machine whose GPUs have used so many millijoules."""

    def __init__(self, used: dict[bytes, int]) -> None:
        self._used, self._names = used, list(used)

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlDeviceGetHandleByUUID(self, uuid, handle) -> int:
        handle._obj.value = self._names.index(uuid) + 1 if uuid in self._names else None
        return int(uuid not in self._names)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle, millijoules) -> int:
        millijoules._obj.value = self._used[self._names[handle.value - 1]]
        return 0


def test_the_gpus_of_all_processes_are_counted_whatever_this_one_sees(tmp_path, powercap, monkeypatch, card):
    nvml = Nvml({b"GPU-a": 1000, b"GPU-b": 2000, b"GPU-of-others": 5000})
    monkeypatch.setattr(energy.ctypes, "CDLL", lambda _: nvml)
    assert [counter.read() for counter in energy.gpu_counters(energy.gpus_of_run(torch.device("cuda", 0)))] == [1, 2]
    assert energy.gpu_counters(["a", "gone"]) == []
    train(tmp_path, powercap, [], device="cuda")
    assert json.loads((tmp_path / "energy.json").read_text()) == {"kwh": 0.0, "processors": 2, "gpus": 2}
