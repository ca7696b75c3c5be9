"""What other runs teach of a run before its own curve does: the law's constants, by size, length, optimizer and text.

Each constant is a regression over the reference runs, fitted in calibration/fit.py: small models (up to 2 million
non-embedding parameters) and large ones (from 25 million) have coefficients of their own, between them is
interpolated. Small models have the text's own part in them too. The further a run is from the references, the wider its
prior, and so it is on a text that none of them has. Where another fact is unknown, some values that it may have are
tried, and the run's curve tells how likely each is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from clm.explain.forecast.facts import Facts, Ranges, inputs, largeness, nearest
from clm.files import read_json

CONSTANTS = ("alpha", "slope", "decay", "repeat")  # slope and decay in logarithms
SIZES = (1e5, 1e6, 1e7, 1e8, 1e9)  # non-embedding parameters, tried where they are unknown
RATIOS = (1.0, 10.0, 100.0)  # tokens a parameter, tried where they are unknown
FARTHER = 0.15  # an e-fold beyond the references adds so much to the relative uncertainty of a constant
STRANGER = 0.15  # and so much an optimizer that none of them has
TEXT_SPREAD = {"alpha": 0.04, "slope": 0.2, "decay": 0.2, "repeat": 0.06}  # what a text makes of the constants
OTHER_TEXT = "another text"  # than the reference runs'
ALPHA_LIMITS = (0.1, 1.1)
SMALLEST_NOISE = (0.016, 0.002)  # nats by which a smooth law misses a loss at least, of small and of large models


@dataclass(frozen=True)
class Prior:
    """What is expected of the law's constants; nats, but for alpha.

    `slope` is what an e-fold of progress brings at the end, `decay` the whole peak rate's annealing, `repeat` an e-fold
    of passes over the text. `sds` and `correlations` are those of CONSTANTS: alpha, ln(slope), ln(decay) and repeat.
    `noise` is the least by which a smooth law misses a loss. An interval's standard deviation is multiplied by `width`,
    never below `floor`, and grows by `ahead` for each e-fold of progress still to come; see together.
    """

    alpha: float
    slope: float
    decay: float
    repeat: float
    sds: tuple[float, ...]
    correlations: tuple[tuple[float, ...], ...]
    noise: float
    width: float = 1.0
    floor: float = 0.0
    ahead: float = 0.0


def width_of(facts: Facts) -> str:
    """Whose widths a small run's interval has: a run by Muon is missed by more, late in its decay most of all."""
    return "small muon" if facts.family == "muon" else "small"


@dataclass(frozen=True)
class Knowledge:
    """The regressions: coefficients of INPUTS for each of CONSTANTS, and their covariances.

    Of small and of large models: the spreads of runs around them, in the order of CONSTANTS, and their correlations;
    the ranges of the references' facts; (width, floor) of the intervals, by `width_of`; and their `ahead`, of small
    models for each of TEXTS and for any OTHER_TEXT.
    """

    coefficients: dict[str, np.ndarray]
    covariances: dict[str, np.ndarray]
    spreads: dict[str, Sequence[float]]
    correlations: dict[str, Sequence[Sequence[float]]]
    ranges: dict[str, Ranges]
    widths: dict[str, tuple[float, float]]
    ahead: dict[str, float]

    @classmethod
    def of(cls, kept: dict[str, Any]) -> "Knowledge":
        """From forecast_constants.json."""
        arrays = ({name: np.array(values) for name, values in kept[part].items()} for part in _ARRAYS)
        return cls(*arrays, kept["ranges"], kept["widths"], kept["ahead"])

    def kept(self) -> dict[str, Any]:
        """As forecast_constants.json keeps it."""
        numbers = {part: {k: np.round(v, 5).tolist() for k, v in getattr(self, part).items()} for part in _ARRAYS}
        return numbers | {"ranges": self.ranges, "widths": self.widths, "ahead": self.ahead}

    def prior(self, facts: Facts) -> Prior:
        """For a run whose size and tokens are known."""
        near, farther = nearest(facts, self.ranges)
        row, large = inputs(near), largeness(near.parameters)
        mean = {name: float(row @ coefficients) for name, coefficients in self.coefficients.items()}
        unknown = 0.0 if facts.known_text else 1 - large
        beyond = dict.fromkeys(CONSTANTS[:3], FARTHER * farther)  # relative to the constant, or of alpha
        sds = (
            math.hypot(
                spread,
                math.sqrt(float(row @ self.covariances[name] @ row)),
                unknown * TEXT_SPREAD[name],
                beyond.get(name, 0.0),
            )
            for name, spread in zip(CONSTANTS, self._between(self.spreads, large), strict=True)
        )
        small_width, large_width = np.array(self.widths[width_of(facts)]), np.array(self.widths["large"])
        width, floor = (1 - large) * small_width + large * large_width
        ahead = (1 - large) * self.ahead[facts.known_text or OTHER_TEXT] + large * self.ahead["large"]
        return Prior(
            alpha=min(max(mean["alpha"], ALPHA_LIMITS[0]), ALPHA_LIMITS[1]),
            slope=math.exp(mean["slope"]),
            decay=math.exp(mean["decay"]),
            repeat=max(mean["repeat"], 0.0),
            sds=tuple(sds),
            correlations=tuple(map(tuple, self._between(self.correlations, large).tolist())),
            noise=SMALLEST_NOISE[0] ** (1 - large) * SMALLEST_NOISE[1] ** large,
            width=float(width),
            floor=float(floor),
            ahead=float(ahead),
        )

    @staticmethod
    def _between(known: dict[str, Any], large: float) -> np.ndarray:
        return (1 - large) * np.array(known["small"]) + large * np.array(known["large"])

    def priors(self, facts: Facts) -> list[Prior]:
        """One for every value that an unknown fact may have."""
        sizes = [facts.parameters] if facts.parameters else SIZES
        names = [facts.optimizer] if facts.family else ("adamw", "muon")
        made = []
        for size, name in product(sizes, names):
            for tokens in [facts.tokens] if facts.tokens else [ratio * size for ratio in RATIOS]:
                prior = self.prior(replace(facts, parameters=size, tokens=tokens, optimizer=name))
                made.append(_wider(prior, STRANGER) if facts.stranger else prior)
        return list(dict.fromkeys(made))


_ARRAYS = ("coefficients", "covariances", "spreads", "correlations")


def _wider(prior: Prior, relative: float) -> Prior:
    *sds, of_repeat = prior.sds
    return replace(prior, sds=(*(math.hypot(sd, relative) for sd in sds), of_repeat))


@cache
def knowledge() -> Knowledge:
    """What was fitted to the reference runs (`python -m calibration.forecast --fit`)."""
    return Knowledge.of(read_json(Path(__file__).parent.parent / "references" / "forecast_constants.json"))
