"""How wide the forecast's intervals have to be: fitted to what it missed left-out runs by."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from calibration.fit import SHARES, Reference, outcome
from clm.explain.forecast import NORMAL_QUANTILE, Knowledge
from clm.explain.forecast.ahead import e_folds
from clm.explain.forecast.facts import TEXTS
from clm.explain.forecast.prior import OTHER_TEXT, width_of

WIDTHS = np.arange(0.5, 1.05, 0.1)  # by which the law's own standard deviation is multiplied
FLOORS = np.arange(0.0, 0.021, 0.002)  # nats
AHEAD = np.arange(0.0, 0.151, 0.005)  # nats for each e-fold of progress still to come
ROUNDS = 5  # of fitting widths and what lies ahead in turn
FREEDOM = 4  # of Student's t, which the misses are taken to follow: a few runs miss by far
T_QUANTILE = 1.533  # of it, up to which it holds as much as an interval has to

Together = Callable[[Reference], str]


@dataclass(frozen=True)
class Misses:
    """How unlikely the misses of left-out runs are for each of WIDTHS, FLOORS and AHEAD: `surprise`, minus the
    log-likelihood, (widths, floors, ahead, runs). Each of `kinds`, (runs,), has a width and a floor, each of `groups`,
    (runs,), an `ahead` of its own. Runs of one measure aren't independent: together they weigh as the root of their
    number.
    """

    runs: Sequence[Reference]
    groups: Sequence[str]
    surprise: np.ndarray

    @cached_property
    def kinds(self) -> list[str]:
        """As the constants that ship call them."""
        return ["large" if run.large else width_of(run.facts) for run in self.runs]

    @classmethod
    def of(cls, runs: Sequence[Reference], fits: Sequence[Knowledge], groups: Sequence[str]) -> "Misses":
        """Of runs that are forecast with what was fitted for them, without any width as yet."""
        made = np.array([outcome(run, known) for run, known in zip(runs, fits, strict=True)])
        return cls(runs, groups, surprise(made, np.array([_folds(run) for run in runs])))

    def without(self, together: Together, key: str) -> "Misses":
        """Those of the runs that are `together` under another key."""
        kept = [i for i, run in enumerate(self.runs) if together(run) != key]
        return Misses([self.runs[i] for i in kept], [self.groups[i] for i in kept], self.surprise[..., kept])

    @property
    def weighed(self) -> np.ndarray:
        """The surprise of each run times its weight."""
        count = Counter(run.measure for run in self.runs)
        return self.surprise * np.array([count[run.measure] ** -0.5 for run in self.runs])

    def likeliest(self) -> tuple[dict[str, tuple[int, int]], dict[str, float]]:
        """The likeliest of WIDTHS and FLOORS for each kind, and `ahead` for each group: in turn, until they settle."""
        kinds, groups, each = _masks(self.kinds), _masks(self.groups), np.arange(len(self.runs))
        ahead = dict.fromkeys(groups, 0)
        for _ in range(ROUNDS):
            of_run = self.weighed[:, :, [ahead[group] for group in self.groups], each]
            totals = {kind: of_run[..., mine].sum(axis=-1) for kind, mine in kinds.items()}
            widths = {
                kind: tuple(int(at) for at in np.unravel_index(total.argmin(), total.shape))
                for kind, total in totals.items()
            }
            of_run = self.at(widths)
            ahead = {group: int(of_run[mine].sum(axis=0).argmin()) for group, mine in groups.items()}
        return widths, {group: _rounded(AHEAD[at]) for group, at in ahead.items()}

    def at(self, widths: Mapping[str, tuple[int, int]]) -> np.ndarray:
        """(runs, ahead): the surprise of each run with its kind's width and floor, weighed."""
        i, j = np.array([widths[kind] for kind in self.kinds]).T
        return self.weighed[i, j, :, np.arange(len(self.runs))]


@dataclass(frozen=True)
class Evidence:
    """Misses of small runs, in groups by their text; of small runs as if on an unknown text; of large runs."""

    small: Misses
    unknown: Misses
    large: Misses

    def without(self, together: Together, key: str) -> "Evidence":
        """Of the runs that are `together` under another key."""
        return Evidence(*(each.without(together, key) for each in (self.small, self.unknown, self.large)))

    def widen(self, known: Knowledge) -> Knowledge:
        """With the likeliest widths."""
        (small, ahead), (large, ahead_of_large) = self.small.likeliest(), self.large.likeliest()
        others = {OTHER_TEXT: _rounded(AHEAD[self.unknown.at(small).sum(axis=0).argmin()])}
        widths = {kind: (_rounded(WIDTHS[i]), _rounded(FLOORS[j])) for kind, (i, j) in (small | large).items()}
        return replace(known, widths=widths, ahead=dict.fromkeys(TEXTS, 0.0) | ahead | others | ahead_of_large)


def widened(
    runs: Sequence[Reference], fits: Sequence[Knowledge], evidence: Evidence, together: Together
) -> list[Knowledge]:
    """What was fitted for each run, with the widths that the runs need which aren't `together` with it."""
    left = {key: evidence.without(together, key) for key in dict.fromkeys(together(run) for run in runs)}
    return [left[together(run)].widen(known) for run, known in zip(runs, fits, strict=True)]


def surprise(outcomes: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """(widths, floors, ahead, runs): minus the log-likelihood of errors, up to a constant.

    Args:
        outcomes: (runs, shares, 2) errors, NaN where there is none, and the law's own standard deviations.
        folds: (runs, shares) e-folds of progress still to come.
    """
    width, floor, ahead = (each[..., None, None] for each in np.meshgrid(WIDTHS, FLOORS, AHEAD, indexing="ij"))
    sds = np.sqrt((width * outcomes[..., 1]) ** 2 + floor**2 + (ahead * folds) ** 2)
    scales = sds * NORMAL_QUANTILE / T_QUANTILE
    each = np.log(scales) + (FREEDOM + 1) / 2 * np.log1p((outcomes[..., 0] / scales) ** 2 / FREEDOM)
    return np.nansum(each, axis=-1)


def _masks(names: Sequence[str]) -> dict[str, np.ndarray]:
    return {name: np.array([each == name for each in names]) for name in dict.fromkeys(names)}


def _rounded(value: float) -> float:
    return round(float(value), 4)


def _folds(run: Reference) -> list[float]:
    end = np.array([run.law.total_steps])
    return [float(e_folds(run.law, run.until(share).last_step, run.law, end)[0]) for share in SHARES]
