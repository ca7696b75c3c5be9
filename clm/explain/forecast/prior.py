"""What other runs teach of a run before its own curve does: the law's constants, by size, length and optimizer.

Each constant is a regression over the reference runs, fitted in calibration/fit.py: small models (up to 2 million
non-embedding parameters) and large ones (from 25 million) have coefficients of their own, between them is
interpolated. The further a run is from the references, the wider its prior. Where a fact is unknown, every value it
may have is tried, and the run's curve tells how likely each is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from clm.explain.scaling import usual_learning_rate
from clm.files import read_json

SMALL, LARGE = 2e6, 2.5e7  # non-embedding parameters: up to the one all is small, from the other on large
SIZES = (1e5, 1e6, 1e7, 1e8, 1e9)  # tried where the size is unknown
RATIOS = (1.0, 10.0, 100.0)  # tokens a parameter, tried where they are unknown
MUON_RATE = 4.0  # Muon's usual peak rate in those of AdamW (the reference runs')
FARTHER = 0.15  # an e-fold beyond the references adds so much to the relative uncertainty of a constant
# The regressions' inputs, in the order of the coefficients; `small` and `large` go from 0 to 1.
INPUTS = (
    "one", "large", "small parameters", "large parameters", "small ratio", "large ratio", "small muon",
    "small muon parameters", "small rate", "small steps",
)  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What is known of a run besides its curve; None where it isn't.

    `parameters` are without embeddings; `tokens` are what the whole run trains on, repeats counted; `optimizer` may be
    any name.
    """

    parameters: float | None
    tokens: float | None
    steps: int
    optimizer: str | None = "adamw"
    peak_rate: float | None = None

    @property
    def family(self) -> str | None:
        """`adamw`, `muon`, or None for another or an unknown optimizer."""
        name = (self.optimizer or "").lower()
        return "muon" if "muon" in name else "adamw" if "adam" in name else None


@dataclass(frozen=True)
class Prior:
    """Mean and standard deviation (`_sd`) of each of the law's constants; nats, but for alpha.

    `slope` is what an e-fold of progress brings at the end, `decay` the whole peak rate's annealing, `repeat` an e-fold
    of passes over the text. `noise` is the least by which a smooth law misses a loss; `width` and `floor` make an
    interval hold its level (see posterior.Mixture).
    """

    alpha: float
    alpha_sd: float
    slope: float
    slope_sd: float
    decay: float
    decay_sd: float
    repeat: float
    repeat_sd: float
    noise: float
    width: float = 1.0
    floor: float = 0.0


@dataclass(frozen=True)
class Knowledge:
    """The regressions: coefficients of INPUTS for alpha, ln slope, ln decay and repeat, their covariances, the spread
    of runs around them, and the ranges of the references' facts.
    """

    coefficients: dict[str, np.ndarray]
    covariances: dict[str, np.ndarray]
    spreads: dict[str, float]
    ranges: dict[str, dict[str, tuple[float, float]]]
    widths: dict[str, tuple[float, float]]

    @classmethod
    def of(cls, kept: dict[str, Any]) -> "Knowledge":
        """From forecast_constants.json."""
        arrays = ({name: np.array(values) for name, values in kept[part].items()} for part in _ARRAYS)
        return cls(*arrays, kept["spreads"], kept["ranges"], kept["widths"])

    def kept(self) -> dict[str, Any]:
        """As forecast_constants.json keeps it."""
        numbers = {part: {k: np.round(v, 5).tolist() for k, v in getattr(self, part).items()} for part in _ARRAYS}
        return numbers | {"spreads": self.spreads, "ranges": self.ranges, "widths": self.widths}

    def prior(self, facts: Facts) -> Prior:
        """For a run whose size, tokens and optimizer are known."""
        near, farther = self._nearest(facts)
        row, large = inputs(near), largeness(near.parameters)
        mean, sd = {}, {}
        for name, coefficients in self.coefficients.items():
            mean[name] = float(row @ coefficients)
            variance = self.spreads[name] ** 2 + float(row @ self.covariances[name] @ row)
            sd[name] = math.sqrt(variance + (FARTHER * farther) ** 2)
        slope, decay = math.exp(mean["slope"]), math.exp(mean["decay"])
        width, floor = ((1 - large) * a + large * b for a, b in zip(self.widths["small"], self.widths["large"]))
        return Prior(
            *(min(max(mean["alpha"], 0.1), 1.1), sd["alpha"]),
            *(slope, slope * sd["slope"]),
            *(decay, decay * sd["decay"]),
            *(max(mean["repeat"], 0.0), self.spreads["repeat"]),
            noise=smallest_noise(large),
            width=width,
            floor=floor,
        )

    def _nearest(self, facts: Facts) -> tuple[Facts, float]:
        """The facts moved to within the references', and how many e-folds that is."""
        values, moved, farther = _values(facts), {}, 0.0
        for name, (low, high) in self._ranges(facts).items():
            if values[name] is not None:
                moved[name] = min(max(values[name], low), high)
                farther += abs(math.log(values[name] / moved[name]))
        parameters = moved["parameters"]
        ratio, rate = moved["tokens a parameter"], moved.get("peak rate over the usual one")
        near = replace(
            facts, parameters=parameters, tokens=ratio * parameters, steps=moved["steps"],
            peak_rate=None if rate is None else rate * _usual_rate(parameters, facts.family),
        )  # fmt: skip
        return near, farther

    def _ranges(self, facts: Facts) -> dict[str, tuple[float, float]]:
        sizes = [each["parameters"] for each in self.ranges.values()]
        name = "large" if facts.parameters > math.sqrt(SMALL * LARGE) else "small"
        found = self.ranges.get(name) or next(iter(self.ranges.values()))
        return found | {"parameters": (min(low for low, _ in sizes), max(high for _, high in sizes))}

    def priors(self, facts: Facts) -> list[Prior]:
        """One for every value that an unknown fact may have."""
        sizes = [facts.parameters] if facts.parameters else SIZES
        families = [facts.family] if facts.family else ("adamw", "muon")
        made = []
        for size, family in product(sizes, families):
            for tokens in [facts.tokens] if facts.tokens else [ratio * size for ratio in RATIOS]:
                made.append(self.prior(replace(facts, parameters=size, tokens=tokens, optimizer=family)))
        return list(dict.fromkeys(made))

    def outside(self, facts: Facts) -> list[str]:
        """What of the facts no reference run covers, in words; empty where all is covered."""
        said = []
        if facts.parameters is None:
            said.append("the model's size isn't known")
        elif SMALL < facts.parameters < LARGE:
            said.append(f"no reference run has from {SMALL:,.0f} to {LARGE:,.0f} non-embedding parameters")
        if facts.tokens is None:
            said.append("the tokens a step aren't known")
        known = facts.parameters and facts.tokens
        for name, (low, high) in self._ranges(facts).items() if known else ():
            value = _values(facts)[name]
            if value is not None and not 0.99 * low <= value <= 1.01 * high:
                said.append(f"{name}: {value:,.3g}, where the reference runs have {low:,.3g} to {high:,.3g}")
        if facts.family is None and largeness(facts.parameters or SMALL) < 1:
            name = facts.optimizer or "not known"
            said.append(f"optimizer: {name}, where the reference runs of this size have AdamW or Muon")
        return said


_ARRAYS = ("coefficients", "covariances")


@cache
def knowledge() -> Knowledge:
    """What was fitted to the reference runs (`python -m calibration.forecast --fit`)."""
    return Knowledge.of(read_json(Path(__file__).parent.parent / "references" / "forecast_constants.json"))


def largeness(parameters: float) -> float:
    """0 for a small model, 1 for a large one, and between them in between, in ln(parameters)."""
    return min(1.0, max(0.0, math.log(parameters / SMALL) / math.log(LARGE / SMALL)))


def smallest_noise(large: float) -> float:
    """By how many nats a smooth law misses a validation loss at least: 0.016 in small runs, 0.002 in large ones."""
    return 0.016 ** (1 - large) * 0.002**large


def inputs(facts: Facts) -> np.ndarray:
    """(INPUTS,) of one run whose size and tokens are known; logarithms, set off so that each is about 0 in the mean."""
    large = largeness(facts.parameters)
    small, size = 1 - large, math.log(facts.parameters)
    ratio, muon = math.log(facts.tokens / facts.parameters), float(facts.family == "muon")
    values = _values(facts)["peak rate over the usual one"]
    rate = math.log(values) if values else 0.0
    return np.array([
        1.0, large, small * (size - 12.6), large * (size - 18.4) / 2, small * (ratio - 2), large * (ratio - 4) / 2,
        small * muon, small * muon * (size - 12.6), small * rate, small * (math.log(facts.steps) - 6.6),
    ])  # fmt: skip


def ranges(runs: Sequence[Facts]) -> dict[str, dict[str, tuple[float, float]]]:
    """The least and the greatest of each fact among small and among large runs."""
    found = {}
    for name, chosen in (("small", 0.0), ("large", 1.0)):
        rows = [_values(facts) for facts in runs if largeness(facts.parameters) == chosen]
        columns = {key: [row[key] for row in rows if row[key] is not None] for key in _NAMES}
        found[name] = {key: (min(values), max(values)) for key, values in columns.items() if values}
    return {name: each for name, each in found.items() if each}


_NAMES = ("parameters", "tokens a parameter", "steps", "peak rate over the usual one")


def _values(facts: Facts) -> dict[str, float | None]:
    usual = _usual_rate(facts.parameters, facts.family)
    small = largeness(facts.parameters) < 1  # the rate of a large run isn't used
    rate = facts.peak_rate / usual if facts.peak_rate and small else None
    return dict(zip(_NAMES, (facts.parameters, facts.tokens / facts.parameters, facts.steps, rate), strict=True))


def _usual_rate(parameters: float, family: str | None) -> float:
    return usual_learning_rate(parameters) * (MUON_RATE if family == "muon" else 1.0)
