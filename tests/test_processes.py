"""Two processes train as one does, and either goes on from the other's checkpoint; so do other micro-batches."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.chaos import ends, start
from tests.tiny import ROOT, cut_off, history, launch, muon_in_fp32, run, write_recipe

# The epoch ends within a step, so that one process has rows of padding in its last batch. No dropout, which draws by
# process.
RECIPE = {
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "gradient_accumulation_steps": None,
    "global_batch_size": 24,
    "max_steps": 9,
    "load_best_model_at_end": True,
    "save_total_limit": 20,
}
FSDP2 = ("--config_file", str(ROOT / "recipes/accelerate/fsdp2.yaml"), "--num_processes", "2")


def two(output_dir: str) -> str:
    """Two processes of tiny.json under DDP; what they said."""
    Path("log.txt").unlink(missing_ok=True)
    assert set(ends(start(Path.cwd(), output_dir, 2))) == {0}, Path("log.txt").read_text()
    return Path("log.txt").read_text()


def same(ours: str, theirs: str, weights: float = 1e-4) -> None:
    """Losses to 1e-5, weights to `weights`, and everything that is counted exactly."""
    for key in ("loss", "eval_loss"):
        assert history(ours, key) == pytest.approx(history(theirs, key), abs=1e-5), key
    one, other = (load_file(Path(folder, "model.safetensors")) for folder in (ours, theirs))
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert (tensor.shape, tensor.dtype) == (other[name].shape, other[name].dtype)
        assert torch.allclose(tensor, other[name], rtol=0, atol=weights), name
    assert Path(ours, "config.json").read_bytes() == Path(theirs, "config.json").read_bytes()
    results = [json.loads(Path(folder, "all_results.json").read_text()) for folder in (ours, theirs)]
    for key in ("train_tokens", "train_steps", "eval_tokens", "eval_words", "eval_bytes"):
        assert results[0][key] == results[1][key], key


@pytest.mark.parametrize("sampling", ["blocks", pytest.param("windows", marks=pytest.mark.slow)])
def test_two_processes_train_as_one_and_go_on_from_each_other(workplace, sampling):
    write_recipe(**RECIPE, sampling=sampling)
    assert run("--output_dir", "one") == 0
    said = two("two")
    assert "processes: 2" in said and said.count("step 9/9") == 1 and said.count("steps: 9 of 24 sequences") == 1
    same("two", "one")

    cut_off("two", "from-two")
    assert run("--output_dir", "from-two") == 0
    same("from-two", "one")
    cut_off("one", "from-one")
    assert "number of processes: 1 wrote the checkpoint, now there are 2: the same data" in two("from-one")
    same("from-one", "one")


@pytest.mark.slow
def test_four_processes_train_as_one(workplace):
    write_recipe(**RECIPE)
    assert run("--output_dir", "one") == 0
    assert set(ends(start(Path.cwd(), "four", 4))) == {0}, Path("log.txt").read_text()
    assert "processes: 4" in Path("log.txt").read_text()
    same("four", "one")


def test_two_processes_go_on_bit_for_bit_from_their_own_checkpoint(workplace):
    write_recipe(**RECIPE | {"resid_pdrop": 0.1})
    two("two")
    cut_off("two", "again")
    assert "resuming from again/checkpoint-3" in two("again")
    same("again", "two", weights=0.0)
    assert history("again", "loss") == history("two", "loss")


def test_a_micro_batch_that_is_no_part_of_the_batch_is_made_one_on_any_number_of_processes(workplace):
    # quickstart's numbers: 16 sequences a step, which one process takes at once.
    write_recipe(**RECIPE | {"global_batch_size": 16, "per_device_train_batch_size": 16})
    assert run("--output_dir", "one") == 0
    said = two("two")
    line = "micro-batch: 8 sequences instead of 16, which don't add up to global_batch_size 16 over 2 processes\n"
    assert said.count(line) == 1 and said.count("steps: 9 of 16 sequences") == 1
    assert json.loads(Path("two/trainer_state.json").read_text())["train_batch_size"] == 8
    same("two", "one")


def test_a_run_goes_on_with_other_micro_batches_of_the_same_batch(workplace, capsys):
    # The epoch's last step has fewer sequences, and the run goes on before it.
    write_recipe(**RECIPE)
    assert run("--output_dir", "one", "--per_device_train_batch_size", "24") == 0
    cut_off("one", "other")
    capsys.readouterr()
    assert run("--output_dir", "other", "--per_device_train_batch_size", "4") == 0
    assert "resuming from other/checkpoint-3" in capsys.readouterr().out
    assert json.loads(Path("other/trainer_state.json").read_text())["train_batch_size"] == 4  # for the next start
    assert len(history("other", "loss")) == 9
    same("other", "one")


@pytest.mark.parametrize("optim", [pytest.param("adamw_torch_fused", marks=pytest.mark.slow), "muon"])
def test_fsdp2_trains_as_one_process_and_goes_on_from_its_checkpoint(workplace, optim):
    write_recipe(**RECIPE, optim=optim)
    with muon_in_fp32():
        assert run("--output_dir", "one") == 0
    done = launch(*FSDP2, str(ROOT / "tests/fsdp2_on_gloo.py"), "--config", "tiny.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step 9/9") == 1
    same("out", "one", weights=1e-5)
    # Samples are drawn from whole weights, by the main process only.
    assert Path("out/samples.jsonl").read_text() == Path("one/samples.jsonl").read_text()
    header = [Path(folder, "model.safetensors").read_bytes()[:500] for folder in ("out", "one")]
    assert header[0] == header[1]

    cut_off("out", "plain")
    with muon_in_fp32():
        assert run("--output_dir", "plain") == 0
    same("plain", "one")


@pytest.mark.slow
def test_fsdp2_goes_on_from_the_checkpoint_of_one_process(workplace):
    write_recipe(**RECIPE)
    assert run() == 0
    shutil.copytree("out", "one")
    shutil.rmtree("out")
    cut_off("one", "out")
    done = launch(*FSDP2, str(ROOT / "tests/fsdp2_on_gloo.py"), "--config", "tiny.json")
    assert done.returncode == 0, done.stderr
    assert "resuming from out/checkpoint-3" in done.stdout
    same("out", "one", weights=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("extra", [(), ("--activation_checkpointing", "true")])
def test_fsdp2_in_bf16_keeps_its_loss_in_fp32(workplace, extra):
    write_recipe(**RECIPE, bf16=True)
    assert run("--output_dir", "one") == 0
    done = launch(*FSDP2, str(ROOT / "tests/fsdp2_on_gloo.py"), "--config", "tiny.json", *extra)
    assert done.returncode == 0, done.stderr
    losses = torch.tensor(history("out", "loss"))
    assert not torch.equal(losses.bfloat16().float(), losses)
    assert losses.tolist() == pytest.approx(history("one", "loss"), abs=0.02)
    assert all(tensor.dtype == torch.float32 for tensor in load_file("out/model.safetensors").values())
