"""`python -m clm explain LOG`: the page, JSON and report of anyone's log, with all or little known of its run."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from clm.__main__ import main
from clm.explain.log.given import Given
from clm.explain.references import entries
from tests.runs import log_shapes

RUN = next(entry for entry in entries("large_runs.json") if entry["name"] == "gpt2-124m-fineweb-adamw-cosine")
ENDED = 3.2722  # its validation loss at step 19,560
SHAPE = {"n_layer": 12, "n_embd": 768, "vocab_size": 50257, "block_size": 1024}
CONFIG = {**SHAPE, "global_batch_size": 512, **RUN["schedule"]}


@pytest.fixture
def log(workplace) -> str:
    """The curve of a public run of 124M parameters as a CSV, and what is known of it as config.json."""
    losses = {step: [loss, ""] for step, loss in RUN["train"]}
    for step, loss in RUN["validation"]:
        losses.setdefault(step, ["", ""])[1] = loss
    rows = [f"{step},{train},{validation}" for step, (train, validation) in sorted(losses.items())]
    Path("log.csv").write_text("\n".join(["step,train_loss,val_loss", *rows]) + "\n")
    write_config()
    return "log.csv"


def write_config(**changes) -> None:
    config = {key: value for key, value in (CONFIG | changes).items() if value is not None}
    Path("config.json").write_text(json.dumps(config))


def explained(*words: str) -> dict:
    assert main(["explain", *words, "--output", "e.json"]) == 0
    return json.loads(Path("e.json").read_text())


def test_a_log_gets_the_page_the_json_and_the_report(log, capsys):
    made = explained(
        log, "--config", "config.json", "--until", "9780", "--report", "r.html", "--dataset_name", "fineweb"
    )
    page = capsys.readouterr().out
    final = made["forecast"]["final"]
    assert set(final) == {"loss", "low", "high"} and final["low"] < final["loss"] < final["high"]
    assert abs(final["loss"] - ENDED) < 0.03
    assert made["step"] == 9750 and made["kind"] == made["forecast"]["of"] == "validation" and not made["missing"]
    assert made["verdict"]["label"] == "within" and made["findings"] == [] and made["advice"]
    for said in ("WHAT WAS READ", "training loss from 'train_loss'", "counts as never repeated", "IS IT NORMAL?"):
        assert said in " ".join(page.split())
    report = Path("r.html").read_text()
    assert f"{final['loss']:.3f}" in report and "124 M parameters (12 layers, 768 wide" in report
    assert "The machine" not in report and "To do it again" not in report and "What was read" in report


def test_a_loss_on_an_unnamed_text_is_held_against_a_wide_band(log):
    made = explained(log, "--config", "config.json", "--until", "9780")["verdict"]
    assert made["label"] == "within" and "widens the band much (--dataset_name" in made["confidence"]
    lines = Path(log).read_text().splitlines()
    raised = [
        ",".join([step, *(str(float(each) + 2) if each else "" for each in losses)])
        for step, *losses in (line.split(",") for line in lines[1:])
    ]
    Path("raised.csv").write_text("\n".join([lines[0], *raised]) + "\n")
    made = explained("raised.csv", "--config", "config.json", "--until", "9780")["verdict"]
    assert made["label"] == "above"


def test_a_text_that_the_advice_asks_for_by_name_is_known_by_it(log):
    for name in ("fineweb", "wikitext-103", "me/WikiText-103-raw"):
        made = explained(log, "--config", "config.json", "--until", "9780", "--dataset_name", name)
        assert "(--dataset_name" not in made["verdict"]["confidence"], name


def test_keys_may_come_from_the_command_line_alone_and_stand_anywhere(log):
    whole = explained(log, "--config", "config.json", "--until", "9780")
    words = [word for key, value in CONFIG.items() for word in (f"--{key}", str(value))]
    assert explained(*words, "--until", "9780", log)["forecast"] == whole["forecast"]
    assert explained("--config", "config.json", log, "--until", "9780")["forecast"] == whole["forecast"]


def test_standard_input_is_a_log(log, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(Path(log).read_bytes())))
    made = explained("-", "--config", "config.json", "--until", "9780")
    assert made["log"] == "standard input" and made["forecast"]["final"]["loss"] < 3.4


def test_an_optimizer_that_is_not_known_widens_the_interval_and_it_is_said(log):
    def width(optim):
        made = explained(log, "--config", "config.json", "--until", "4000", "--optim", optim)["forecast"]
        return made["final"]["high"] - made["final"]["low"], made["outside_the_evidence"]

    known, unknown = width("adamw"), width("shampoo")
    assert unknown[0] > known[0] and not known[1] and "its optimizer is shampoo" in unknown[1][0]


def test_tokens_of_the_text_make_it_repeat(log, capsys):
    once, often = (
        explained(log, "--config", "config.json", "--until", "4000", *words)
        for words in ([], ["--dataset_tokens", "100000000"])
    )
    assert once["dataset_tokens"] is None and once["numbers"]["epochs"] is None
    assert often["dataset_tokens"] == 100_000_000 and often["numbers"]["epochs"] == pytest.approx(20.97, abs=0.05)
    assert often["forecast"]["final"] != once["forecast"]["final"]


def test_without_validation_losses_the_training_loss_is_forecast(log, capsys):
    Path("t.csv").write_text("\n".join(["step,loss", *(f"{step},{loss}" for step, loss in RUN["train"])]))
    made = explained("t.csv", "--config", "config.json", "--until", "9780")
    assert made["forecast"]["of"] == "training" and made["forecast"]["final"]["low"] < 3.292
    assert "It is the training loss that is forecast" in capsys.readouterr().out
    assert any("evaluate on held-out text" in advice["title"] for advice in made["advice"])


@pytest.mark.parametrize(
    ("absent", "forecast", "verdict"),
    [("n_layer", True, False), ("vocab_size", True, False), ("learning_rate", True, False),
     ("global_batch_size", True, False), ("max_steps", False, False), ("lr_scheduler_type", False, False)],
)  # fmt: skip
def test_what_is_missing_is_asked_for_by_name_and_only_where_it_is_needed(log, capsys, absent, forecast, verdict):
    write_config(**{absent: None})
    made = explained(log, "--config", "config.json", "--until", "9780")
    page = " ".join(capsys.readouterr().out.split())
    assert made["missing"] == [absent] and (made["forecast"] is not None) == forecast
    assert (made["verdict"]["label"] != "can't say") == verdict
    assert f"can't be said without --{absent} …" in page
    if forecast:
        assert abs(made["forecast"]["final"]["loss"] - ENDED) < 0.03
    else:
        assert f"Can't say without --{absent} …" in page


def test_weight_decay_and_the_embeddings_rate_are_what_is_given_or_else_the_usual(workplace):
    write_config()
    usual = Given.of(["--config", "config.json"], None).facts
    muon = ["--optim", "muon", "--weight_decay", "0.3", "--optim_args", "embeddings=2"]
    told = Given.of(["--config", "config.json", *muon], None).facts
    assert (usual.weight_decay, usual.embeddings) == (0.1, 1.0) and (told.weight_decay, told.embeddings) == (0.3, 2.0)


def test_a_text_of_unknown_length_is_never_repeated_and_an_unknown_size_is_none(workplace):
    write_config()
    setup = Given.of(["--config", "config.json"], None).setup
    assert setup.law(2 * setup.total_steps).terms(np.array([2 * setup.total_steps]))[2] == 0
    once = Given.of(["--config", "config.json"], 19560 * 512 * 1024).setup  # as long as the run
    assert once.law(2 * once.total_steps).terms(np.array([2 * once.total_steps]))[2] == pytest.approx(0.693, abs=1e-3)
    write_config(n_embd=None)
    facts = Given.of(["--config", "config.json"], None).facts
    assert facts.parameters is None and facts.tokens == 19560 * 512 * 1024


def test_with_nothing_known_the_log_alone_is_read(log, capsys):
    made = explained(log)
    assert made["verdict"]["label"] == "can't say" and made["forecast"] is None and len(made["missing"]) == 8
    assert made["recipe"] == "command line" and "Perplexity 26.4" in capsys.readouterr().out


def test_steps_that_only_the_log_says_are_taken_from_it(workplace):
    write_config(max_steps=None, block_size=128)
    Path("a.log").write_text("\n".join(log_shapes.modded_nanogpt()))
    made = explained("a.log", "--config", "config.json")
    assert made["forecast"]["curve"][-1][0] == 1000 and "The log says that the run has 1,000 steps." in made["remarks"]


def test_bits_per_byte_are_forecast_in_nats_and_in_their_own_unit(workplace, capsys):
    write_config(max_steps=1000)
    Path("a.log").write_text("\n".join(log_shapes.nanochat()))
    made = explained("a.log", "--config", "config.json")
    final, own = made["forecast"]["final"], made["forecast"]["in_own_unit"]
    assert own["unit"] == "bits per byte" and final["loss"] / own["loss"] == pytest.approx(4.3 * 0.693, rel=0.03)
    assert f"In bits per byte, as the log has it: {own['loss']:.3f}" in capsys.readouterr().out
    Path("b.csv").write_text("\n".join(["step,val_bpb", *(f"{s},{2 + 30 / (s + 10)}" for s in range(10, 400, 10))]))
    assert explained("b.csv", "--config", "config.json")["verdict"]["confidence"] == "no unit"


def test_a_recipe_that_names_its_text_is_complete(workplace, capsys):
    from tests.tiny import write_recipe

    write_recipe(max_steps=1000)
    Path("a.log").write_text("\n".join(log_shapes.nanogpt()))
    made = explained("a.log", "--config", "tiny.json")
    assert not made["missing"] and made["dataset_tokens"] > 0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["log.csv", "--config", "config.json", "--n_layers", "3"], "did you mean n_layer?"),
        (["log.csv", "--config", "config.json", "--learning_rate", "-1"], "above 0"),
        (["log.csv", "--config", "config.json", "--vocab_size", "1"], "vocab_size is 1"),
        (
            ["log.csv", "--config", "config.json", "--max_steps", "4000"],
            "go to 19,560, but the run has 4,000",
        ),
        (["log.csv", "--config", "config.json", "--until", "100"], "losses until step 100 are no curve yet"),
        (
            ["log.csv", "--config", "config.json", "--dataset_tokens", "100"],
            "100 tokens are too few for one block of 1,024",
        ),
        (["log.csv", "--config", "nowhere.json"], "there is no such recipe"),
        (["log.csv", "--step", "3", "--loss", "4"], "leave --step and --loss out"),
        (["log.csv", "other.csv"], '"other.csv" belongs to no key'),
        (["log.csv", "--report", "none/r.html"], "--report none/r.html: there is no folder none"),
        (["."], "not a run's folder"),
        (["junk"], "binary, no log"),
        (["empty"], "it is empty"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(log, capsys, words, complaint):
    Path("junk").write_bytes(bytes(range(32)) * 99)
    Path("empty").write_bytes(b"")
    assert main(["explain", *words]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and complaint in said.err and not said.out
