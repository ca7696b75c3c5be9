"""`python -m clm evaluate` as a user runs it: what it says and writes, and what bad input gets."""

import json
import math
import shutil
from pathlib import Path

import evaluate as evaluate_package
import pytest
import torch
import transformers
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from clm.__main__ import main
from clm.evaluation.evaluate import recipe_of
from clm.evaluation.scoring import Score
from clm.launch import hardware
from tests.data.small import small_tokenizer
from tests.evaluation.saved import save, small_model
from tests.hub_server import HubServer
from tests.test_bad_input import UNREACHABLE, one_line, refuses  # noqa: F401 (a fixture)
from tests.test_run import plain_loss
from tests.tiny import ROOT, launch, run
from tests.wikitext import add_wikitext, wikitext_rows


def evaluate(*words: str) -> int:
    return main(["evaluate", "--model", "model", *words])


def result(*words: str) -> dict:
    assert evaluate("--text_file", "wiki.txt", "--output", "result.json", *words) == 0
    return json.loads(Path("result.json").read_text())


@pytest.fixture
def place(workplace):
    """The current folder has a `model`, and `wiki.txt` in WikiText's form."""
    save(Path("model"))
    rows = wikitext_rows(3, seed=1)
    Path("wiki.txt").write_text("".join(row if row.endswith("\n") else row + "\n" for row in rows), "utf-8")
    return workplace


def test_what_a_wikitext_text_is_divided_by_and_that_the_numbers_agree(place, capsys):
    text = Path("wiki.txt").read_text("utf-8")
    got = result("--document_separator", "article")
    # WikiText's counts: its words, one <eos> a line, and every byte of the file.
    assert got["eval_words"] == len(text.split()) + text.count("\n") and got["eval_bytes"] == len(text.encode())
    documents = [text[start:end] for start, end in _articles(text)]
    assert got["eval_documents"] == len(documents) == 3
    model, tokenizer = small_model(), small_tokenizer()
    assert got["eval_loss"] == pytest.approx(plain_loss(model, tokenizer, documents), rel=1e-6)
    score = Score(got["eval_loss"] * got["eval_tokens"], got["eval_tokens"], got["eval_words"], got["eval_bytes"])
    for key, value in score.metrics().items():
        assert got[key] == pytest.approx(value, rel=1e-12)
    assert got["word_perplexity"] == pytest.approx(math.exp(got["nats_per_word"]))
    for key, (low, high) in got["intervals_95"].items():
        assert low < got[key] < high
    about = {"model": "model", "document_separator": "article", "document_starts_from": "<|endoftext|>",
             "block_size": 16, "stride": 16, "precision": "fp32", "text_form": None, "published": []}  # fmt: skip
    assert about.items() <= got.items() and got["text"].endswith("wiki.txt")
    said = capsys.readouterr()
    assert f"{got['eval_words']:,} words: white-space words and one for each line end" in said.out
    assert "stride 16 (disjoint blocks)" in said.out and "| source |" not in said.out and not said.err


def _articles(text: str) -> list[tuple[int, int]]:
    """Where articles begin and end, found in another way than by the program: by the titles' rank."""
    lines = text.splitlines(keepends=True)
    titles = [
        number for number in range(1, len(lines) - 1)
        if lines[number].startswith(" = ") and not lines[number].startswith(" = =")
        and lines[number - 1].isspace() and lines[number + 1].isspace()
    ]  # fmt: skip
    starts = [0, *(sum(map(len, lines[:number])) for number in titles[1:])]
    return list(zip(starts, [*starts[1:], len(text)], strict=True))


def test_stride_batch_and_precision(place):
    plain = result("--document_separator", "article")
    assert result("--document_separator", "article", "--stride", "16") == plain
    one = result("--document_separator", "article", "--per_device_eval_batch_size", "1")
    assert one["eval_loss"] == pytest.approx(plain["eval_loss"], rel=1e-6)
    more_context = result("--document_separator", "article", "--stride", "4")
    assert more_context["eval_tokens"] == plain["eval_tokens"] and more_context["eval_loss"] != plain["eval_loss"]
    assert result("--document_separator", "article", "--block_size", "8")["block_size"] == 8


def test_bf16_where_the_hardware_has_it(place, monkeypatch):
    monkeypatch.setattr(hardware, "has_bf16", lambda _: True)
    Path("wiki.txt").write_text("a few words\n" * 9)
    half, full = result("--bf16"), result("--bf16", "false")
    assert (half["precision"], full["precision"]) == ("bf16", "fp32") and half["eval_loss"] != full["eval_loss"]
    assert half["eval_loss"] == pytest.approx(full["eval_loss"], rel=0.02)
    monkeypatch.setattr(hardware, "has_bf16", lambda _: False)
    assert result("--bf16") == full


def test_the_evaluate_module_gives_the_same_numbers(place):
    got = result()
    metric = evaluate_package.load(str(ROOT / "clm/evaluation/perplexity"))
    inputs = {"nats": [got["eval_loss"] * got["eval_tokens"]], "tokens": [got["eval_tokens"]],
              "words": [got["eval_words"]], "bytes": [got["eval_bytes"]]}  # fmt: skip
    computed = metric.compute(**inputs)
    assert computed == pytest.approx({key: got[key] for key in computed}, rel=1e-12)


def test_one_document_has_no_interval(place, capsys):
    got = result()
    assert got["eval_documents"] == 1 and got["intervals_95"] == {} and got["document_separator"] is None
    assert "no interval: the text is one document" in capsys.readouterr().out


def test_two_processes_give_the_numbers_of_one(place):
    one = result("--document_separator", "article", "--stride", "8")
    two = launch(
        *("--multi_gpu", "--num_processes", "2", "-m", "clm", "evaluate", "--model", "model", "--text_file"),
        *("wiki.txt", "--document_separator", "article", "--stride", "8", "--output", "two.json"),
        ACCELERATE_USE_CPU="true",
    )
    assert two.returncode == 0, two.stderr
    both = json.loads(Path("two.json").read_text())
    assert both["eval_loss"] == pytest.approx(one["eval_loss"], rel=1e-6) and both["eval_words"] == one["eval_words"]
    assert both["intervals_95"]["eval_loss"] == pytest.approx(one["intervals_95"]["eval_loss"], rel=1e-6)
    assert two.stdout.count("nats per token") == 1


def test_a_runs_own_separator_and_block_size_are_the_default(workplace):
    assert run() == 0
    Path("held.txt").write_text("abc def\nghi\n")
    assert main(["evaluate", "--model", "out", "--text_file", "held.txt", "--output", "line.json"]) == 0
    got = json.loads(Path("line.json").read_text())
    assert (got["document_separator"], got["eval_documents"], got["block_size"]) == ("line", 2, 16)
    words = ["--text_file", "held.txt", "--document_separator", "none", "--output", "whole.json"]
    assert main(["evaluate", "--model", "out", *words]) == 0
    got = json.loads(Path("whole.json").read_text())
    assert (got["eval_documents"], got["eval_words"], got["eval_bytes"]) == (1, 3 + 2, 12)


def test_a_split_of_wikitext_on_the_hub_is_set_beside_published_results(place, tmp_path_factory):
    with HubServer() as hub:
        test = wikitext_rows(2, seed=2)
        add_wikitext(hub, wikitext_rows(5, seed=0), wikitext_rows(1, seed=1), test)
        done = launch(
            *("-m", "clm", "evaluate", "--model", "model", "--dataset_name", "Salesforce/wikitext", "--split", "test"),
            *("--dataset_config_name", "wikitext-103-raw-v1", "--output", "hub.json"),
            **hub.env(tmp_path_factory.mktemp("home")),
        )
    assert done.returncode == 0, done.stderr
    got = json.loads(Path("hub.json").read_text())
    text = "".join(row if row.endswith("\n") else row + "\n" for row in test)
    assert (got["eval_words"], got["eval_bytes"]) == (len(text.split()) + len(test), len(text.encode()))
    assert (got["eval_documents"], got["text_form"], got["document_separator"]) == (2, "raw", "article")
    assert "| **this model** |" in done.stdout and "| Transformer-XL large | 257M | 18.30 | test |" in done.stdout
    assert [row["form"] for row in got["published"] if row["model"] == "this model"] == ["raw"]


def test_a_slow_tokenizer_and_a_head_with_a_bias(workplace):
    torch.manual_seed(0)
    config = transformers.GPTJConfig(vocab_size=384, n_positions=16, n_embd=16, n_layer=1, n_head=2, rotary_dim=4)
    model = transformers.GPTJForCausalLM(config)
    torch.nn.init.normal_(model.lm_head.bias)
    save(Path("model"), model, transformers.ByT5Tokenizer())
    Path("wiki.txt").write_text("héllo you\n")
    got = result()
    assert (got["eval_tokens"], got["eval_bytes"], got["document_starts_from"]) == (11, 11, "</s>")
    stream = torch.tensor([[1, *(byte + 3 for byte in "héllo you\n".encode())]])
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(model.eval()(stream).logits[0, :-1], stream[0, 1:])
    assert got["eval_loss"] == pytest.approx(expected.item(), rel=1e-5)


# Bad input


@pytest.fixture
def says(place, refuses, capfd):  # noqa: F811
    def check(*words: str, expect: list[str]) -> None:
        refuses("--text_file", "wiki.txt", *words, main=evaluate, says=expect)

    return check


def test_models_that_are_not_there(place, refuses):  # noqa: F811
    for name, expect in (("./nowhere", "there is no such folder"), ("/nowhere/at/all", "there is no such folder")):
        shutil.rmtree("model", ignore_errors=True)
        refuses("evaluate", "--model", name, "--text_file", "wiki.txt", main=lambda *w: main(list(w)), says=[expect])


def test_a_hub_that_can_not_be_reached(says, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", UNREACHABLE["HF_ENDPOINT"])
    says("--model", "me/it", expect=["me/it: no causal language model could be loaded", "the Hub can't be reached"])


def test_a_folder_with_pickled_weights_only(says):
    torch.save(small_model().state_dict(), "model/pytorch_model.bin")
    Path("model/model.safetensors").unlink()
    says(expect=["model: no causal language model could be loaded", "safetensors"])


def test_a_damaged_file_of_weights(says):
    Path("model/model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0not json")
    says(expect=["model: no causal language model could be loaded"])


def test_a_model_that_does_not_fit_into_a_gpu(place, capfd, monkeypatch):
    def fails(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(transformers.GPT2LMHeadModel, "to", fails)
    assert evaluate("--text_file", "wiki.txt") == 74
    err = capfd.readouterr().err
    assert err.startswith("error: out of memory: lower --per_device_eval_batch_size") and err.count("\n") == 1


def test_a_damaged_config(says):
    config = json.loads(Path("model/config.json").read_text())
    Path("model/config.json").write_text(json.dumps(config | {"n_layer": "two"}))
    says(expect=["model: no causal language model could be loaded", "'n_layer' expected int"])


def test_weights_that_are_not_numbers(says):
    weights = load_file("model/model.safetensors")
    weights["transformer.h.1.mlp.c_fc.weight"][0, 0] = math.nan
    save_file(weights, "model/model.safetensors", metadata={"format": "pt"})
    says(expect=["model: the weights in transformer.h.1.mlp.c_fc.weight aren't all finite"])


def test_a_file_that_lacks_weights(says):
    weights = load_file("model/model.safetensors")
    del weights["transformer.h.1.mlp.c_fc.weight"]
    save_file(weights, "model/model.safetensors", metadata={"format": "pt"})
    says(expect=["model: its file lacks weights of GPT2LMHeadModel", "h.1.mlp.c_fc.weight"])


def test_models_that_are_not_causal(says):
    shape = {"vocab_size": 700, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 16, "max_position_embeddings": 32}  # fmt: skip
    save(Path("model"), transformers.BertLMHeadModel(transformers.BertConfig(**shape)))
    says(expect=["model: BertLMHeadModel isn't causal"])
    shutil.rmtree("model")
    t5 = transformers.T5Config(vocab_size=700, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    save(Path("model"), transformers.T5ForConditionalGeneration(t5))
    says(expect=["model: no causal language model could be loaded"])


def test_a_tokenizer_with_more_ids_than_the_model(says):
    save(Path("model"), small_model(vocab_size=600))
    says(expect=["model: its tokenizer has 700 ids, but the model only 600"])


def test_a_tokenizer_that_starts_documents_with_nothing(says):
    backend = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    for file in Path("model").glob("*token*"):
        file.unlink()
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained("model")
    says(expect=["model: its tokenizer has neither bos_token nor eos_token", "set eos_token"])


def test_windows_that_can_not_be(says):
    says("--stride", "17", expect=["--stride 17 is more than block_size 16"])
    says("--block_size", "17", expect=["--block_size 17: model has only 16 positions"])
    says("--stride", "0", expect=["--stride", "1 or more"])


def test_texts_that_are_none(place, refuses):  # noqa: F811
    for name, content in (("empty.txt", ""), ("blank.txt", " \n\n")):
        Path(name).write_text(content)
        refuses("--text_file", name, main=evaluate, says=[name])
    refuses("--text_file", "no.txt", main=evaluate, says=["--text_file", "no.txt"])
    refuses(main=evaluate, says=["one of the arguments --text_file --dataset_name is required"])
    refuses("--text_file", "a", "--dataset_name", "b", main=evaluate, says=["not allowed with"])


def test_places_where_no_result_can_be_written(says):
    says("--output", "model", expect=["--output model: is a folder"])
    says("--output", "no/such.json", expect=["--output no/such.json: there is no folder no"])
    says("--bf16", "maybe", expect=["--bf16", "'maybe' is neither true nor false"])


def test_a_recipe_json_that_is_another_programs_says_nothing(tmp_path):
    others = {"block_size": "16", "document_separator": 5, "dataset_name": "a/b", "lr": 1}
    (tmp_path / "recipe.json").write_text(json.dumps(others))
    assert recipe_of(str(tmp_path)) == {"dataset_name": "a/b"}
