"""Fits what overfitting costs to the runs of many epochs, and scores it on runs that it wasn't fitted to, in minutes.

    python -m calibration.repetition      prints the tables and the constants of clm/explain/scaling.py's OVERFITTING

Two sets of runs are fitted together: those of calibration/repetition_runs.py, over one little text, and those of
benchmarks/regime (calibration/repetition_regime.py), over five. They are reference runs of the expected loss, and the
penalty is fitted inside it: what a size and a text are off by is the Gaussian process's, what is left the penalty's.

Each run is left out in turn, then each size with all its runs, then each of the two sets. `error` is of the last loss,
`of changes` what is left of it once the median error of its size is taken off: how well one run is told from another of
its size. All is held against the expected loss without penalty, which has the same reference runs.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from clm.explain import references
from clm.explain.expected import Model
from clm.explain.scaling import OVERFITTING, Overfitting
from clm.explain.situation import Point
from clm.files import write_json

RESULTS = Path(__file__).parent / "results" / "repetition.json"
NONE = Overfitting(0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0)
# Of ln scale, ln saturation, and the others as they are: what a constant may be before anything is seen.
PRIOR_MEAN = np.array([-4.5, 2.0, 1.5, 4.0, 10.0, 1.5, 0.05])
PRIOR_SD = np.array([2.0, 1.0, 0.5, 4.0, 6.0, 1.0, 0.3])
STEPS, ROUNDS = 30, 3  # of the least squares; each round begins with the noise that the penalties of the last one make
TELLS = 0.02  # nats: runs that differ by less are no pair
EPOCHS = (24.0, 28.0)  # of the runs whose weight decay and dropout are compared


@dataclass(frozen=True)
class Run:
    """A run's name, its size and text, its set, and its points, of which the last is its end."""

    name: str
    group: str
    regime: bool
    points: list[Point]

    @property
    def end(self) -> Point:
        return self.points[-1]

    @property
    def epochs(self) -> float:
        """By its end."""
        situation = self.end.situation
        return self.end.step * situation.tokens_per_step / situation.dataset_tokens


def runs_at_hand() -> list[Run]:
    """Every run of many epochs that has a loss after the first."""
    entries = [entry for name in references.REPEATED_FILES for entry in references.entries(name)]
    made = [Run(e["name"], references.repeated_group(e), "size" in e, references.repeated(e)) for e in entries]
    return [run for run in made if run.points]


def points_of(runs: Sequence[Run]) -> list[Point]:
    """Of the reference runs of few epochs, and of these."""
    return [*references.points(), *(point for run in runs for point in run.points)]


def fit(points: Sequence[Point], start: Overfitting = OVERFITTING, rounds: int = ROUNDS) -> Overfitting:
    """The penalty that makes the points likeliest, with its prior."""
    terms = np.array([point.situation.overfitting_terms(point.step) for point in points], dtype=float).T
    constants = np.array([np.log(start.scale), np.log(start.saturation), *list(asdict(start).values())[2:]])
    for _ in range(rounds):
        model = Model(points, law_of(constants))

        def misfits(values: np.ndarray, model: Model = model) -> np.ndarray:
            fits = model.misfits(law_of(values).penalty(*terms))
            return np.concatenate([fits, (values - PRIOR_MEAN) / PRIOR_SD])

        constants = _least_squares(misfits, constants)
    return law_of(constants)


def law_of(constants: np.ndarray) -> Overfitting:
    return Overfitting(*(float(each) for each in [*np.exp(constants[:2]), *constants[2:]]))


def _least_squares(misfits: Callable[[np.ndarray], np.ndarray], start: np.ndarray) -> np.ndarray:
    """By Levenberg and Marquardt."""
    at, damping, now = start, 1e-2, misfits(start)
    for _ in range(STEPS):
        slopes = np.stack([(misfits(at + 1e-5 * axis) - now) / 1e-5 for axis in np.eye(len(at))], axis=1)
        square = slopes.T @ slopes
        step = np.linalg.solve(square + damping * np.diag(np.diag(square) + 1e-9), -slopes.T @ now)
        then = misfits(at + step)
        better = then @ then < now @ now
        if better and now @ now - then @ then < 1e-6:
            return at + step
        at, now, damping = (at + step, then, damping / 3) if better else (at, now, damping * 4)
    return at


@dataclass(frozen=True)
class LeftOut:
    """A run, its last loss as expected with and without penalty from others, nats, and whether the band holds it."""

    run: Run
    expected: float
    plain: float
    half_band: float

    @property
    def loss(self) -> float:
        return self.run.end.loss


def left_out(runs: Sequence[Run], key: Callable[[Run], object], law: Overfitting) -> list[LeftOut]:
    """Every run, expected from those of another `key`; `law` is where the fit begins."""
    found = []
    for value in dict.fromkeys(key(run) for run in runs):
        points = points_of([run for run in runs if key(run) != value])
        model, plain = Model(points, fit(points, law, rounds=1)), Model(points, NONE)
        for run in (run for run in runs if key(run) == value):
            made, without = (each.expect(run.end.situation, run.end.step) for each in (model, plain))
            found.append(LeftOut(run, made.loss, without.loss, made.band[1] - made.loss))
    return found


def score(found: Sequence[LeftOut]) -> dict[str, float]:
    """Mean absolute errors at the ends, nats, with and without the penalty, of losses and of changes in a group."""
    scored: dict[str, float] = {"runs": len(found)}
    groups = np.array([each.run.group for each in found])
    for name, expected in (("with penalty", [e.expected for e in found]), ("without", [e.plain for e in found])):
        errors = np.array(expected) - [each.loss for each in found]
        medians = {group: np.median(errors[groups == group]) for group in groups}
        scored[f"{name}, error"] = float(np.abs(errors).mean())
        scored[f"{name}, of changes"] = float(np.abs(errors - [medians[group] for group in groups]).mean())
        scored[f"{name}, pairs in order"] = _in_order(found, expected)
    inside = [abs(each.expected - each.loss) <= each.half_band for each in found]
    return scored | {"inside 80 % band": float(np.mean(inside)), "half band": float(np.median(_halves(found)))}


def _halves(found: Sequence[LeftOut]) -> list[float]:
    return [each.half_band for each in found]


def _in_order(found: Sequence[LeftOut], expected: Sequence[float]) -> float:
    """The share of pairs of a group's runs that differ by TELLS or more and are expected in their order."""
    each = list(zip([e.run.group for e in found], [e.loss for e in found], expected, strict=True))
    pairs = [(a, b) for at, a in enumerate(each) for b in each[:at] if a[0] == b[0] and abs(a[1] - b[1]) >= TELLS]
    return sum((a[1] - b[1]) * (a[2] - b[2]) > 0 for a, b in pairs) / len(pairs)


def picks(found: Sequence[LeftOut]) -> dict[str, dict[str, object]]:
    """Of each size's runs of about 25 epochs the one that is expected to be best, and its loss above the best one's."""
    made = {}
    for group in dict.fromkeys(each.run.group for each in found if each.run.regime):
        mine = [e for e in found if e.run.group == group and EPOCHS[0] <= e.run.epochs <= EPOCHS[1]]
        best, pick = min(each.loss for each in mine), min(mine, key=lambda each: each.expected)
        made[group] = {"pick": pick.run.name, "above the best": pick.loss - best, "of runs": len(mine)}
    return made


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    runs, result = runs_at_hand(), {}
    law = fit(points_of(runs))
    print({name: round(value, 4) for name, value in asdict(law).items()}, flush=True)
    keys = {"a size": lambda run: run.group, "its text": lambda run: run.regime, "a run": lambda run: run.name}
    for key, of in keys.items():
        found = left_out(runs, of, law)
        for which, regime in (("one text", False), ("regime", True)):
            scored = result[f"{which}, {key} left out"] = score([each for each in found if each.run.regime == regime])
            print(f"{which}, {key} left out", {name: round(value, 3) for name, value in scored.items()}, flush=True)
        if key == "a size":
            result["picks"] = picks(found)
            for group, pick in result["picks"].items():
                print(
                    f"{group}: of {pick['of runs']} picks {pick['pick']}, {pick['above the best']:.3f} above the best"
                )
    write_json(RESULTS, result)


if __name__ == "__main__":
    main()
