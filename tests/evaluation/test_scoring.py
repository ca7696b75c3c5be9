"""Every token of the text is scored once, from the right context, and the sums are divided as they should be."""

import json
import math
import os
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional as F

from clm.data.store.token_store import TokenStore
from clm.data.store.writer import Totals
from clm.evaluation.forward import from_hidden_states
from clm.evaluation.scoring import Documents, Score, document_nats, score_store
from clm.evaluation.text import EncodedText
from tests.tiny import ROOT

END = 0


def store_at(folder, documents, vocab_size=50, words=10, num_bytes=40):
    """A store of documents given as lists of ids."""
    part = folder / "part-00000"
    part.mkdir(parents=True)
    ids = np.array([i for document in documents for i in [*document, END]], dtype=np.uint16)
    ids.tofile(part / "tokens.bin")
    np.array([len(d) + 1 for d in documents], np.uint32).tofile(part / "lengths.bin")
    np.bincount(ids, minlength=vocab_size).astype(np.int64).tofile(folder / "counts.bin")
    totals = Totals(len(ids), len(documents), words, num_bytes)
    about = {
        "fingerprint": {},
        "dtype": "uint16",
        "vocab_size": vocab_size,
        "end_of_text": END,
        "documents_by_length": [],
        "parts": [{**asdict(totals), "encoder": "test"}],
    }
    (folder / "store.json").write_text(json.dumps(about))
    return TokenStore(folder)


def tiny_model(seed=0):
    torch.manual_seed(seed)
    config = transformers.GPT2Config(vocab_size=50, n_positions=4, n_embd=16, n_layer=2, n_head=2)
    return transformers.GPT2LMHeadModel(config).eval()


DOCUMENTS = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [10], [11, 12, 13, 14], [15, 16, 17, 18, 19]]


def by_hand(model, documents, block_size=4):
    """Plain PyTorch, one block at a time: end-of-text, then the document, in blocks of `block_size` targets."""
    nats = 0.0
    for document in documents:
        stream = [END, *document]
        for start in range(0, len(document), block_size):
            inputs = torch.tensor([stream[start : start + block_size][: len(document) - start]])
            targets = torch.tensor(document[start : start + block_size])
            nats += F.cross_entropy(model(inputs).logits[0].double(), targets, reduction="sum").item()
    return nats


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_the_sum_is_the_one_worked_out_by_hand_whatever_the_batch(tmp_path, batch_size):
    model, store = tiny_model(), store_at(tmp_path / "store", DOCUMENTS)
    score = score_store(model, store, block_size=4, batch_size=batch_size)
    assert score.tokens == sum(map(len, DOCUMENTS)) == 19
    assert score.nats == pytest.approx(by_hand(model, DOCUMENTS), rel=1e-6)


def nats_of(model, documents, stride, batch_size=2):
    lengths = np.array([len(document) for document in documents])
    ids = EncodedText(np.concatenate(documents).astype(np.uint32), lengths, lengths, lengths)
    text = Documents(ids, ids.starts, lengths, END)
    return document_nats(from_hidden_states(model), text, 4, stride, batch_size, model.device)


def test_a_scoring_that_is_interrupted_is_broken_off_before_the_next_batch(tmp_path):
    asked, scored = [], []

    def losses(*batch):
        scored.append(batch)
        return from_hidden_states(tiny_model())(*batch)

    ids = store_at(tmp_path / "store", DOCUMENTS)
    lengths = np.array([len(document) for document in DOCUMENTS])
    text = Documents(ids, np.concatenate(([0], np.cumsum(lengths + 1)[:-1])), lengths, END)
    nats = document_nats(losses, text, 4, 4, 1, torch.device("cpu"), lambda: asked.append(1) or len(asked) == 3)
    assert nats is None and len(scored) == 2


def test_a_stride_of_block_size_is_disjoint_blocks(tmp_path):
    model, store = tiny_model(), store_at(tmp_path / "store", DOCUMENTS)
    assert nats_of(model, DOCUMENTS, 4).sum() == pytest.approx(score_store(model, store, 4, 2).nats, rel=1e-6)


def test_a_stride_of_one_is_a_loop_over_tokens():
    model = tiny_model()
    for document, nats in zip(DOCUMENTS, nats_of(model, DOCUMENTS, 1), strict=True):
        stream = [END, *document]
        by_token = 0.0
        for at, target in enumerate(document):
            inputs = torch.tensor([stream[max(0, at - 3) : at + 1]])
            by_token -= model(inputs).logits[0, -1].double().log_softmax(-1)[target].item()
        assert nats == pytest.approx(by_token, rel=1e-6)


@pytest.mark.parametrize("stride", [1, 3, 4])
def test_a_batch_of_one_gives_what_a_batch_of_eight_gives(stride):
    model = tiny_model()
    one, eight = (nats_of(model, DOCUMENTS, stride, batch_size) for batch_size in (1, 8))
    assert one == pytest.approx(eight, rel=1e-6)


def test_dropout_is_off_while_scoring_and_comes_back(tmp_path):
    model, store = tiny_model().train(), store_at(tmp_path / "store", DOCUMENTS)
    first = score_store(model, store, 4, 2)
    assert first == score_store(model, store, 4, 2) and model.training


def test_autocast_around_it_changes_nothing(tmp_path):
    model, store = tiny_model(), store_at(tmp_path / "store", DOCUMENTS)
    plain = score_store(model, store, 4, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert score_store(model, store, 4, 2) == plain


def test_metrics_are_divided_by_what_they_say():
    metrics = Score(nats=20.0, tokens=10, words=4, bytes=50).metrics()
    assert metrics["eval_loss"] == 2.0 and metrics["perplexity"] == pytest.approx(math.e**2)
    assert metrics["word_perplexity"] == pytest.approx(math.e**5)
    assert (metrics["nats_per_word"], metrics["nats_per_byte"]) == (5.0, 0.4)
    assert metrics["bits_per_byte"] == pytest.approx(20 / math.log(2) / 50)
    assert (metrics["eval_tokens"], metrics["eval_words"], metrics["eval_bytes"]) == (10, 4, 50)
    assert Score(1e9, 10, 4, 50).metrics()["perplexity"] == math.inf


def test_a_text_without_words_has_no_figures_of_words():
    of_words = {"nats_per_word", "word_perplexity"}
    assert of_words <= set(Score(nats=3000.0, tokens=100, words=2, bytes=100).metrics())
    metrics = Score(nats=3000.0, tokens=100, words=2, bytes=101).metrics()  # one word in more than 50 bytes
    assert not of_words & set(metrics) and metrics["bits_per_byte"] == pytest.approx(3000 / math.log(2) / 101)
    assert not of_words & set(Score(nats=1.0, tokens=1, words=0, bytes=1).metrics())


def test_the_evaluate_module_gives_the_same_numbers():
    import evaluate

    metric = evaluate.load("clm/evaluation/perplexity")
    got = metric.compute(nats=[12.0, 8.0], tokens=[6, 4], words=[3, 1], bytes=[30, 20])
    assert got == Score(20.0, 10, 4, 50).metrics()


PRECISIONS = """
import json, torch
from clm.evaluation.scoring import precision

def now():
    cuda, cpu = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    return [setting.fp32_precision for setting in (torch.backends, torch.backends.cudnn, cuda, cpu)]

def look():
    outside = now()
    with precision(torch.device("cpu")):
        inside = now()
    return outside, inside, now()

seen = [look()]
torch.set_float32_matmul_precision("high")
seen.append(look())
torch.backends.fp32_precision = "tf32"
seen.append(look())
print(json.dumps(seen))
"""


@pytest.mark.parametrize(
    ("environment", "matmul"),
    [({}, ["none", "tf32", "tf32"]), ({"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"}, ["tf32", "tf32", "tf32"])],
)
def test_evaluation_is_in_fp32_whoever_set_tf32(environment, matmul):
    """In a process of its own: torch reads the variable, which NVIDIA's containers set, only once."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run([sys.executable, "-c", PRECISIONS], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert [outside[2] for outside, _, _ in seen] == matmul
    assert [inside for _, inside, _ in seen] == [["ieee"] * 4] * 3
    assert [after for _, _, after in seen] == [outside for outside, _, _ in seen]
