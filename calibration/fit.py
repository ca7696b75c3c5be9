"""Fits the forecast's constants to reference runs, and tells a run's forecasts from its curve."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import numpy as np

from clm.config.fields import MUON
from clm.explain.forecast import Constants, Law, forecast
from clm.runs.curve import Curve
from clm.training.schedule import learning_rates

SHARES = (0.25, 0.33, 0.5)
# What is tried for each constant, the others held; twice round, from each alpha and decay. The spreads aren't fitted.
CHOICES = {
    "slope": (0.35, 0.4, 0.45, 0.5, 0.55),
    "alpha": (0.15, 0.2, 0.25, 0.3, 0.35),
    "alpha_size": (0.0, 0.05, 0.1, 0.15),
    "decay": (0.25, 0.3, 0.35, 0.4, 0.45),
    "repeat": (0.06, 0.09, 0.12, 0.15, 0.18),
}
# Under Muon the steps bring less, and ever less; the decay brings more.
MUON_CHOICES = CHOICES | {
    "slope": (0.1, 0.2, 0.3, 0.4),
    "alpha": (0.2, 0.3, 0.35, 0.4, 0.5),
    "decay": (0.45, 0.5, 0.55, 0.6, 0.65),
}


@dataclass(frozen=True)
class Reference:
    """A run of small_runs.json."""

    name: str
    curve: Curve
    law: Law
    unigram: float
    muon: bool
    parameters: int  # without embeddings

    @property
    def final(self) -> float:
        """The last validation loss."""
        return float(self.curve.losses[-1])

    def until(self, share: float) -> Curve:
        """The curve's first part."""
        return self.curve.until(share * self.law.total_steps)


def reference(entry: dict) -> Reference:
    """A run of the file as the forecast takes it."""
    recipe = entry["recipe"]
    total, tokens = recipe["max_steps"], recipe["block_size"] * recipe["per_device_train_batch_size"]
    steps_per_pass = entry["dataset_tokens"] / tokens / recipe["gradient_accumulation_steps"]
    law = Law(lambda steps: learning_rates(recipe, total, steps), total, steps_per_pass)
    curve, muon = Curve.from_points(entry["train"], entry["validation"]), recipe.get("optim") == MUON
    parameters = 12 * recipe["n_layer"] * recipe["n_embd"] ** 2
    return Reference(entry["name"], curve, law, entry["unigram_loss"], muon, parameters)


class Fitter:
    """Chooses constants for sets of runs; what one constant gives for one run is worked out once."""

    def __init__(self, runs: Sequence[Reference], choices: dict[str, tuple[float, ...]] = CHOICES) -> None:
        self.runs, self._choices = runs, choices
        self._outcome = cache(self._forecasts)

    def _forecasts(self, known: Constants, number: int) -> np.ndarray:
        run = self.runs[number]
        known = known.sized(run.parameters)
        made = [forecast(run.until(share), run.law, known, run.unigram) for share in SHARES]
        return np.array([each.final if each else (np.nan,) * 3 for each in made])

    def outcome(self, known: Constants, number: int) -> np.ndarray:
        """(shares, 2): the forecast's error in nats, and half of its interval; NaN where it couldn't say."""
        middle, low, high = self._outcome(replace(known, width=1.0), number).T
        return np.stack((middle - self.runs[number].final, known.width * (high - low) / 2), axis=1)

    def fit(self, numbers: Sequence[int]) -> Constants:
        """The constants with the least mean absolute error over these runs, and the width that holds 80 % of them."""

        def cost(known: Constants) -> float:
            return float(np.nanmean([np.abs(self.outcome(known, number)[:, 0]) for number in numbers]))

        found = []
        for alpha, decay in product(self._choices["alpha"], self._choices["decay"]):  # which make up for each other
            best = replace(Constants(), alpha=alpha, decay=decay)
            for _ in range(2):
                for name, values in self._choices.items():
                    best = min((replace(best, **{name: value}) for value in values), key=cost)
            found.append(best)
        best = min(found, key=cost)
        return replace(best, width=self._width(best, numbers))

    def _width(self, known: Constants, numbers: Sequence[int]) -> float:
        outcomes = np.concatenate([self.outcome(known, number) for number in numbers])
        outcomes = outcomes[~np.isnan(outcomes[:, 0])]
        rank = min(1.0, 0.8 * (len(numbers) + 1) / len(numbers))  # as in split conformal prediction, by run
        return float(np.quantile(np.abs(outcomes[:, 0]) / outcomes[:, 1], rank))
