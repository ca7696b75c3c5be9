"""What a sweep has found: the best trial and how sure that is, the values that do as well, and what mattered."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from clm.numbers import brief, shown
from clm.sweep import pruning
from clm.sweep.definition import Sweep
from clm.sweep.pruning import Replay
from clm.sweep.study import best_of, repeat_of

FEWEST = 4  # complete trials, before importances are worked out


@dataclass(frozen=True)
class Flat:
    """The values of one key that did as well as the best: from `low` to `high`, or for choices those in `choices`."""

    key: str
    best: Any
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] = ()

    def __str__(self) -> str:
        if self.choices:
            return ", ".join(map(shown, self.choices))
        return brief(self.low) if self.low == self.high else f"{brief(self.low)} to {brief(self.high)}"


@dataclass(frozen=True)
class Findings:
    """All of it. Losses in nats a token; `tolerance`: trials within so much of the best count as equal.

    `noise` is the standard deviation of the best trial and its repeats, None without them.
    """

    trials: list[FrozenTrial]
    best: FrozenTrial
    start: FrozenTrial | None
    repeats: list[float]
    noise: float | None
    tolerance: float
    flat: list[Flat]
    importances: dict[str, float]
    replay: Replay | None

    def above(self, trial: FrozenTrial) -> float | None:
        """How far a trial's loss is above the best one's."""
        loss = trial.user_attrs.get("loss")
        return None if loss is None else loss - self.best.value

    @property
    def sure(self) -> list[str]:
        """How sure the best trial is to be better, a sentence each."""
        searched = [trial for trial in self.trials if trial.state == TrialState.COMPLETE and not repeat_of(trial)]
        equal = sum(self.above(trial) <= self.tolerance for trial in searched)
        lines = [
            f"Trial {self.best.number}, {self.best.value:.4f} nats a token, is the lowest of {len(searched)} that came "
            f"to their end; {equal} of them lie within {self.tolerance:.3f} nats of it and count as equal."
        ]
        if self.noise is None:
            lines.append(
                "It was not repeated, so how much of its lead is chance isn't known: set repeats to 2 or more."
            )
        else:
            lines.append(
                f"Repeated in another order of the text: {', '.join(f'{loss:.4f}' for loss in self.repeats)}; standard "
                f"deviation {self.noise:.4f} of all {len(self.repeats) + 1}. The initial weights were the same, so "
                "seeds may differ by more."
            )
        if self.start is not None and self.start.number != self.best.number and self.start.value is not None:
            lines.append(
                f"The base recipe's own values end at {self.start.value:.4f}, {self.above(self.start):.4f} above."
            )
        return lines


def find(sweep: Sweep, trials: Sequence[FrozenTrial]) -> Findings | None:
    """What the trials so far say; None while none has come to its end."""
    best = best_of(list(trials))
    if best is None:
        return None
    searched = [trial for trial in trials if not repeat_of(trial)]
    complete = [trial for trial in searched if trial.state == TrialState.COMPLETE]
    repeats = [
        trial.value
        for trial in trials
        if trial.state == TrialState.COMPLETE and trial.user_attrs.get("of") == best.number
    ]
    noise = statistics.stdev([best.value, *repeats]) if repeats else None
    # Two single runs that differ by less than this are equal, at 95 %, if losses scatter normally.
    tolerance = max(sweep.flat, 2 * math.sqrt(2) * noise if noise else 0.0)
    start = next((trial for trial in complete if trial.params == sweep.start()), None)
    finished = [(t.value, sweep.recipe(t.params).training["max_steps"], t.user_attrs["forecasts"]) for t in complete]
    return Findings(
        trials=list(trials),
        best=best,
        start=start,
        repeats=repeats,
        noise=noise,
        tolerance=tolerance,
        flat=[flat_region(key, complete, best, tolerance, len(sweep.vary) == 1) for key in sweep.vary],
        importances=_importances(complete),
        replay=pruning.replay(finished),
    )


def flat_region(key: str, complete: list[FrozenTrial], best: FrozenTrial, tolerance: float, alone: bool) -> Flat:
    """The values of a key whose trials are within `tolerance` of the best.

    Where the key was varied alone, a worse trial between two equal ones ends the region; where others were varied too,
    such a trial may be worse for their sake.
    """
    value, limit = best.params[key], best.value + tolerance
    if isinstance(best.distributions[key], CategoricalDistribution):
        equal = {shown(trial.params[key]): trial.params[key] for trial in complete if trial.value <= limit}
        return Flat(key, value, choices=tuple(equal.values()))
    worse = [trial.params[key] for trial in complete if trial.value > limit] if alone else []
    under = max((other for other in worse if other < value), default=-math.inf)
    over = min((other for other in worse if other > value), default=math.inf)
    equal = [trial.params[key] for trial in complete if trial.value <= limit and under < trial.params[key] < over]
    return Flat(key, value, min(equal), max(equal))


def _importances(complete: list[FrozenTrial]) -> dict[str, float]:
    """How much each key has to do with being among the best quarter of the trials, as shares.

    PED-ANOVA (Watanabe et al. 2023, arXiv 2304.10255), without the repeats, which would count the best trial often.
    """
    if len(complete) < FEWEST or len(complete[0].params) < 2:
        return {}
    searched = optuna.create_study()
    searched.add_trials(complete)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
    return optuna.importance.get_param_importances(searched, evaluator=evaluator)
