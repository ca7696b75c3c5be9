"""Whole runs that learn from others: what is saved, that they resume exactly, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from clm.__main__ import main as clm_main
from clm.config.recipe import load
from clm.model.teachers import digest
from clm.sweep.definition import read
from clm.sweep.space import combinations
from tests.chaos import differences
from tests.evaluation.saved import save, small_model
from tests.test_bad_input import refuses  # noqa: F401 (a fixture)
from tests.test_processes import RECIPE, same, two
from tests.tiny import ROOT, cut_off, history, make_text, run, write_recipe

TEACHERS = ONE, OTHER = ["members/trial-0", "members/trial-1"]
OWN_VALIDATION = {"validation_split_percentage": None, "validation_file": "validation.txt"}
MEMBERS = {  # as recipes/sweeps/members.json, but for the size
    "recipe": "tiny.json",
    "vary": {"seed": {"choices": [1, 2]}},
    "set": {"eval_steps": 3, "save_steps": 3, "save_total_limit": 20},
    "tokens": 6 * 4 * 3 * 16,
    "trials": 2,
    "output_dir": "members",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with two members, trained by a sweep over their seeds, and the tokenizer that they share."""
    folder = tmp_path_factory.mktemp("members")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PYTHONPATH", str(ROOT))
        Path("text.txt").write_text(make_text(), "utf-8")
        Path("validation.txt").write_text(make_text(10, seed=1), "utf-8")
        write_recipe(**OWN_VALIDATION)
        Path("members.json").write_text(json.dumps(MEMBERS), "utf-8")
        assert clm_main(["sweep", "members.json"]) == 0
    assert [json.loads(Path(folder, name, "recipe.json").read_text())["seed"] for name in TEACHERS] == [1, 2]
    return folder


@pytest.fixture
def place(workplace, trained):
    """The current folder has what `trained` has, and a recipe of their student."""
    shutil.copytree(trained, ".", dirs_exist_ok=True)
    write_recipe(**OWN_VALIDATION, teachers=TEACHERS)
    return workplace


def evaluated(*names: str) -> dict:
    models = [word for name in names for word in ("--model", name)]
    words = ["evaluate", *models, "--text_file", "validation.txt", "--document_separator", "line", "--output", "e.json"]
    assert clm_main(words) == 0
    return json.loads(Path("e.json").read_text())


def test_a_student_learns_from_the_mean_and_is_saved_as_a_stock_model(place, capsys):
    assert run() == 0
    assert (
        "target: 0.8 x the mean probabilities of members/trial-0, members/trial-1; 0.2 x the labels"
        in capsys.readouterr().out
    )
    stock, report = transformers.AutoModelForCausalLM.from_pretrained("out", output_loading_info=True)
    assert type(stock) is transformers.GPT2LMHeadModel and not any(report.values())
    assert load_file("out/model.safetensors").keys() == load_file(f"{ONE}/model.safetensors").keys()
    # Its validation loss is nats of the labels, as the stock model scores them.
    assert history("out", "eval_loss")[-1] == pytest.approx(evaluated("out")["eval_loss"], rel=1e-6)
    # Two teachers pull it elsewhere than the labels alone do, from the same start.
    assert run("--teachers", "none", "--output_dir", "alone") == 0
    assert history("alone", "loss") != history("out", "loss")


def test_a_student_resumes_bit_for_bit_and_not_with_other_teachers(place, refuses):  # noqa: F811
    write_recipe(**OWN_VALIDATION, teachers=TEACHERS, save_total_limit=20, load_best_model_at_end=True)
    assert run() == 0
    identity = json.loads(Path("out/checkpoint-3/run_identity.json").read_text())
    assert identity["distillation_weight"] == 0.8
    assert identity["teachers"] == [digest(transformers.GPT2LMHeadModel.from_pretrained(name)) for name in TEACHERS]
    assert not any("teacher" in name for name in load_file("out/checkpoint-3/model.safetensors"))
    cut_off("out", "again")
    Path(ONE).rename("moved")  # their weights count, not where they are
    assert run("--output_dir", "again", "--teachers", f'["moved", "{OTHER}"]') == 0
    assert differences(Path("out"), Path("again")) == []

    cut_off("out", "other")
    for teachers in (f'["{OTHER}", "moved"]', "moved", "none"):
        refuses("--output_dir", "other", "--teachers", teachers, says=["belongs to a different run: teachers was ['"])
    refuses("--output_dir", "other", "--teachers", f'["moved", "{OTHER}"]', "--distillation_weight", "0.7",
            says=["distillation_weight was 0.8, is 0.7"])  # fmt: skip
    cut_off("moved", "plain")
    refuses("--seed", "1", "--output_dir", "plain", "--teachers", OTHER, says=["teachers was None, is ['"])


def test_two_processes_with_teachers_train_as_one(place):
    write_recipe(**RECIPE, **OWN_VALIDATION, teachers=TEACHERS)
    assert run("--output_dir", "one") == 0
    assert "target: 0.8 x" in two("two")
    same("two", "one")


def test_what_cannot_teach_is_refused_in_a_line(place, refuses, monkeypatch):  # noqa: F811
    refuses("--teachers", "nowhere/at-all/there", says=["teachers 'nowhere/at-all/there'", "no such folder"])
    refuses("--teachers", "[]", says=["--teachers is []", "a run's folder, a name on the Hub, or a list of them"])
    refuses("--distillation_weight", "0", says=["it must be above 0 and at most 1"])
    refuses("--teachers", "none", "--distillation_weight", "1", says=["there are no teachers"])
    refuses("--use_liger_kernel", "true", says=["Liger Kernel's loss knows no teachers"])
    save(Path("other"))
    refuses("--teachers", f'["{ONE}", "other"]', says=["other has another tokenizer than this run", "tokenizer_path"])
    refuses("--block_size", "17", says=[f"{ONE} has 16 positions, fewer than block_size 17"])

    tokenizer = transformers.AutoTokenizer.from_pretrained(ONE)
    save(Path("padded"), small_model(vocab_size=304), tokenizer)
    refuses("--teachers", "padded", says=["padded has 304 ids and its tokenizer 300"])
    nan = small_model(vocab_size=300)
    with torch.no_grad():
        nan.transformer.wpe.weight[3, 5] = float("nan")
    save(Path("nan"), nan, tokenizer)
    refuses("--teachers", "nan", says=["teachers: nan: the weights in transformer.wpe.weight aren't all finite"])
    llama = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=300, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2))  # fmt: skip
    save(Path("llama"), llama, tokenizer)
    refuses("--teachers", "llama", says=["llama is a LlamaForCausalLM; a teacher must be a GPT2LMHeadModel"])
    shutil.copytree(ONE, "pickled")
    torch.save(load_file("pickled/model.safetensors"), "pickled/pytorch_model.bin")
    Path("pickled/model.safetensors").unlink()
    refuses("--teachers", "pickled", says=["pickled: no causal language model could be loaded", "safetensors"])
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setattr("clm.launch.preflight.check_engine", lambda args: None)  # which refuses FSDP on a CPU
    monkeypatch.setattr("clm.launch.start.processes.join_on_cpu", lambda training: None)
    refuses(says=["never tried with FSDP or DeepSpeed: launch with --config_file recipes/accelerate/ddp.yaml"])


def test_a_teacher_that_may_know_the_validation_text_is_named(place, capsys):
    write_recipe(teachers=ONE, tokenizer_path=ONE)  # validates on a part of ONE's training text
    assert run() == 0
    assert f"warning: {ONE} was trained on another text, or another part of this one" in capsys.readouterr().out


# Scored together


def test_the_mean_of_a_model_with_itself_is_the_model(place):
    one, twice = evaluated(ONE), evaluated(ONE, ONE)
    assert twice["eval_loss"] == pytest.approx(one["eval_loss"], rel=1e-6)
    assert "members" not in one and twice["members"] == [ONE, ONE]
    assert (one["model"], twice["model"]) == (ONE, f"mean of {ONE}, {ONE}")
    assert one.keys() | {"members"} == twice.keys()


def test_the_mean_of_two_models_is_that_of_their_probabilities(place):
    tokenizer = transformers.AutoTokenizer.from_pretrained(ONE)
    models = [transformers.AutoModelForCausalLM.from_pretrained(name).eval() for name in TEACHERS]
    nats = tokens = 0
    for line in Path("validation.txt").read_text().splitlines():
        ids = tokenizer(line)["input_ids"]
        for start in range(0, len(ids), 16):  # disjoint blocks, each after the token before it
            block = ids[start : start + 16]
            inputs = torch.tensor([([tokenizer.eos_token_id, *ids])[start : start + len(block)]])
            probs = sum(model(inputs).logits.softmax(-1) for model in models) / 2
            nats -= probs[0, range(len(block)), block].log().sum().item()
            tokens += len(block)
    got = evaluated(*TEACHERS)
    assert got["eval_tokens"] == tokens
    assert got["eval_loss"] == pytest.approx(nats / tokens, rel=1e-5)
    apart = [evaluated(name)["eval_loss"] for name in TEACHERS]
    assert got["eval_loss"] < sum(apart) / 2  # by Jensen's inequality, for each token


def test_a_mean_of_two_tokenizers_is_refused(place, refuses):  # noqa: F811
    save(Path("other"))
    words = ("evaluate", "--model", ONE, "--model", "other", "--text_file", "validation.txt")
    refuses(*words, main=lambda *argv: clm_main(argv), says=["--model other", f"another tokenizer than {ONE}"])


def test_the_shipped_student_learns_from_the_members_of_the_shipped_sweep(monkeypatch):
    monkeypatch.chdir(ROOT)
    sweep = read(Path("recipes/sweeps/members.json"))
    student, member = load("recipes/student.json"), sweep.recipe({"data_seed": 1})
    assert sweep.trials == len(combinations(sweep.vary)) == 4
    assert student.run.teachers == [str(sweep.output_dir / f"trial-{number}") for number in range(4)]
    assert (student.model, student.data) == (member.model, member.data)
    assert student.training["max_steps"] == member.training["max_steps"]
