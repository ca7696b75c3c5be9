"""What the checks for faults look at: a curve, and what it is to be held against."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clm.runs.curve import Curve

FEWEST_LOGS = 8  # training losses before a shape is read into them
PLATEAU_TOKENS = 400  # for each id: the reference runs leave the unigram entropy after 15 to 320


@dataclass(frozen=True)
class Evidence:
    """A curve and what it is to be held against.

    `unigram` is the entropy of the training text's tokens in nats, None where it isn't measured; `tokens_per_epoch`
    those of the whole text; `usual_rate` a learning rate that suits a model of this size; `histories` the
    log_history of every state that the run's folder holds. `lost_at` is the step from which the losses aren't finite.
    Of a log from elsewhere anything may be unknown, None: then the checks that need it find nothing.
    """

    curve: Curve
    vocab_size: int | None
    unigram: float | None
    tokens_per_step: int | None
    tokens_per_epoch: float | None
    accumulation: int | None
    peak_rate: float | None
    usual_rate: float | None
    histories: Sequence[Sequence[Mapping[str, Any]]] = ()
    lost_at: float | None = None

    @property
    def reference(self) -> float | None:
        """The unigram entropy, or where it isn't measured a low guess at it."""
        return self.unigram or (0.75 * math.log(self.vocab_size) if self.vocab_size else None)

    @property
    def past_plateau(self) -> bool:
        """Whether so much was seen that a sound run has left the unigram entropy behind."""
        if not (self.tokens_per_step and self.vocab_size):
            return False
        enough = self.curve.last_step * self.tokens_per_step >= PLATEAU_TOKENS * self.vocab_size
        return enough and len(self.curve.train_losses) >= 2 * FEWEST_LOGS

    def epochs(self, step: float) -> float:
        """Epochs over the text until `step`, counted in tokens; 0 where they aren't known."""
        if not (self.tokens_per_step and self.tokens_per_epoch):
            return 0.0
        return step * self.tokens_per_step / self.tokens_per_epoch

    def gaps(self) -> list[tuple[float, float, float]]:
        """(step, training, validation loss) wherever both are known."""
        width = max(1.0, self.curve.last_step / 20)
        pairs = zip(self.curve.steps, self.curve.losses, strict=True)
        rows = ((step, self.curve.train_at(step, width), loss) for step, loss in pairs)
        return [row for row in rows if row[1] is not None]


def smooth(values: np.ndarray, width: int = 5) -> np.ndarray:
    """Running medians, as many as there are values."""
    if not len(values):
        return values
    padded = np.pad(values, width // 2, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1)
