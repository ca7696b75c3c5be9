"""Whole runs: what they leave behind, that they resume exactly, and that processes don't change them."""

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from clm.data.sources.documents import split
from clm.errors import UserError
from clm.launch import preflight
from clm.training import build
from clm.training.trainer import ClmTrainer
from tests.tiny import ROOT, history, launch, make_text, run, write_recipe


def validation_lines() -> list[str]:
    """The held-out lines of text.txt, found by what the store holds."""
    from clm.config.recipe import load
    from clm.data.prepare import open_text

    text = open_text(load("tiny.json").data, seed=42)
    return [line for batch in text.validation.documents() for line in batch.texts]


def test_the_command_of_the_readme_trains_and_leaves_a_model_that_loads(workplace):
    done = launch(str(ROOT / "run_clm.py"), "--config", "tiny.json")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr
    for name in (
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "generation_config.json",
        "recipe.json",
        "data.json",
        "environment.json",
        "report.html",
        "explanation.json",
        "loss_curve.png",
    ):
        assert Path("out", name).is_file()
    assert json.loads(Path("out/run_status.json").read_text())["state"] == "finished"
    assert "Finished: 6 of 6 steps" in Path("out/report.html").read_text()
    assert sorted(p.name for p in Path("out").glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-6"]
    config = json.loads(Path("out/config.json").read_text())
    assert config["architectures"] == ["GPT2LMHeadModel"] and config["use_cache"] is True

    model, tokenizer = AutoModelForCausalLM.from_pretrained("out"), AutoTokenizer.from_pretrained("out")
    assert model.config.vocab_size == len(tokenizer) == 300
    assert tokenizer.decode(tokenizer("naïve 🙂\n\tx")["input_ids"]) == "naïve 🙂\n\tx"
    assert tokenizer.model_max_length == config["n_positions"] == 16 and tokenizer.pad_token == "<|endoftext|>"
    said = pipeline("text-generation", model="out", batch_size=2)(["abc", "ab ab"])  # and nothing else
    assert said[0][0]["generated_text"].startswith("abc") and said[1][0]["generated_text"].startswith("ab ab")
    assert model.generate(tokenizer("abc", return_tensors="pt").input_ids).shape[1] <= 16

    results = json.loads(Path("out/all_results.json").read_text())
    lines = validation_lines()
    assert results["eval_bytes"] == sum(len(line.encode()) for line in lines)
    assert results["eval_words"] == sum(len(line.split()) for line in lines)
    assert results["train_tokens"] == 6 * 4 * 3 * 16
    assert results["eval_loss"] == pytest.approx(plain_loss(model.eval(), tokenizer, lines), rel=1e-6)
    assert results["perplexity"] == pytest.approx(math.exp(results["eval_loss"]))


def test_the_projects_accelerate_file_launches_it_and_is_named(workplace):
    given = str(ROOT / "accelerate_config.yaml")
    done = launch("--config_file", given, str(ROOT / "run_clm.py"), "--config", "tiny.json", "--max_steps", "1")
    assert done.returncode == 0, done.stderr
    assert f"accelerate file: {given}, processes: 1" in done.stdout and not done.stderr


def plain_loss(model, tokenizer, lines: list[str], block_size: int = 16) -> float:
    """Nats a token in plain PyTorch: each line from end-of-text, in blocks that don't fill a batch."""
    nats = tokens = 0
    for line in lines:
        ids = tokenizer(line)["input_ids"]
        stream = [tokenizer.eos_token_id, *ids]
        for start in range(0, len(ids), block_size):
            targets = torch.tensor(ids[start : start + block_size])
            logits = model(torch.tensor([stream[start : start + len(targets)]])).logits[0]
            nats += F.cross_entropy(logits.double(), targets, reduction="sum").item()
        tokens += len(ids)
    return nats / tokens


MUON = {"optim": "muon", "optim_args": "momentum=0.9,embeddings=2,positions=0.1,vectors=0.3"}


@pytest.mark.parametrize("changes", [{}, {"sampling": "windows"}, {"optim": "muon"}, MUON], ids=str)
def test_a_resumed_run_ends_with_the_very_weights_of_an_undisturbed_one(workplace, changes):
    # 48 samples a step of some 160 blocks: epochs end within a step, the second and third one are shifted, and dropout
    # is on. It goes on in the middle of the second.
    write_recipe(**changes, per_device_train_batch_size=16, max_steps=9, eval_steps=0.3)
    assert run() == 0
    undisturbed = load_file("out/model.safetensors")
    losses, evaluations = history("out", "loss"), history("out", "eval_loss")
    last = load_file("out/checkpoint-9/model.safetensors")
    for name in ("checkpoint-9", "model.safetensors", "run_status.json", "trainer_state.json"):
        path = Path("out", name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert run() == 0
    assert history("out", "loss") == losses and history("out", "eval_loss") == evaluations
    for name, tensor in load_file("out/checkpoint-9/model.safetensors").items():
        assert torch.equal(tensor, last[name]), name
    for name, tensor in load_file("out/model.safetensors").items():
        assert torch.equal(tensor, undisturbed[name]), name


def test_shares_of_all_steps_are_numbers_as_in_the_checkpoints_that_a_resume_compares_them_with():
    args = SimpleNamespace(logging_steps=0.25, eval_steps=None, save_steps=3)
    build._shares_in_steps(args, 9)
    assert vars(args) == {"logging_steps": 3, "eval_steps": None, "save_steps": 3}


def test_blocks_shift_from_the_second_epoch_on_in_dataloader_workers_too(workplace):
    # Dropout's numbers are others where workers outlive an epoch, whose start draws one.
    write_recipe(per_device_train_batch_size=16, max_steps=9, resid_pdrop=0.0, embd_pdrop=0.0)
    for name, argv in {
        "shifted": [],
        "workers": ["--dataloader_num_workers", "2", "--dataloader_persistent_workers"],
        "fixed": ["--shift_blocks", "false"],
    }.items():
        assert run("--output_dir", name, *argv) == 0
    shifted, workers, fixed = (history(name, "loss") for name in ("shifted", "workers", "fixed"))
    assert workers == shifted
    assert shifted[:4] == fixed[:4] and len(shifted) == 9  # an epoch has four steps
    assert all(ours != theirs for ours, theirs in zip(shifted[4:], fixed[4:], strict=True))


def test_a_run_from_before_blocks_shifted_goes_on_only_without(workplace, capsys):
    assert run("--shift_blocks", "false", "--max_steps", "3") == 0
    identity = json.loads(Path("out/run_identity.json").read_text())
    assert identity["sampling"] == "blocks"  # what it was then
    assert run() == 2
    assert "sampling was 'blocks', is 'blocks with shift_blocks'" in capsys.readouterr().err
    assert run("--shift_blocks", "false") == 0


def test_the_best_model_by_validation_loss_is_the_one_that_is_kept(workplace):
    write_recipe(
        learning_rate=0.3, lr_scheduler_type="constant", warmup_steps=0, max_steps=8, eval_steps=1, save_steps=4
    )
    assert run() == 0
    evaluations = history("out", "eval_loss")
    assert len(evaluations) == 8 and evaluations.index(min(evaluations)) not in (3, 7)  # not where it saves anyway
    results = json.loads(Path("out/eval_results.json").read_text())
    assert results["eval_loss"] == pytest.approx(min(evaluations), rel=1e-9)


def test_saves_may_come_between_evaluations_and_the_best_is_kept_and_resumed_exactly(workplace, monkeypatch):
    # Saved at 2, 4, 6, 8, evaluated at 3, 6, 8. Each evaluation is made worse than the one before: the first is best.
    init = ClmTrainer.__init__

    def worsening(self, *, evaluate_fn, **kwargs):
        def evaluate(model):
            metrics = evaluate_fn(model)
            return metrics | {"eval_loss": metrics["eval_loss"] + self.state.global_step}

        init(self, evaluate_fn=evaluate, **kwargs)

    monkeypatch.setattr(ClmTrainer, "__init__", worsening)
    write_recipe(max_steps=8, eval_steps=3, save_steps=2, save_total_limit=9)
    assert run("--output_dir", "undisturbed") == 0
    steps = [int(path.name.removeprefix("checkpoint-")) for path in Path("undisturbed").glob("checkpoint-*")]
    assert sorted(steps) == [2, 3, 4, 6, 8]
    best = Path("undisturbed/checkpoint-3/model.safetensors").read_bytes()
    assert Path("undisturbed/model.safetensors").read_bytes() == best

    for left in (2, 4):  # cut off before the first evaluation, and at a save after it
        out = f"cut-off-at-{left}"
        shutil.copytree("undisturbed", out)
        for path in [*Path(out).glob("*.*"), *(Path(out, f"checkpoint-{step}") for step in steps if step > left)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        assert run("--output_dir", out, "--save_total_limit", "2") == 0
        assert sorted(path.name for path in Path(out).glob("checkpoint-*"))[-1] == "checkpoint-8"
        for key in ("loss", "eval_loss"):
            assert history(out, key) == history("undisturbed", key)
        for name in ("model.safetensors", "checkpoint-3/model.safetensors", "checkpoint-8/model.safetensors"):
            assert Path(out, name).read_bytes() == Path("undisturbed", name).read_bytes()


def test_early_stopping_stops_and_counts_on_after_a_resume(workplace):
    # A rate that ruins the model: the first evaluation stays the best.
    write_recipe(
        learning_rate=1.0, warmup_steps=0, max_steps=50, eval_steps=1, save_steps=1, early_stopping_patience=3,
        save_total_limit=20,
    )  # fmt: skip
    assert run() == 0
    stopped = len(history("out", "eval_loss"))
    assert stopped < 50
    for path in [Path(f"out/checkpoint-{stopped}"), Path(f"out/checkpoint-{stopped - 1}")]:
        shutil.rmtree(path)
    Path("out/run_status.json").unlink()
    assert run() == 0
    assert len(history("out", "eval_loss")) == stopped


def test_with_dropout_two_processes_train_on_the_same_samples_as_one(workplace):
    write_recipe(gradient_accumulation_steps=1, max_steps=None, num_train_epochs=1)
    two = launch("--multi_gpu", "--num_processes", "2", str(ROOT / "run_clm.py"), "--config", "tiny.json")
    assert two.returncode == 0, two.stderr
    assert run("--output_dir", "one", "--gradient_accumulation_steps", "2") == 0
    both = [json.loads(Path(folder, "all_results.json").read_text()) for folder in ("out", "one")]
    for key in ("train_tokens", "train_steps", "epoch", "eval_tokens", "eval_words", "eval_bytes"):
        assert both[0][key] == both[1][key]
    assert history("out", "loss")[0] == pytest.approx(history("one", "loss")[0], abs=0.05)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ({"lr_scheduler_type": "constant", "warmup_steps": 0}, [1e-2] * 6),
        ({"lr_scheduler_type": "constant_with_warmup"}, [0, 5e-3, 1e-2, 1e-2, 1e-2, 1e-2]),
        ({"lr_scheduler_type": "warmup_stable_decay",
          "lr_scheduler_kwargs": {"num_decay_steps": 2, "decay_type": "linear"}},
         [0, 5e-3, 1e-2, 1e-2, 1e-2, 5e-3]),
        # Cosine from 1e-2 after 2 steps of warmup to a tenth of it: 1e-3 + 9e-3 (1 + cos(pi k / 4)) / 2.
        ({"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": 0.1}},
         [0, 5e-3, 1e-2, 8.682e-3, 5.5e-3, 2.318e-3]),
    ],
)  # fmt: skip
def test_the_learning_rate_follows_the_schedule(workplace, schedule, rates):
    write_recipe(**schedule)
    assert run() == 0
    assert history("out", "learning_rate") == pytest.approx(rates, abs=1e-6)


@pytest.mark.parametrize("max_grad_norm", [1.0, 0.0])
def test_a_gradient_that_is_not_finite_stops_the_run_in_one_line(workplace, capsys, max_grad_norm):
    write_recipe(initializer_range=1e30, max_grad_norm=max_grad_norm)
    assert run() == 74
    said = capsys.readouterr().err
    assert said.startswith("error: the gradient isn't finite at step 1") and said.count("\n") == 1
    status = json.loads(Path("out/run_status.json").read_text())
    assert (status["state"], status["exit_code"]) == ("failed", 74)


def test_activation_checkpointing_changes_memory_and_not_the_losses(workplace):
    write_recipe(resid_pdrop=0.0, embd_pdrop=0.0, max_steps=3)
    assert run() == 0
    assert run("--output_dir", "checkpointed", "--activation_checkpointing") == 0
    assert history("checkpointed", "loss") == pytest.approx(history("out", "loss"), abs=1e-6)


def test_the_order_of_samples_follows_data_seed_where_there_is_one(workplace):
    write_recipe(resid_pdrop=0.0, embd_pdrop=0.0, max_steps=2)
    assert run() == 0
    assert run("--output_dir", "other", "--data_seed", "7") == 0
    assert history("other", "loss")[0] != history("out", "loss")[0]


def test_a_named_checkpoint_is_where_a_run_goes_on(workplace, capsys):
    assert run() == 0
    losses = history("out", "loss")
    assert run("--output_dir", "other", "--resume_from_checkpoint", "out/checkpoint-3") == 0
    assert "resuming from out/checkpoint-3" in capsys.readouterr().out
    assert history("other", "loss") == losses


def test_tensorboard_gets_the_curves_and_nothing_is_written_elsewhere(workplace):
    assert run("--report_to", "tensorboard") == 0
    assert list(Path("out").rglob("events.out.tfevents*"))
    assert {path.name for path in workplace.iterdir()} == {"text.txt", "tiny.json", "out", ".cache", "tokenizer"}


def test_the_short_last_step_of_an_epoch_counts_its_own_tokens(workplace):
    write_recipe(max_steps=None, num_train_epochs=1, resid_pdrop=0.0, embd_pdrop=0.0, global_batch_size=None)
    assert run() == 0
    results = json.loads(Path("out/all_results.json").read_text())
    steps = len(history("out", "loss"))
    assert (steps - 1) * 12 * 16 < results["train_tokens"] < steps * 12 * 16
    assert results["epoch"] == 1.0


def test_a_longer_run_goes_on_from_a_shorter_one_and_says_what_becomes_of_the_schedule(workplace, capsys):
    assert run() == 0
    assert run("--max_steps", "8") == 0
    said = capsys.readouterr().out
    assert "planned for 6 steps, now for 8" in said and "step 7/8" in said
    assert len(history("out", "loss")) == 8


def test_global_batch_size_sets_the_accumulation(workplace, capsys):
    write_recipe(gradient_accumulation_steps=None, global_batch_size=8)
    assert run("--max_steps", "1") == 0
    assert "1 of 8 sequences" in capsys.readouterr().out


def test_processes_that_do_not_see_each_other_are_refused(workplace, monkeypatch, capsys):
    monkeypatch.setattr(preflight, "PartialState", lambda: SimpleNamespace(num_processes=1, is_main_process=True))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="started 2 processes, but they don't see each other"):
        preflight.check_processes()


def test_one_process_where_two_were_asked_for_is_refused(workplace):
    done = launch("--cpu", "--num_processes", "2", str(ROOT / "run_clm.py"), "--config", "tiny.json")
    assert done.returncode != 0 and "2 processes were asked for, but the launcher started one" in done.stderr
    assert not Path("out").exists()


def test_an_accelerate_file_that_sets_another_precision_is_refused(workplace, monkeypatch, capsys):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    import run_clm

    assert run_clm.main(["--config", "tiny.json"]) == 2
    assert "precision is the recipe's" in capsys.readouterr().err


def test_validation_text_is_none_of_the_training_text(workplace):
    from clm.config.recipe import load
    from clm.data.prepare import open_text

    text = open_text(load("tiny.json").data, seed=42)
    train, validation = (
        [line for batch in part.documents() for line in batch.texts] for part in (text.train, text.validation)
    )
    assert len(validation) == 6 and not set(train) & set(validation)
    whole = [line for batch in split([make_text()], "line") for line in batch.texts]
    assert sorted(train + validation) == sorted(whole)
