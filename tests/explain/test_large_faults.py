"""Ten faults planted in the public curves of large models are named, and the clean curves raise none."""

import math

import pytest

from clm.explain.faults import checks
from clm.explain.faults.evidence import Evidence
from clm.explain.references import entries
from clm.explain.scaling import usual_learning_rate
from clm.runs.curve import Curve

RUNS = entries("large_runs.json")
BOTH = [entry for entry in RUNS if entry["train"]]  # with training and validation losses


def names(entry, train, validation, share=1.0, lost_at=None):
    """What is found by a share of the steps, with what is known of a log from elsewhere."""
    curve = Curve.from_points(train, validation).until(share * entry["schedule"]["max_steps"])
    evidence = Evidence(
        curve=curve,
        vocab_size=entry["vocab_size"],
        unigram=None,
        tokens_per_step=entry["tokens_per_step"],
        tokens_per_epoch=None,
        accumulation=None,
        peak_rate=entry["schedule"]["learning_rate"],
        usual_rate=usual_learning_rate(entry["non_embedding_parameters"]),
        lost_at=lost_at,
    )
    return [fault["name"] for fault in checks.find(evidence)]


@pytest.mark.parametrize("entry", RUNS, ids=lambda entry: entry["name"])
def test_the_clean_curves_raise_none_at_any_time(entry):
    train, validation = entry["train"], entry["validation"]
    if entry["loss"] == "training":
        train, validation = validation, []
    for share in (0.1, 0.2, 0.33, 0.5, 0.75, 1.0):
        assert names(entry, train, validation, share) == [], share


def late(step, entry):
    """0 until half of the steps, then up to 1 at the end."""
    half = entry["schedule"]["max_steps"] / 2
    return max(0.0, step - half) / half


def frozen(points, from_step):
    """The losses of `points`, and after a step its loss with a little noise."""
    last = [loss for step, loss in points if step <= from_step][-1]
    return [(step, loss if step <= from_step else last + 0.01 * math.sin(step)) for step, loss in points]


FAULTS = {
    "mis-scaled accumulation": lambda e, t, v: ([(s, 8 * loss) for s, loss in t], v),
    "mis-scaled accumulation, divided": lambda e, t, v: ([(s, loss / 4) for s, loss in t], v),
    "too good to be true": lambda e, t, v: ([(s, loss / 7) for s, loss in t], [(s, loss / 7) for s, loss in v]),
    "loss above ln(vocabulary)": lambda e, t, v: ([(s, loss + 8) for s, loss in t], [(s, loss + 8) for s, loss in v]),
    "training text in validation": lambda e, t, v: (t, [(s, loss - min(1.0, 2 * s / v[-1][0])) for s, loss in v]),
    "duplicate training text": lambda e, t, v: ([(s, loss - min(1.2, 2 * s / t[-1][0])) for s, loss in t], v),
    "divergence": lambda e, t, v: tuple([(s, loss + 4 * late(s, e)) for s, loss in points] for points in (t, v)),
    "spikes": lambda e, t, v: ([(s, loss + 0.6 * (s == t[len(t) // 2][0])) for s, loss in t], v),
    "stalled": lambda e, t, v: (frozen(t, t[-1][0] / 3), frozen(v, t[-1][0] / 3)),
    "overfitting": lambda e, t, v: (t, [(s, loss + 0.6 * late(s, e)) for s, loss in v]),
}


@pytest.mark.parametrize("entry", BOTH, ids=lambda entry: entry["name"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named(entry, fault):
    train, validation = FAULTS[fault](entry, entry["train"], entry["validation"])
    assert names(entry, train, validation) == [fault.split(",")[0]]


def test_a_run_that_ends_in_nan_is_named():
    entry = BOTH[0]
    assert names(entry, entry["train"], entry["validation"], lost_at=9000) == ["loss that isn't finite"]


def test_a_large_model_on_plain_text_is_not_too_good():
    entry = BOTH[-1]  # 1.5B parameters end at 2.73; one on code ends at about half of that
    halved = [[(step, loss / 2) for step, loss in entry[key]] for key in ("train", "validation")]
    assert names(entry, *halved) == []
