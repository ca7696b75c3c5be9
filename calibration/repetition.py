"""Fits what overfitting costs to the runs of many epochs, and scores it on runs that it wasn't fitted to, in a minute.

    python -m calibration.repetition      prints the table and the constants of clm/explain/scaling.py's OVERFITTING

Two sets of runs are fitted together: those of calibration/repetition_runs.py, over one little text, and those of
benchmarks/regime, over four. Every evaluation after the first epoch is a row. A group is one size of model over one
text; all its rows together weigh as the root of its runs, because runs that are nearly alike err alike.

The penalty comes on top of the expected loss. What that is off by for all of a group is a level, fitted beside the
penalty and left behind: no advice depends on it. Each size is left out in turn with all its runs, then all runs of one
number of weights a token. `error` is of the last loss, `of changes` what is left of it once the group's median error is
taken off: how well one run is told from another of its size. Both are held against the expected loss without penalty.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from calibration import repetition_regime
from clm.explain import references
from clm.explain.scaling import Overfitting
from clm.files import write_json

RESULTS = Path(__file__).parent / "results" / "repetition.json"
FIRST_EPOCH, FEWEST_SEEN = 1.0, 0.15  # a row has more epochs, and more of the run's steps, than this
LEAST_SD, RELATIVE_SD = 0.08, 0.2  # nats, and a share of the excess: what a row may be off by
LEVEL_SD = 0.3  # nats: of a group's level around that of all
# Of ln scale, and of the others as they are: what a constant may be before anything is seen.
PRIOR_MEAN = np.array([-3.0, 0.5, 1.0, 1.0, 3.0, 0.5, 0.1, 0.0])
PRIOR_SD = np.array([2.0, 0.5, 0.5, 1.0, 3.0, 1.0, 0.3, 0.5]) / 0.3
STEPS = 80
RATIOS = (0.7, 2.4, 4.7, 9.0, 16.0, 39.0)  # weights a token, of the runs at hand


@dataclass(frozen=True)
class Row:
    """A validation loss after the first epoch: what it was, what is expected without overfitting, and its terms."""

    run: str
    group: str
    regime: bool
    epochs: float
    loss: float
    base: float
    terms: tuple[float, float, float, float, bool]


@dataclass(frozen=True)
class Fitted:
    """The level of all groups, nats, and the penalty."""

    level: float
    law: Overfitting

    def error(self, row: Row) -> float:
        """What is expected above what was measured."""
        return self.level + self.law.penalty(*row.terms) + row.base - row.loss


def rows_at_hand() -> list[Row]:
    """Of every run of many epochs, where the references reach."""
    entries = references.entries("repeated_runs.json")
    return [row for entry in [*entries, *repetition_regime.entries()] for row in rows_of(entry)]


def rows_of(entry: dict[str, Any]) -> list[Row]:
    """Of one run."""
    model, situation, recipe = references.model(), references.small_situation(entry), entry["recipe"]
    in_a_pass = situation.dataset_tokens / situation.tokens_per_step
    size = f"{recipe['n_layer']}x{recipe['n_embd']}"
    group, rows = f"{entry.get('size', 'one text')} {size}", []
    for step, loss in entry["validation"]:
        expected = model.expect(situation, step)
        seen = step / in_a_pass >= FIRST_EPOCH and step >= FEWEST_SEEN * recipe["max_steps"]
        if seen and expected.covered:
            base, terms = expected.loss - situation.overfitting(step), situation.overfitting_terms(step)
            rows.append(Row(entry["name"], group, "size" in entry, step / in_a_pass, loss, base, terms))
    return rows


def fit(rows: list[Row]) -> Fitted:
    """Least squares by Levenberg and Marquardt."""
    groups = list(dict.fromkeys(row.group for row in rows))
    members = {group: {row.run for row in rows if row.group == group} for group in groups}
    counts = {run: sum(row.run == run for row in rows) for run in {row.run for row in rows}}
    excess = np.array([row.loss - row.base for row in rows])
    shares = np.array([len(members[row.group]) ** -0.5 / counts[row.run] for row in rows])
    weights = shares**0.5 / (LEAST_SD + RELATIVE_SD * np.maximum(excess, 0))
    which = np.array([groups.index(row.group) for row in rows])

    def misfits(constants: np.ndarray) -> np.ndarray:
        level, levels, law = constants[0], constants[1 : 1 + len(groups)], _law(constants[1 + len(groups) :])
        penalties = np.array([law.penalty(*row.terms) for row in rows])
        prior = (constants[1 + len(groups) :] - PRIOR_MEAN) / PRIOR_SD
        return np.concatenate([weights * (level + levels[which] + penalties - excess), levels / LEVEL_SD, prior])

    constants = _least_squares(misfits, np.concatenate([np.zeros(1 + len(groups)), PRIOR_MEAN]))
    return Fitted(float(constants[0]), _law(constants[1 + len(groups) :]))


def _law(constants: np.ndarray) -> Overfitting:
    return Overfitting(float(np.exp(constants[0])), *(float(each) for each in constants[1:]))


def _least_squares(misfits: Callable[[np.ndarray], np.ndarray], start: np.ndarray) -> np.ndarray:
    at, damping, now = start, 1e-2, misfits(start)
    for _ in range(STEPS):
        slopes = np.stack([(misfits(at + 1e-5 * axis) - now) / 1e-5 for axis in np.eye(len(at))], axis=1)
        square = slopes.T @ slopes
        step = np.linalg.solve(square + damping * np.diag(np.diag(square) + 1e-9), -slopes.T @ now)
        then = misfits(at + step)
        better = then @ then < now @ now
        if better and now @ now - then @ then < 1e-9:
            return at + step
        at, now, damping = (at + step, then, damping / 3) if better else (at, now, damping * 4)
    return at


def ratio(row: Row) -> float:
    """Of RATIOS, the nearest."""
    return min(RATIOS, key=lambda each: abs(np.log(each / row.terms[0])))


def left_out(rows: list[Row], key: Callable[[Row], object]) -> list[tuple[Row, float, float]]:
    """The last row of every run, and its errors with and without the penalty, fitted to the runs of other `key`s."""
    found = []
    for value in dict.fromkeys(key(row) for row in rows):
        others = [row for row in rows if key(row) != value]
        fitted, plain = fit(others), float(np.mean([row.loss - row.base for row in others]))
        ends = {row.run: row for row in rows if key(row) == value}.values()
        found += [(row, fitted.error(row), plain + row.base - row.loss) for row in ends]
    return found


def score(found: list[tuple[Row, float, float]]) -> dict[str, float]:
    """Mean absolute errors at the ends, nats, with and without the penalty, of losses and of changes in a group."""
    scored: dict[str, float] = {"runs": len(found)}
    groups = [row.group for row, *_ in found]
    for i, name in ((1, "with penalty"), (2, "without")):
        errors = np.array([each[i] for each in found])
        medians = {group: np.median([e for e, g in zip(errors, groups, strict=True) if g == group]) for group in groups}
        scored[f"{name}, error"] = float(np.abs(errors).mean())
        scored[f"{name}, of changes"] = float(np.abs(errors - [medians[group] for group in groups]).mean())
        pairs = [_pairs_in_order([each for each in found if each[0].group == group], i) for group in set(groups)]
        scored[f"{name}, pairs in order"] = sum(right for right, _ in pairs) / sum(of for _, of in pairs)
    return scored


def _pairs_in_order(found: list[tuple[Row, float, float]], i: int) -> tuple[int, int]:
    """How many pairs of a group's runs that differ by 0.02 nats or more are expected in their order, of how many."""
    ends = [(each[0].loss, each[0].loss + each[i]) for each in found]
    pairs = [(a, b) for at, a in enumerate(ends) for b in ends[:at] if abs(a[0] - b[0]) >= 0.02]
    return sum((a[0] - b[0]) * (a[1] - b[1]) > 0 for a, b in pairs), len(pairs)


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    rows, result = rows_at_hand(), {}
    for name, key in (("size", lambda row: row.group), ("weights a token", ratio)):
        found = left_out(rows, key)
        for which, regime in (("one text", False), ("regime", True)):
            part = [each for each in found if each[0].regime == regime]
            result[f"{which}, {name} left out"] = score(part)
    for name, found in result.items():
        print(name, {key: round(value, 3) for key, value in found.items()})
    fitted = fit(rows)
    constants = {each.name: round(getattr(fitted.law, each.name), 3) for each in fields(fitted.law)}
    print(f"level {fitted.level:+.3f}", constants)
    new = [row for entry in repetition_regime.entries(new=True) for row in rows_of(entry)]
    if new:
        plain = float(np.mean([row.loss - row.base for row in rows]))
        ends = {row.run: row for row in new}.values()
        found = [(row, fitted.error(row), plain + row.base - row.loss) for row in ends]
        result["new runs of the regime"] = score(found)
        print("new", {key: round(value, 3) for key, value in score(found).items()})
    write_json(RESULTS, result)


if __name__ == "__main__":
    main()
