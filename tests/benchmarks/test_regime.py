"""The rows of benchmarks.regime are read from their names."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks.regime import results
from benchmarks.regime.parts import optimizer_with
from benchmarks.regime.results import Results
from benchmarks.regime.rows import SIZES, read
from benchmarks.regime.tables import TABLES, print_tables


def test_a_name_says_what_is_changed_and_the_rest_is_wt103s():
    row = read("rate 0.01, cosine to 0, wd 1.6, epochs 50, decay cautious, rows balanced, ema 0.99", SIZES["large"])
    assert (row.keys["learning_rate"], row.keys["weight_decay"], row.keys["num_train_epochs"]) == (0.01, 1.6, 50)
    assert (row.keys["lr_scheduler_type"], row.keys["n_embd"], row.keys["adam_beta2"]) == ("cosine", 96, 0.95)
    assert row.parts == {"decay": "cautious", "rows balanced": True, "ema": 0.99}
    remembered = read("rate 0.01, remembers 4", SIZES["deep"]).keys
    assert (remembered["weight_decay_epochs"], remembered["n_layer"]) == (4, 8) and "weight_decay" not in remembered
    changed = read("dropout 0.3, attention dropout 0.2, batch 4", SIZES["small"]).keys
    assert [changed[key] for key in ("resid_pdrop", "embd_pdrop", "attn_pdrop")] == [0.3, 0.3, 0.2]
    assert changed["per_device_train_batch_size"] == 4


def test_every_row_of_the_tables_can_be_read():
    for table in TABLES.values():
        for name in table.rows:
            read(name, SIZES[table.sizes[0]])


def test_a_change_that_nothing_knows_is_refused():
    with pytest.raises(SystemExit, match="no change is called 'wdd 3'"):
        read("wdd 3", SIZES["small"])


def test_one_dimensional_weights_take_a_rate_and_a_decay_of_their_own(monkeypatch):
    matrix, vector = (torch.nn.Parameter(torch.ones(*shape)) for shape in ((2, 2), (2,)))
    blocks = torch.nn.ParameterDict({"matrix": matrix, "vector": vector})
    model = torch.nn.Module()
    model.transformer = torch.nn.Module()
    model.transformer.h = blocks
    keys = {
        "learning_rate": 0.1,
        "weight_decay": 0.4,
        "adam_beta1": 0.9,
        "adam_beta2": 0.95,
        "adam_epsilon": 1e-8,
        "optim_args": None,
    }
    for parts, expected in (({}, (0.1, 0.0)), ({"1-d rate": 3.0, "1-d wd": 0.5}, (0.3, 0.2))):
        vectors = optimizer_with(parts)(model, SimpleNamespace(**keys)).param_groups[3]
        assert (vectors["lr"], vectors["weight_decay"]) == pytest.approx(expected)


def test_a_run_says_its_cpu_and_arithmetic_and_a_mean_is_of_one_kind(tmp_path, monkeypatch, capsys):
    run = {"row": "base", "size": "small", "best": 4.0}
    kept = Results(tmp_path / "runs.json")
    for cpu, kind, seed, end in (
        ("first", "bf16", 1, 4.0),
        ("second", "bf16", 2, 4.2),
        ("second", "amx", 1, 5.0),
        ("second", "amx", 2, 5.2),
        ("second", "fp32", 1, 6.0),
    ):
        monkeypatch.setattr(results, "machine", lambda cpu=cpu: {"cpu": cpu})
        monkeypatch.setattr(results, "arithmetic", lambda kind=kind: kind)
        kept.keep(run | {"seed": seed, "end": end})
    runs = kept.known()["runs"]
    assert [each.get("cpu") for each in runs] == [None, "second", "second", "second", "second"]
    assert [each.get("arithmetic") for each in runs] == [None, None, "amx", "amx", "fp32"]
    print_tables(runs)
    printed = capsys.readouterr().out
    assert "| base | 4.100 ± 0.100 | 4.000 | 2 |" in printed
    assert "| base * | 5.100 ± 0.100 | 4.000 | 2 |" in printed
    assert "| base † | 6.000 | 4.000 | 1 |" in printed


def test_a_cpu_with_amx_can_do_without(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert results.arithmetic() == "amx"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
    assert results.arithmetic() == "bf16"


def test_a_cpu_without_bf16_trains_in_fp32(monkeypatch):
    for asked in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, asked, lambda: False)
    assert results.arithmetic() == "fp32"
