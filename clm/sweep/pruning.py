"""Giving up a trial whose forecast says that it won't win, and what that would have done to trials that were not."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clm.errors import UserError
from clm.explain import outlook
from clm.explain.setup import of_run
from clm.runs.record import read_run

ORDERS = 500  # in which the finished trials are replayed

Row = tuple[float, float, float, float]  # step, then the final loss: lower bound, middle, upper bound


def forecasts(folder: Path) -> tuple[Row, ...]:
    """What each evaluation of a run but its last let expect of its final loss, as far as that could be said."""
    try:
        run = read_run(folder)
        setup = of_run(run)
    except UserError:  # it has saved nothing yet
        return ()
    rows = []
    for step in run.curve.steps:
        made = outlook.of_run(setup, run.curve.until(step))
        if made is not None:
            middle, low, high = made.final
            rows.append((float(step), low, middle, high))
    return tuple(rows)


def hopeless(row: Row, best: float) -> bool:
    """Whether a forecast, at the lower end of its interval, is above the lowest loss so far."""
    return row[1] > best


@dataclass(frozen=True)
class Replay:
    """What pruning would have done to finished trials, had they been run with it in many orders.

    `lost` is the fraction of orders in which the winner was given up, `nats` what that cost in the mean over all
    orders, and `saved` the fraction of all steps that would not have been run.
    """

    trials: int
    lost: float
    nats: float
    saved: float


def replay(finished: Sequence[tuple[float, int, Sequence[Row]]], seed: int = 0) -> Replay | None:
    """What pruning would have done to trials of (final loss, steps, forecasts); None for fewer than 3."""
    if len(finished) < 3:
        return None
    winner, chance = min(loss for loss, _, _ in finished), random.Random(seed)
    lost, nats, done = 0, 0.0, 0.0
    for _ in range(ORDERS):
        best = float("inf")
        for loss, steps, rows in chance.sample(finished, len(finished)):
            given_up = next((row[0] for row in rows if hopeless(row, best)), None)
            done += steps if given_up is None else given_up
            best = best if given_up is not None else min(best, loss)
        lost += best > winner
        nats += best - winner
    of_all = ORDERS * sum(steps for _, steps, _ in finished)
    return Replay(len(finished), lost / ORDERS, nats / ORDERS, 1 - done / of_all)
