"""What bad input gets: exit code 2, one line on stderr, and a folder that is as it was."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import chdir
from importlib.util import find_spec
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import run_clm
from clm.__main__ import main as clm_main
from tests.hub_server import HubServer
from tests.runs.run_folder import make_run
from tests.tiny import ROOT, make_text, run, write_recipe

UNREACHABLE = {"HF_ENDPOINT": "http://127.0.0.1:9"}


def contents() -> dict[str, tuple[int, int] | None]:
    """Every file and folder below the current one; of a file, its size and its time of change."""
    found = {str(path): path.stat() for path in Path().rglob("*")}
    return {name: (s.st_size, s.st_mtime_ns) if Path(name).is_file() else None for name, s in found.items()}


def one_line(text: str, *fragments: str) -> None:
    assert text.startswith("error: ") and text.endswith("\n") and text.count("\n") == 1, text
    assert [part for part in fragments if part not in text] == [], text


@pytest.fixture
def refuses(capfd):
    """Call a main(), check that it stops with one line on stderr and leaves all as it was; what it said before."""

    def check(*argv: str, says: list[str], main=run) -> str:
        before = contents()
        capfd.readouterr()
        assert main(*argv) == 2
        out, err = capfd.readouterr()
        one_line(err, *says)
        assert contents() == before
        return out

    return check


# Paths


@pytest.mark.parametrize("key", ["train_file", "output_dir", "cache_dir", "resume_from_checkpoint"])
def test_a_path_that_no_file_system_takes(workplace, refuses, key):
    refuses(f"--{key}", "a" * 300, says=["a" * 300])
    refuses("--config", "a" * 300, says=["a" * 300], main=lambda *argv: run_clm.main(argv))


def test_a_home_of_nobody(workplace, refuses):
    refuses("--train_file", "~nobody-of-that-name/a.txt", says=["train_file", "no user of that name"])


def test_a_line_end_in_a_files_name_stays_in_the_line(workplace, refuses):
    refuses("--train_file", "a\nb.txt", says=["there is no file a\\nb.txt"])


# The recipe


def test_a_recipe_that_is_not_there(workplace, refuses):
    Path("tiny.json").unlink()
    refuses(says=["tiny.json", "no such recipe"])


def test_a_recipe_that_is_not_json(workplace, refuses):
    Path("tiny.json").write_text('{\n  "n_layer": 2\n  "n_head": 2\n}\n')
    refuses(says=["tiny.json", "line 3, column 3"])


BAD_VALUES = [
    ({"n_layr": 2}, ["n_layr", "did you mean n_layer?"]),
    ({"n_layer": "2"}, ["n_layer", '"2"', "drop the quotes"]),
    ({"learning_rate": [1]}, ["learning_rate", "[1]", "above 0"]),
    ({"block_size": 0}, ["block_size is 0", "2 or more"]),
    ({"block_size": 1}, ["block_size is 1", "2 or more"]),
    ({"n_embd": 15}, ["n_embd 15", "n_head 2"]),
    ({"vocab_size": 256}, ["vocab_size is 256", "257 or more"]),
    ({"train_file": None}, ["train_file", "dataset_name"]),
    ({"lr_scheduler_kwargs": {"floor": 1}}, ["lr_scheduler_kwargs", "floor", "min_lr_rate"]),
    ({"ddp_backend": "nccl", "torch_compile_mode": "fastest"}, ["torch_compile_mode", "max-autotune"]),
]


@pytest.mark.parametrize(("changes", "says"), BAD_VALUES, ids=[", ".join(c) for c, _ in BAD_VALUES])
def test_a_value_that_is_not_allowed(workplace, refuses, changes, says):
    write_recipe(**changes)
    refuses(says=["tiny.json", *says])


def test_a_value_on_the_command_line_that_is_not_allowed(workplace, refuses):
    refuses("--block_size", "0", says=["command line", "block_size is 0", "2 or more"])
    refuses("--n_layr", "2", says=["command line", "n_layr", "did you mean n_layer?"])


@pytest.mark.skipif(find_spec("codecarbon") is not None, reason="codecarbon is installed")
def test_a_tracker_that_is_not_installed(workplace, refuses):
    refuses("--report_to", "codecarbon", says=["report_to codecarbon", "isn't installed"])


# The text


def test_a_text_file_that_is_not_there(workplace, refuses):
    refuses("--train_file", "nowhere.txt", says=["train_file", "nowhere.txt"])
    refuses("--validation_file", "v.txt", "--validation_split_percentage", "none", says=["validation_file", "v.txt"])


@pytest.mark.parametrize("content", ["", " \n\n\t \n"], ids=["empty", "white space"])
def test_a_text_file_without_text(workplace, refuses, content):
    Path("text.txt").write_text(content)
    refuses(says=["text.txt", "empty" if not content else "holds no text"])


@pytest.mark.parametrize("key", ["train_file", "validation_file"])
def test_a_text_file_that_is_not_utf8(workplace, refuses, key):
    Path("latin.txt").write_bytes(b"caf\xc3\xa9 caf\xe9\n" * 3)
    changes = {"validation_split_percentage": None} if key == "validation_file" else {}
    write_recipe(**{key: "latin.txt"}, **changes)
    refuses(says=["latin.txt", "not UTF-8 at byte 9 (0xe9)", "two encodings are mixed"])


def test_a_validation_file_that_is_a_copy_of_the_training_text(workplace, refuses):
    shutil.copy("text.txt", "copy.txt")
    write_recipe(validation_file="copy.txt", validation_split_percentage=None)
    refuses(says=["copy.txt: holds the very text of", "text.txt; a text can't be both"])


def test_validation_text_without_text(workplace, refuses):
    Path("blank.txt").write_text("\n \n")
    write_recipe(validation_file="blank.txt", validation_split_percentage=None)
    refuses(says=["blank.txt", "holds no text"])


def test_too_little_text_for_one_block(workplace, refuses):
    refuses("--block_size", "100000", says=["too few for one block of 100,000", "smaller block_size"])


def test_too_little_text_for_so_many_ids(workplace, refuses):
    refuses("--vocab_size", "30000", says=["vocab_size is 30,000", "yields only", "smaller vocab_size"])


# The tokenizer


def make_tokenizer(folder: str, **names: str) -> None:
    """A byte-level BPE of 256 bytes and the special tokens that are named."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([], trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def test_a_tokenizer_that_is_not_there(workplace, refuses):
    refuses("--tokenizer_path", "./nowhere", says=["tokenizer_path", "./nowhere"])
    Path("empty").mkdir()
    refuses("--tokenizer_path", "empty", says=["tokenizer_path", "empty"])


@pytest.mark.parametrize("online", [True, False])
def test_a_tokenizer_that_is_not_on_the_hub(workplace, tmp_path_factory, online):
    with HubServer() as hub:
        env = hub.env(tmp_path_factory.mktemp("home")) | ({} if online else UNREACHABLE)
        done = process(env, "--tokenizer_path", "me/nothing")
    assert done.returncode == 2
    one_line(done.stderr, "me/nothing", "no such folder" if online else "the Hub can't be reached")


def test_a_tokenizer_that_does_not_load(workplace, refuses):
    make_tokenizer("damaged", eos_token="<end>")
    Path("damaged/tokenizer.json").write_text("{}")
    refuses("--tokenizer_path", "damaged", "--vocab_size", "none", says=["tokenizer_path", "damaged"])


def test_a_tokenizer_of_another_size(workplace, refuses):
    make_tokenizer("small", eos_token="<end>")
    refuses("--tokenizer_path", "small", says=["vocab_size is 300", "small", "257"])


def test_a_tokenizer_without_an_end_of_text(workplace, refuses):
    make_tokenizer("endless")
    refuses("--tokenizer_path", "endless", "--vocab_size", "none", says=["endless", "end-of-text"])


# Folders


@pytest.mark.parametrize("key", ["output_dir", "cache_dir"])
def test_a_folder_below_a_file(workplace, refuses, key):
    refuses(f"--{key}", "text.txt/x", says=[key, "text.txt is a file"])
    refuses(f"--{key}", "text.txt", says=[key, "text.txt is a file"])


@pytest.mark.skipif(os.access("/", os.W_OK), reason="this user can write anywhere")
@pytest.mark.parametrize("key", ["output_dir", "cache_dir"])
def test_a_folder_in_a_read_only_one(workplace, refuses, key):
    Path("locked").mkdir(mode=0o500)
    refuses(f"--{key}", "locked/x", says=[key, "no permission to write in locked"])


# A folder that holds a run


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """A folder where tiny.json was run, for two steps."""
    folder = tmp_path_factory.mktemp("run")
    with chdir(folder):
        Path("text.txt").write_text(make_text(), "utf-8")
        Path("other.txt").write_text(make_text(seed=1), "utf-8")
        write_recipe(n_layer=1, max_steps=2, save_steps=1, eval_steps=1)
        assert run() == 0
    return folder


@pytest.fixture
def in_run(finished_run, monkeypatch):
    monkeypatch.chdir(finished_run)
    return finished_run


def test_the_same_command_again_says_that_the_run_is_finished(in_run, capfd):
    before = contents()
    assert run() == 0
    out, err = capfd.readouterr()
    assert "out holds this run, finished after 2 steps" in out and err == ""
    assert contents() == before


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("learning_rate", "0.02", ["learning_rate was 0.01, is 0.02"]),
        ("n_layer", "2", ["n_layer was 1, is 2"]),
        ("block_size", "8", ["block_size was 16, is 8"]),
        ("seed", "43", ["seed was 42, is 43"]),
        ("gradient_accumulation_steps", "1", ["sequences_per_step was 12, is 4"]),
        ("vocab_size", "290", ["vocab_size was 300, is 290"]),
        ("train_file", "other.txt", ["text was"]),
        ("validation_split_percentage", "20", ["text was"]),
    ],
)
def test_a_different_run_in_its_folder_stops(in_run, refuses, key, value, says):
    said = refuses(f"--{key}", value, says=["checkpoint-2 belongs to a different run", *says, "output_dir"])
    assert "tokenizer:" not in said  # no work was done to find out


def test_fewer_steps_than_the_checkpoint_has_stop(in_run, refuses):
    refuses("--max_steps", "1", says=["checkpoint-2", "past the 1 steps asked for", "higher max_steps"])


def test_a_fresh_start_in_the_folder_of_a_run_stops(in_run, refuses):
    refuses("--resume_from_checkpoint", "false", says=["out holds a run", "another output_dir"])


def test_a_checkpoint_that_can_not_be_resumed_from(in_run, refuses, tmp_path):
    refuses("--resume_from_checkpoint", "out/checkpoint-9", says=["resume_from_checkpoint", "out/checkpoint-9"])
    refuses("--resume_from_checkpoint", "tokenizer", says=["resume_from_checkpoint", "checkpoint-N"])
    part = shutil.copytree("out/checkpoint-2", tmp_path / "checkpoint-2")
    (part / "optimizer.pt").unlink()
    refuses("--resume_from_checkpoint", str(part), says=["isn't intact", "optimizer.pt"])


def test_a_folder_where_no_checkpoint_is_whole_stops(finished_run, workplace, refuses):
    for step in (1, 2):
        folder = Path(shutil.copytree(finished_run / "out/checkpoint-2", f"out/checkpoint-{step}"))
        (folder / "model.safetensors").unlink()
    refuses(says=["out", "none of its 2 checkpoints is intact", "delete them"])


def test_a_finished_run_without_checkpoints_is_not_written_over(finished_run, workplace, refuses, capfd):
    for name in ("out", "tokenizer", ".cache"):
        shutil.copytree(finished_run / name, name)
    for checkpoint in Path("out").glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    # Its text is where it was: the copy in this folder would be another one.
    same = ("--train_file", str(finished_run / "text.txt"), "--max_steps")
    write_recipe(n_layer=1)
    refuses(*same, "2", "--seed", "1", says=["out belongs to a different run", "seed was 42, is 1"])
    refuses(*same, "3", says=["finished after 2 steps", "no checkpoint to resume from", "another output_dir"])
    assert run(*same, "2") == 0
    assert "nothing to do" in capfd.readouterr().out


# Plans


def plan(*argv: str) -> int:
    return clm_main(["plan", "--config", "tiny.json", *argv])


def test_a_plan_writes_nothing_but_what_it_is_told_to(workplace, capfd):
    before = contents()
    assert run("--dry_run") == 0 and plan() == 0 and plan("--processes=2") == 0
    assert contents() == before
    assert plan("--dataset_tokens", "1000", "--output", "plan.json") == 0
    made = json.loads(Path("plan.json").read_text())
    # (1000 - 1) // 16 samples, 4 x 3 a step
    assert made["dataset_tokens"] == 1000 and made["samples_per_epoch"] == 62
    assert made["full_steps_per_epoch"] == 5 and made["short_last_step"] is True and made["steps"] == 6
    assert contents().keys() - before.keys() == {"plan.json"}
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("value", ["0", "-5", "many", "1e3", ""])
def test_a_number_of_tokens_that_is_none(workplace, refuses, value):
    refuses("--dataset_tokens", value, main=plan, says=["--dataset_tokens", repr(value), "1 or more"])
    refuses(f"--dataset_tokens={value}", main=plan, says=["--dataset_tokens", repr(value)])


def test_a_plan_of_bad_input(workplace, refuses):
    refuses("--dataset_tokens", main=plan, says=["--dataset_tokens", "expected one argument"])
    refuses("--dataset_tokens", "16", main=plan, says=["16 tokens are too few", "16"])
    refuses("--processes", "0", main=plan, says=["--processes", "1 or more"])
    refuses("--block_size", "1", main=plan, says=["block_size is 1"])
    refuses("--train_file", "nowhere.txt", main=plan, says=["train_file", "nowhere.txt"])
    refuses("--output", "nowhere/plan.json", main=plan, says=["--output", "nowhere"])
    refuses("--output", ".", main=plan, says=["--output"])
    refuses("--global_batch_size", "7", "--processes", "2", main=plan, says=["global_batch_size 7", "multiple"])
    refuses("--device", "h1000", main=plan, says=["--device h1000", "known are b200, h200, h100"])


def test_a_plan_for_many_gpus(workplace, capfd):
    many = ("--processes", "64", "--device", "h100", "--output", "plan.json")
    assert plan(*many) == 0
    said = capfd.readouterr().out
    for word in ("ddp", "fsdp2", "deepspeed zero2", "of 80 GB", "64 x H100", "cost", "~$"):
        assert word in said, said
    assert "doesn't fit" not in said and said.count("estimate: ") >= 4
    made = json.loads(Path("plan.json").read_text())
    fsdp2, ddp = (made["launches"][name]["memory"] for name in ("fsdp2", "ddp"))
    assert fsdp2["optimizer"] == ddp["optimizer"] / 64 == 8 * made["parameters"] / 64
    # Dollars: an hour of a device costs 3.
    assert made["dollars"] == pytest.approx(made["seconds"] / 3600 * 64 * 3)

    assert plan("--device", "l4", "--n_layer", "16", "--n_embd", "4096", "--processes", "64") == 0
    assert "doesn't fit; it would with: launch with recipes/accelerate/fsdp2.yaml" in capfd.readouterr().out
    assert plan("--device", "l4", "--n_layer", "16", "--n_embd", "4096") == 0
    assert "doesn't fit, and no setting here makes it" in capfd.readouterr().out


# The report of a run


def report(*argv: str) -> int:
    return clm_main(["report", *argv])


def test_a_report_of_what_is_not_a_run(workplace, refuses):
    refuses(main=report, says=["RUN_DIR"])
    refuses("nowhere", main=report, says=["nowhere", "no such folder"])
    refuses("tiny.json", main=report, says=["tiny.json", "no such folder"])
    refuses(".", main=report, says=["not a run's folder", "trainer_state.json"])
    refuses("nowhere", "--width", "3", main=report, says=["--width isn't known to report"])


def test_a_report_of_a_run_whose_files_are_broken_or_that_has_nowhere_to_go(workplace, refuses):
    make_run(Path("made"))
    refuses("made", "--output", ".", main=report, says=["--output .", "is a folder"])
    refuses("made", "made", "--output", "nowhere/page.html", main=report, says=["nowhere/page.html", "--output"])
    Path("made/trainer_state.json").write_text('{"log_history": [{"step": 1, "lo')
    refuses("made", main=report, says=["made/trainer_state.json", "not whole JSON"])


# The program as a process of its own


def process(env: dict[str, str], *argv: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "run_clm.py"), "--config", "tiny.json", *argv]
    env = {**env, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)


def test_a_process_leaves_with_exit_code_2_and_one_line(workplace):
    before = contents()
    done = process(dict(os.environ), "--vocab_size", "30000")
    assert done.returncode == 2
    one_line(done.stderr, "vocab_size is 30,000")
    assert "recipe: tiny.json" in done.stdout and contents() == before


def test_a_dataset_that_the_hub_does_not_have(workplace, tmp_path_factory):
    write_recipe(train_file=None, dataset_name="me/nothing")
    before = contents()
    with HubServer() as hub:
        done = process(hub.env(tmp_path_factory.mktemp("home")))
    assert done.returncode == 2
    one_line(done.stderr, "dataset_name", "me/nothing")
    assert contents() == before


def test_no_network(workplace, tmp_path_factory):
    write_recipe(train_file=None, dataset_name="me/words")
    before = contents()
    done = process({**os.environ, **UNREACHABLE, "HF_HOME": str(tmp_path_factory.mktemp("home"))})
    assert done.returncode == 2
    one_line(done.stderr, "the Hub can't be reached", "train_file", "python-docs")
    assert contents() == before
