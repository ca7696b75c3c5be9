"""Perplexities, of any loss that a log can have."""

import math

MOST_NATS = 690.0  # e to that is 1e300


def perplexity(loss: float) -> float:
    """exp(loss), as far as there is such a number: a run that diverged can have any loss."""
    return math.exp(min(loss, MOST_NATS))


def shown_perplexity(loss: float, digits: int = 1) -> str:
    """The same in words."""
    value = perplexity(loss)
    return "over 1e300" if loss >= MOST_NATS else f"{value:.2e}" if value >= 1e9 else f"{value:,.{digits}f}"
