"""A set-up whose loss is to be lowered, the gain of a change to it, and a piece of advice."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from clm.explain.forecast import Law
from clm.explain.outlook import final, pairs
from clm.explain.scaling import critical_batch_tokens
from clm.explain.setup import Setup

EPOCHS = (1, 2, 4, 8, 16, 32, 64)  # which the runs of many epochs had


@dataclass(frozen=True)
class Advice:
    """A change, its expected gain in nats (None: no reference tells), its time relative to now, its cost, and why."""

    title: str
    gain_nats: float | None
    time_factor: float
    cost: str
    text: str


@dataclass(frozen=True)
class Case:
    """A set-up at the end of `steps` steps, its loss now, and the gradient noise scale if it was measured, tokens.

    `own` are gains that the run's own curve lets expect, by the words of outlook.variants.
    """

    setup: Setup
    steps: int
    loss: float
    noise_scale: float | None
    own: Mapping[str, float] = field(default_factory=dict)

    @property
    def critical_batch(self) -> tuple[float, str]:
        """In tokens, and where it is from."""
        if self.noise_scale:
            return self.noise_scale, "the gradient noise scale measured in this run"
        return critical_batch_tokens(min(max(self.loss, 2.0), 8.0)), "Kaplan et al. 2020's estimate at this loss"

    @property
    def epochs(self) -> float:
        """Over the text by the end of `steps`, counted in tokens; 0 where the text counts as never repeated."""
        if self.setup.text.never_repeated:
            return 0.0
        return self.steps * self.setup.tokens_per_step / self.setup.text.tokens

    @cached_property
    def _now(self) -> float | None:
        law = self.setup.law(self.steps)
        return final(self.setup, law) if law is not None else None

    def gain(self, law: Law | None, **changes: Any) -> float | None:
        """How much lower the references let expect the loss at the end of `law`; None where they don't reach."""
        if law is None or self._now is None:
            return None
        then = final(self.setup, law, **changes)
        return self._now - then if then is not None else None

    def best_epochs(self, **changes: Any) -> int | None:
        """Of EPOCHS, by the expected loss, with the schedule stretched over each; None where it can't be told."""
        setup, losses = self.setup, {}
        for epochs in EPOCHS:
            law = setup.law(max(1, round(epochs * setup.text.tokens / setup.tokens_per_step)))
            loss = final(setup, law, **changes) if law is not None else None
            if loss is not None:
                losses[epochs] = loss
        return min(losses, key=losses.get) if losses else None


def of_pairs(change: str) -> tuple[float, str]:
    """The mean gain of undoing `change`, nats, and where that is from."""
    gains = [nats for _, nats in pairs(change)]
    shown = " and ".join(f"{gain:.2f}" for gain in gains)
    return sum(gains) / len(gains), f"in small runs that differ in nothing else, it gave {shown} nats"
