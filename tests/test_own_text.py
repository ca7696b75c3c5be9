"""own-text.json on a text too small for its epochs: it stops by itself, and keeps its best model."""

import json
from pathlib import Path

from clm.config.recipe import load
from clm.data.blocks import Blocks
from clm.data.prepare import open_text, prepare
from clm.evaluation.scoring import score_store
from clm.model.loading import load_model
from clm.rollback import Rollback
from tests.tiny import ROOT, history, run

EVALUATIONS, PATIENCE = 20, 5
SMALLER = {"vocab_size": 300, "block_size": 16, "n_layer": 1, "n_head": 2, "n_embd": 32, "global_batch_size": 8}


def test_own_text_stops_where_more_epochs_do_not_help_and_ends_with_its_best_model(workplace):
    own = json.loads((ROOT / "recipes" / "own-text.json").read_text("utf-8"))
    here = {"train_file": "text.txt", "document_separator": "line", "output_dir": "out", "use_cpu": True, "bf16": False}
    # Ten times its rate, four times its epochs, without what holds overfitting back.
    changed = {
        "learning_rate": 4e-2,
        "num_train_epochs": 40,
        "weight_decay_epochs": None,
        "weight_decay": 0.0,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
    }
    Path("tiny.json").write_text(json.dumps(own | here | SMALLER | changed), "utf-8")
    assert run() == 0
    losses = history("out", "eval_loss")
    assert len(losses) < EVALUATIONS  # it had more epochs to come
    assert losses.index(min(losses)) == len(losses) - 1 - PATIENCE and max(losses[-PATIENCE:]) > min(losses) + 0.05
    results = json.loads(Path("out/all_results.json").read_text())
    assert results["eval_loss"] == min(losses)
    # So do the weights that are there for other tools.
    recipe = load(Path("tiny.json"))
    with Rollback() as rollback:
        data = prepare(recipe.data, open_text(recipe.data, recipe.training["seed"]), False, lambda _: None, rollback)
    score = score_store(load_model("out")[0], data.validation, Blocks(data.train, 16).block_size, 8)
    assert abs(score.metrics()["eval_loss"] - min(losses)) < 1e-5
