"""Whatever bytes a log has: a curve of finite losses at steps that rise, or one line that says why not."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clm.errors import UserError
from clm.runs.logs.log import Known
from clm.runs.logs.read import read_log
from tests.runs import log_shapes as shapes

WHOLE = ["\n".join(lines()) for lines in shapes.TEXTS.values()]
WHOLE += ["\n".join(shapes.trainer(bars=True)), shapes.trainer_state()]
PIECES = [
    "nan",
    "-inf",
    "1e308",
    "-3",
    "0",
    "\r",
    "\0",
    '"',
    "{",
    "}",
    "[",
    ",",
    "step:",
    "loss",
    "\n",
    "\ufeff",
    "1718000000",
]
SHARE = st.floats(0, 1)


def read(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.log"
        path.write_bytes(content)
        try:
            log = read_log(str(path), Known(vocab_size=300, logging_steps=10))
        except UserError as error:
            assert "\n" not in str(error) and str(error).startswith(str(path))
            return
    for steps, losses in ((log.curve.train_steps, log.curve.train_losses), (log.curve.steps, log.curve.losses)):
        assert np.isfinite(losses).all() and (np.diff(steps) > 0).all() and (steps >= 0).all()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.binary(max_size=2000))
def test_any_bytes(content):
    read(content)


@example(WHOLE[2], [(0.75, "1e308")], 1.0)  # a step that is infinite
@example(WHOLE[3], [(0.40067544281364, "-3")], 1.0)  # a step below 0
@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.sampled_from(WHOLE), st.lists(st.tuples(st.floats(0, 1), st.sampled_from(PIECES)), max_size=6), st.floats(0, 1)
)
def test_logs_with_something_put_into_them_and_cut_off(whole, put, cut):
    for place, piece in put:
        at = int(place * len(whole))
        whole = whole[:at] + piece + whole[at:]
    read(whole[: int((0.2 + 0.8 * cut) * len(whole)) + 1].encode())


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 10**10), st.floats()), max_size=80))
def test_any_steps_and_losses(rows):
    read(("step,loss\n" + "\n".join(f"{step},{loss}" for step, loss in rows)).encode())
