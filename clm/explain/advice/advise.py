"""All advice for a run, ranked."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from clm.explain.advice.case import Advice, Case
from clm.explain.advice.regularisation import epochs, regularisation, validation
from clm.explain.advice.schedule import SMALLEST_GAIN, batch, decay, longer, optimizer, rate, shape
from clm.explain.setup import Setup

RULES: tuple[Callable[[Case], Iterator[Advice]], ...] = (
    longer,
    epochs,
    decay,
    batch,
    rate,
    optimizer,
    regularisation,
    validation,
    shape,
)


def advise(
    setup: Setup,
    steps: int,
    loss: float,
    noise_scale: float | None = None,
    least: float = 0.0,
    own: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Advice for a run of so many steps whose loss is `loss`, by gain for an e-fold of time; what is unknown last.

    No gain leads below `least`, a loss that no model of such a text has. What the run's own curve says (`own`, as of a
    Case) goes before what the references let expect.
    """
    case = Case(setup, steps, loss, noise_scale, own or {})
    given = [_bounded(advice, loss - least) for rule in RULES for advice in rule(case)]
    worth = [advice for advice in given if advice.gain_nats is None or advice.gain_nats >= SMALLEST_GAIN]
    worth.sort(key=lambda advice: -(advice.gain_nats or 0) / (1 + math.log(max(1.0, advice.time_factor))))
    return [asdict(advice) for advice in worth]


def _bounded(advice: Advice, most: float) -> Advice:
    return advice if advice.gain_nats is None else replace(advice, gain_nats=min(advice.gain_nats, most))
