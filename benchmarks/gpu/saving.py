"""What a save adds to training."""

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from transformers import GPT2Config

from benchmarks import checkpoint
from benchmarks.gpu.rows import Row, number
from benchmarks.gpu.setting import Setting
from clm.training.checkpoint.writer import CheckpointWriter

WAYS = ("none", "beside", "stock")
ROUND = 4.0  # seconds of steps in a round


def check(setting: Setting) -> Iterator[Row]:
    """Prove that a save in the background costs training less than the stock way, with the 124M model and AdamW.

    By `benchmarks.checkpoint`: rounds of the same steps with no save, with ours, and with the stock one. If ours is
    still being written when the steps are done, that wait is left out: training would have gone on.
    """
    toy = GPT2Config(n_layer=1, n_head=2, n_embd=16, n_positions=16, vocab_size=300)
    folder = Path(tempfile.mkdtemp(prefix="saving-", dir=setting.folder))
    training = checkpoint.Training(setting.sizes.save_tokens, toy if setting.rehearsal else GPT2Config())
    writer = CheckpointWriter(folder, 1, None)
    try:
        for way in WAYS:  # to warm up
            checkpoint.measure(training, writer, folder, way, 2)
        once = checkpoint.measure(training, writer, folder, "none", 4)
        steps = 2 if setting.rehearsal else max(4, round(ROUND / once["seconds"] * 4))
        rounds = {way: [] for way in WAYS}
        for _ in range(2):
            for way in WAYS:
                result = checkpoint.measure(training, writer, folder, way, steps)
                rounds[way].append(result["seconds"] - result["waited"])
    finally:
        writer.close()
    without, *added = (statistics.median(rounds[way]) for way in WAYS)
    ours, stock = (seconds - without for seconds in added)
    yield number("a round without a save", without, f"s, {steps} steps")
    yield number("a save in the background adds", ours, "s", at_most=max(stock, 0.1))
    yield number("a stock save adds", stock, "s")
