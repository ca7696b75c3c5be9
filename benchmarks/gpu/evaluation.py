"""Evaluation in fp32, whatever else has been told to multiply in TF32."""

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from transformers import GPT2Config

from benchmarks.gpu.commands import CommandFailed, call
from benchmarks.gpu.rows import Row, failed, left_out, number
from benchmarks.gpu.setting import Setting
from clm.evaluation.forward import from_hidden_states
from clm.evaluation.scoring import Documents, document_nats, precision
from clm.model.gpt2 import GPT2LMHeadModel, from_config

OVERRIDE = "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"
# What turns TF32 on: torch's older switch, its common one, its newest, and NVIDIA's containers.
WAYS = {
    "nothing": "",
    "allow_tf32": "",
    "set_float32_matmul_precision": "",
    "fp32_precision": "",
    OVERRIDE: "1",
}


def check(setting: Setting) -> Iterator[Row]:
    """Prove that an evaluation has the same bits however TF32 was turned on, and a CPU's figures.

    Each way is a process of its own, as the flags are. What the same text scores in TF32 has to differ, or the check
    could see nothing.
    """
    ways = list(WAYS)[:2] if setting.rehearsal else list(WAYS)
    scored = {}
    for way in ways:
        try:
            scored[way] = child(way, setting) if setting.in_process else _apart(way, setting)
        except CommandFailed as error:
            yield failed(f"evaluated after {way}", str(error))
            continue
        if way == "nothing":
            yield number("nats a token, to a CPU's: difference", scored[way]["from_cpu"], at_most=1e-5)
            continue
        if "nothing" in scored:
            apart = abs(scored[way]["nats"] - scored["nothing"]["nats"])
            yield number(f"evaluated after {way}: difference, nats in all", apart, at_most=0)
        if setting.device == "cuda" and torch.cuda.get_device_capability() >= (8, 0):
            yield number(f"the same in TF32 by {way}: difference", abs(scored[way]["tf32"]), "nats", at_least=1e-6)
        else:
            yield left_out(f"the same in TF32 by {way}", "this device has no TF32")


def _apart(way: str, setting: Setting) -> dict[str, float]:
    """What `child` says in a process of its own.

    Raises:
        CommandFailed: it says nothing.
    """
    words = [sys.executable, "-m", "benchmarks.gpu.evaluation", way, json.dumps(setting.rehearsal)]
    done = call(words, setting, **({OVERRIDE: WAYS[way]} if WAYS[way] else {}))
    if done.code:
        raise CommandFailed(done.last_words)
    return json.loads(done.said.splitlines()[-1])


def child(way: str, setting: Setting) -> dict[str, float]:
    """Nats of a made-up text by a model with large random weights, after TF32 was turned on this way."""
    if way == "allow_tf32":
        torch.backends.cuda.matmul.allow_tf32 = True
    elif way == "set_float32_matmul_precision":
        torch.set_float32_matmul_precision("high")
    elif way == "fp32_precision":
        torch.backends.cuda.matmul.fp32_precision = "tf32"
    text, device = _text(setting), torch.device(setting.device)
    model = _model(setting)
    on_cpu = _nats(model, text, torch.device("cpu")) if way == "nothing" else math.nan
    model.to(device)
    nats, tokens = _nats(model, text, device), int(text.lengths.sum())
    in_tf32 = _score(model, text, device)
    return {"nats": nats, "from_cpu": abs(nats - on_cpu) / tokens, "tf32": in_tf32 - nats}


def _nats(model: GPT2LMHeadModel, text: Documents, device: torch.device) -> float:
    with precision(device):
        return _score(model, text, device)


def _score(model: GPT2LMHeadModel, text: Documents, device: torch.device) -> float:
    width = model.config.n_positions
    return float(document_nats(from_hidden_states(model), text, width, width, 4, device).sum())


def _text(setting: Setting) -> Documents:
    documents, length = setting.sizes.evaluated
    ids = np.random.default_rng(0).integers(0, setting.sizes.small_shape["vocab_size"], documents * length)
    span = SimpleNamespace(span=lambda start, stop: ids[start:stop])
    return Documents(span, np.arange(documents) * length, np.full(documents, length), first_input=0)


def _model(setting: Setting) -> GPT2LMHeadModel:
    """Of weights five times as large as a fresh model's, so that its odds are far from equal."""
    shape = dict(setting.sizes.small_shape)
    torch.manual_seed(0)
    config = GPT2Config(
        n_positions=shape.pop("block_size"), bos_token_id=0, eos_token_id=0, initializer_range=0.1, **shape
    )
    return from_config(config).eval()


if __name__ == "__main__":
    print(json.dumps(child(sys.argv[1], Setting(Path(), rehearsal=json.loads(sys.argv[2])))))
