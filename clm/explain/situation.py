"""What the expected loss of a run depends on, and a reference run's loss in such a situation."""

from dataclasses import dataclass

import numpy as np

from clm.explain.forecast import Law
from clm.explain.scaling import OVERFITTING, OVERFITTING_LIMIT, REPEATED_EPOCHS, REPEATED_RATIOS, Overfitting

FEW_EPOCHS = 4.0  # Muennighoff et al. 2023: up to four, repeated text is nearly as good as new


@dataclass(frozen=True)
class Situation:
    """What the expected loss depends on.

    `text` names a text whose difficulty may be known. `unigram` (nats) and `bytes_per_token` are measured, or None:
    then they are guessed by the vocabulary's size. `dataset_tokens` is None where text is never repeated.
    """

    text: str | None
    non_embedding_parameters: int
    unigram: float | None
    bytes_per_token: float | None
    vocab_size: int
    block_size: int
    peak_rate: float
    tokens_per_step: int
    dataset_tokens: int | None
    law: Law
    muon: bool  # and not AdamW
    dropout: float = 0.0
    weight_decay: float = 0.1

    @property
    def parameters_per_token(self) -> float:
        """Non-embedding parameters for each token of the text; 0 where it never repeats."""
        return self.non_embedding_parameters / self.dataset_tokens if self.dataset_tokens else 0.0

    def overfitting_terms(self, step: float) -> tuple[float, float, float, float, bool]:
        """What scaling.Overfitting.penalty depends on; no epochs for models larger than those it was fitted to."""
        if not self.dataset_tokens or self.non_embedding_parameters > OVERFITTING_LIMIT:
            return 0.0, 0.0, 0.0, self.dropout, self.muon
        in_a_pass = self.dataset_tokens / self.tokens_per_step
        epochs = float(np.interp(step, self.law.grid, self.law.lr_sum)) / in_a_pass
        return self.parameters_per_token, epochs, self.weight_decay * in_a_pass / 100, self.dropout, self.muon

    def overfitting(self, step: float, law: Overfitting = OVERFITTING) -> float:
        """What repetition adds to the validation loss by `step`; 0 for models larger than those it was fitted to."""
        return float(law.penalty(*self.overfitting_terms(step)))

    def repetition_beyond(self, step: float) -> str | None:
        """What no run of many epochs covers by `step`, in words; None where it is covered, or nothing repeats."""
        epochs = step * self.tokens_per_step / self.dataset_tokens if self.dataset_tokens else 1.0
        if epochs <= FEW_EPOCHS:
            return None
        if self.non_embedding_parameters > OVERFITTING_LIMIT:
            return f"{epochs:.3g} epochs: what overfitting costs a model of this size isn't in the references"
        (low, high), ratio = REPEATED_RATIOS, self.parameters_per_token
        if epochs > REPEATED_EPOCHS:
            return f"{epochs:,.0f} epochs, where the runs of many epochs have {REPEATED_EPOCHS:.0f} at most"
        if not 0.9 * low <= ratio <= 1.1 * high:
            return f"{ratio:.2g} parameters a token of the text, where the runs of many epochs have {low:g} to {high:g}"
        return None


@dataclass(frozen=True)
class Point:
    """A reference run's loss at a step; `assumed` where its source leaves a part of the set-up open.

    `noise` is the standard deviation of the loss, nats, where it isn't what runs of the size have.
    """

    run: str
    situation: Situation
    step: float
    loss: float
    assumed: bool = False
    noise: float | None = None
