"""The forecast on curves whose end is known."""

import math

import numpy as np
import pytest

from clm.explain.forecast import SIZES, Constants, Law, constants, forecast
from clm.runs.curve import Curve
from clm.training.schedule import learning_rates

KNOWN = constants(muon=False, non_embedding_parameters=3e5)
COSINE = {"lr_scheduler_type": "cosine", "learning_rate": 1e-3, "warmup_steps": 0.05}


def made_up(law: Law, until: int) -> Curve:
    """A curve that follows the law exactly: slope 0.4, alpha 0.2, decay 0.3."""
    steps = np.arange(20, until + 1, 20)
    walked, sunk, _ = law.terms(steps)
    losses = 3 + 0.4 * ((walked / law.walked[-1]) ** -0.2 - 1) / 0.2 - 0.3 * sunk
    return Curve.from_points([], list(zip(steps, losses, strict=True)))


def test_it_foresees_the_end_of_a_curve_that_follows_the_law_and_grows_surer():
    law = Law(lambda at: learning_rates(COSINE, 1000, at), 1000, math.inf)
    end = made_up(law, 1000).losses[-1]
    made = [forecast(made_up(law, until), law, KNOWN) for until in (250, 500, 900)]
    assert all(low < end < high for _, low, high in (each.final for each in made))
    widths = [each.high[-1] - each.low[-1] for each in made]
    assert widths == sorted(widths, reverse=True) and made[-1].final[0] == pytest.approx(end, abs=0.02)
    assert made[0].steps[0] == 240 and made[0].steps[-1] == 1000


def test_it_knows_what_another_schedule_would_give():
    constant = {"lr_scheduler_type": "constant", "learning_rate": 1e-3}
    law, other = (
        Law(lambda at, training=training: learning_rates(training, 1000, at), 1000, math.inf)
        for training in (constant, constant | {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": {
            "num_decay_steps": 200, "decay_type": "linear", "min_lr_ratio": 0.0}, "warmup_steps": 0})
    )  # fmt: skip
    curve = made_up(law, 800)
    stays, decays = forecast(curve, law, KNOWN), forecast(curve, law, KNOWN, instead=other)
    assert stays.final[0] - decays.final[0] > 0.1


def test_it_says_nothing_of_a_curve_that_is_too_short_or_still_at_its_plateau():
    law = Law(lambda at: learning_rates(COSINE, 1000, at), 1000, math.inf)
    assert forecast(made_up(law, 100), law, KNOWN) is None
    assert forecast(made_up(law, 500), law, KNOWN, unigram=3.0) is None


def test_a_small_model_is_done_sooner_and_beyond_the_references_size_says_no_more():
    known = Constants(alpha=0.3, alpha_size=0.1)
    assert known.sized(3e5).alpha == pytest.approx(0.3)
    assert known.sized(3e5 / math.e).alpha == pytest.approx(0.4)
    assert known.sized(1e11) == known.sized(SIZES[1])
