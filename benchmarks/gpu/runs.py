"""The real command, as a user types it."""

import json
import math
import shutil
from collections.abc import Iterator

from benchmarks.gpu.commands import largest_difference, log_of, losses, train_apart
from benchmarks.gpu.rows import Row, number
from benchmarks.gpu.setting import ROOT, Setting

QUICKSTART_LOSS = 3.81  # recipes/README.md, measured on a CPU, in bf16
STEPS, SAVED_AT = 4, 2


def quickstart(setting: Setting) -> Iterator[Row]:
    """Prove that the first command anyone types ends well on a GPU, with the validation loss that it has on a CPU.

    Its text is Python's own documentation, which each version of Python has in another edition.
    """
    recipe = json.loads((ROOT / "recipes" / "quickstart.json").read_text("utf-8"))
    if setting.rehearsal:
        recipe = setting.recipe({}, **{**setting.sizes.quickstart, "eval_strategy": "steps", "eval_steps": 2})
    recipe["cache_dir"] = str(setting.folder / "cache")
    output_dir = setting.folder / "quickstart"
    seconds = train_apart(setting, recipe, output_dir)
    results = json.loads((output_dir / "all_results.json").read_text("utf-8"))
    loss = results["eval_loss"]
    yield number("validation loss", loss, "nats", at_least=QUICKSTART_LOSS - 0.1, at_most=QUICKSTART_LOSS + 0.1)
    yield number("the command in all", seconds, "s")
    yield number("training", results["tokens_per_second"], "tokens/s")


def large(setting: Setting) -> Iterator[Row]:
    """Prove that the shape of `wt103.json` trains, saves, and goes on from what it saved, with Muon and dropout.

    A fresh model knows nothing, so its first loss is that of equal odds, ln(vocab_size), and a little more for its
    random weights. The steps after a resume have the losses of the undisturbed run, but for the order of sums.
    """
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop"), 0.2)
    keys = {"per_device_train_batch_size": 4, "global_batch_size": 8, "max_steps": STEPS, **dropout}
    recipe = setting.recipe(setting.sizes.shape, **keys, save_strategy="steps", save_steps=SAVED_AT)
    undisturbed, resumed = setting.folder / "large", setting.folder / "large-resumed"
    first = train_apart(setting, recipe, undisturbed)
    log = log_of(undisturbed)
    uniform = math.log(setting.sizes.shape["vocab_size"])
    yield number("the command in all, the text prepared", first, "s")
    yield number("loss of step 1", losses(log)[0], "nats", at_least=uniform - 0.1, at_most=uniform + 0.5)
    yield number("peak memory", max(entry.get("memory_gb", 0) for entry in log), "GB")
    shutil.copytree(undisturbed / f"checkpoint-{SAVED_AT}", resumed / f"checkpoint-{SAVED_AT}")
    second = train_apart(setting, recipe, resumed)
    yield number("the command again, from its checkpoint", second, "s")
    yield number(
        f"losses of steps {SAVED_AT + 1} to {STEPS} after a resume: difference",
        largest_difference(losses(log)[SAVED_AT:], losses(log_of(resumed))[SAVED_AT:]),
        "nats",
        at_most=0.01,
    )
    for folder in (undisturbed, resumed):  # gigabytes
        shutil.rmtree(folder)
