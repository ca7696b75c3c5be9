"""Fits what overfitting costs to the runs of many epochs, and scores it on runs that it wasn't fitted to, in seconds.

    python -m calibration.repetition      prints the table and the constants of clm/explain/scaling.py's OVERFITTING

The penalty comes on top of the expected loss. Each run is left out in turn, and each model size. What it is held
against is the expected loss without it. Both are moved by one number, fitted to the same runs: the level of this text.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from clm.explain import references
from clm.explain.scaling import Overfitting
from clm.files import write_json

RESULTS = Path(__file__).parent / "results" / "repetition.json"
FIRST_EPOCH = 1.0
LEAST_SD, RELATIVE_SD = 0.08, 0.2  # nats, and a share of the excess: what a point may be off by
# Of ln scale, and of the others as they are: what a constant may be before anything is seen.
PRIOR_MEAN = np.array([-3.0, 0.5, 1.0, 1.0, 3.0, 0.5])
PRIOR_SD = np.array([2.0, 0.5, 0.5, 1.0, 3.0, 1.0]) / 0.3
STEPS = 80


@dataclass(frozen=True)
class Row:
    """A validation loss after the first epoch: what it was, what is expected without overfitting, and its terms."""

    run: str
    size: int
    epochs: float
    loss: float
    base: float
    terms: tuple[float, float, float, float, bool]


def rows_at_hand() -> list[Row]:
    """Of every run of many epochs, where the references reach."""
    model, rows = references.model(), []
    for entry in references.entries("repeated_runs.json"):
        situation = references.small_situation(entry)
        in_a_pass = situation.dataset_tokens / situation.tokens_per_step
        for step, loss in entry["validation"]:
            expected = model.expect(situation, step)
            if step / in_a_pass >= FIRST_EPOCH and step >= 0.15 * entry["recipe"]["max_steps"] and expected.covered:
                base, size = expected.loss - situation.overfitting(step), situation.non_embedding_parameters
                rows.append(Row(entry["name"], size, step / in_a_pass, loss, base, situation.overfitting_terms(step)))
    return rows


def fit(rows: list[Row]) -> tuple[float, Overfitting]:
    """The text's level and the penalty: least squares by Levenberg and Marquardt, every run weighing the same."""
    counts = {row.run: sum(other.run == row.run for other in rows) for row in rows}
    excess = np.array([row.loss - row.base for row in rows])
    weights = np.array([counts[row.run] ** -0.5 for row in rows]) / (LEAST_SD + RELATIVE_SD * np.maximum(excess, 0))

    def misfits(constants: np.ndarray) -> np.ndarray:
        law = _law(constants[1:])
        penalties = np.array([law.penalty(*row.terms) for row in rows])
        return np.append(weights * (constants[0] + penalties - excess), (constants[1:] - PRIOR_MEAN) / PRIOR_SD)

    constants = _least_squares(misfits, np.append(0.0, PRIOR_MEAN))
    return float(constants[0]), _law(constants[1:])


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
        at, now, damping = (at + step, then, damping / 3) if better else (at, now, damping * 4)
    return at


def left_out(rows: list[Row], key: Callable[[Row], object]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each run: the errors of all its points with and without the penalty, fitted to the runs of other `key`s."""
    errors = {}
    for value in dict.fromkeys(key(row) for row in rows):
        others = [row for row in rows if key(row) != value]
        level, law = fit(others)
        runs = dict.fromkeys(row.run for row in others)
        plain = float(np.mean([np.mean([row.loss - row.base for row in others if row.run == run]) for run in runs]))
        for run in dict.fromkeys(row.run for row in rows if key(row) == value):
            mine = [row for row in rows if row.run == run]
            known = np.array([level + law.penalty(*row.terms) + row.base - row.loss for row in mine])
            errors[run] = known, np.array([plain + row.base - row.loss for row in mine])
    return errors


def score(errors: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Absolute errors in nats, of the ends and of all points, every run weighing the same."""
    found: dict[str, float] = {"runs": len(errors)}
    for i, name in enumerate(("with_penalty", "without")):
        ends = [abs(float(pair[i][-1])) for pair in errors.values()]
        found[f"{name}_median_error_at_end"] = float(np.median(ends))
        found[f"{name}_mean_error_at_end"] = float(np.mean(ends))
        found[f"{name}_mean_error"] = float(np.mean([np.abs(pair[i]).mean() for pair in errors.values()]))
    found["better_at_end"] = sum(bool(abs(pair[0][-1]) < abs(pair[1][-1])) for pair in errors.values())
    return found


def main() -> None:
    rows = rows_at_hand()
    by_run, by_size = left_out(rows, lambda row: row.run), left_out(rows, lambda row: row.size)
    print(f"{'run':<28}{'epochs':>7}{'final':>8}{'with':>8}{'without':>9}{'size left out':>15}")
    for run, (known, plain) in by_run.items():
        last = [row for row in rows if row.run == run][-1]
        ends = f"{known[-1]:>+8.2f}{plain[-1]:>+9.2f}{by_size[run][0][-1]:>+15.2f}"
        print(f"{run:<28}{last.epochs:>7.0f}{last.loss:>8.3f}{ends}")
    result = {"run left out": score(by_run), "size left out": score(by_size)}
    for name, found in result.items():
        print(name, {key: round(value, 3) for key, value in found.items()})
    level, law = fit(rows)
    print(f"level {level:+.3f}", {each.name: round(getattr(law, each.name), 3) for each in fields(law)})
    write_json(RESULTS, result)


if __name__ == "__main__":
    main()
