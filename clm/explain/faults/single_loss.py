"""What one loss of a recipe shows: nothing learned, held back, too good for a text, or of another unit."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from clm.explain.expected import Expectation
from clm.explain.faults.evidence import PLATEAU_TOKENS
from clm.explain.floor import BY_HEART, LEAST_BITS_PER_BYTE, bytes_per_token, least_loss
from clm.explain.perplexity import shown_perplexity
from clm.explain.scaling import usual_learning_rate
from clm.explain.setup import Setup
from clm.training.schedule import warmup_steps

AT_UNIFORM, AT_UNIGRAM, AT_GUESSED_UNIGRAM = 0.03, 0.04, 0.08  # relative distances that count as being there
LEFT_UNIFORM = 100  # steps after warmup by which any run is below the uniform baseline
FAR = 0.5  # nats beyond the band: what another seed, text or tuning doesn't make
FAR_RATE = 5.0  # times the usual learning rate, or as many times below it


@dataclass(frozen=True)
class Loss:
    """A training loss at a step of a set-up, and what the references let expect of it (None: nothing)."""

    setup: Setup
    step: int
    value: float
    expected: Expectation | None

    @property
    def uniform(self) -> float:
        """The uniform baseline, nats."""
        return math.log(self.setup.vocab_size)

    @property
    def tokens(self) -> int:
        """Trained on so far."""
        return self.setup.tokens_at(self.step)

    @property
    def epochs(self) -> float:
        """Over the text so far."""
        return self.tokens / self.setup.text.tokens

    @property
    def accumulation(self) -> int:
        """Micro-batches of a step."""
        return max(1, self.setup.sequences_per_step // self.setup.recipe.micro_batch())

    @cached_property
    def least(self) -> float:
        """Of English prose in such tokens, nats."""
        return least_loss(self.setup)

    def is_usual(self, loss: float) -> bool:
        """Whether `loss` would be within the band."""
        return self.expected is not None and self.expected.band[0] <= loss <= self.expected.band[1]

    @property
    def knows_by_heart(self) -> bool:
        """Whether the model is large enough for its text, and has seen it often enough, to know it by heart."""
        return self.epochs >= BY_HEART and self.setup.parameters > self.setup.text.tokens / 10

    @property
    def rate(self) -> str:
        """How the learning rate stands to the usual one, in words."""
        return f"the learning rate ({self.setup.peak_rate:.1e}, {self._rate_ratio:.2g} times what suits this size)"

    @property
    def _rate_ratio(self) -> float:
        return self.setup.peak_rate / usual_learning_rate(self.setup.non_embedding_parameters)

    def causes(self, *others: str) -> str:
        """Causes in their order; the learning rate is the first where it is far from usual, else the last."""
        if 1 / FAR_RATE <= self._rate_ratio <= FAR_RATE:
            return "; ".join([*others, "another learning rate than the recipe's, which is usual"])
        return "; ".join([self.rate, *others])


def _scaled(e: Loss) -> str | None:
    """A loss that would be usual if it were divided by, or multiplied with, the accumulation."""
    many = e.accumulation
    if many < 2 or e.least <= e.value <= 1.05 * e.uniform:
        return None
    for factor, what in ((1 / many, "summed over them"), (many, "divided by them once too often")):
        if e.is_usual(e.value * factor):
            return (
                f"a step accumulates {many} batches, and {e.value * factor:.2f} would be usual here: very likely the "
                f"loss is {what}; if gradients are scaled like it, the learning rate acts as another, too; divide by "
                "the labels of the whole step once (num_items_in_batch in transformers)"
            )
    return None


def _above_uniform(e: Loss) -> str | None:
    if e.value <= 1.05 * e.uniform:
        return None
    start = (
        f"a loss of {e.value:.2f} is above the uniform baseline, ln({e.setup.vocab_size:,}) = {e.uniform:.2f}, which a "
        "model that knows nothing has; that is surely no sound mean over tokens"
    )
    nats = e.value * math.log(2)
    return (
        f"{start}. Usual causes, the likeliest first: it is summed over batches, or in bits ({nats:.2f} nats then); "
        f"labels of another tokenizer; {e.rate} ruins the model; initial weights that are too large. "
        "Evaluate fresh weights: they must score the uniform baseline to 0.2 nats"
    )


def _at_uniform(e: Loss) -> str | None:
    enough = e.step > warmup_steps(e.setup.recipe.training, e.setup.total_steps) + LEFT_UNIFORM
    if not enough or e.value < (1 - AT_UNIFORM) * e.uniform:
        return None
    return (
        f"a loss of {e.value:.2f} after {e.step:,} steps is the uniform baseline, ln({e.setup.vocab_size:,}) = "
        f"{e.uniform:.2f}: nothing is learned, not even how often each token occurs; this is sure, for any sound run "
        f"is below it within {LEFT_UNIFORM} steps of its warmup. Usual causes, the likeliest first: the optimizer "
        "steps on other weights than the loss is from, or never; the learning rate is 0 (a warmup longer than the run, "
        "a scheduler that is stepped too often); gradients aren't finite, and every step is skipped. Look at grad_norm "
        "and learning_rate in the log, and let the model learn a single batch by heart: its loss must fall below 1"
    )


def _at_unigram(e: Loss) -> str | None:
    setup, unigram = e.setup, e.setup.unigram
    measured = setup.text.unigram_entropy is not None
    near = abs(e.value / unigram - 1) < (AT_UNIGRAM if measured else AT_GUESSED_UNIGRAM)
    if not near or e.tokens < PLATEAU_TOKENS * setup.vocab_size:
        return None
    source, sure = ("measured", "nearly sure") if measured else ("a guess by the vocabulary's size", "likely")
    return (
        f"a loss of {e.value:.2f} is about the unigram entropy ({unigram:.2f}, {source}): after "
        f"{e.tokens / 1e6:,.1f} M tokens the model knows how often each token occurs and next to nothing of their "
        f"order; {sure}. Usual causes, the likeliest first: "
        + e.causes(
            "labels that belong to other inputs, or tokens that are shuffled",
            "a mask or positions that hide what comes before",
        )
        + ". Let the model learn a single batch by heart: if it can, it is the text's order, else the model or its rate"
    )


def _near_zero(e: Loss) -> str | None:
    if e.value >= e.least / 2:
        return None
    bits = e.value / math.log(2) / bytes_per_token(e.setup)
    start = (
        f"a loss of {e.value:.2f}, {bits:.2f} bits per byte, is below half of what English prose can be compressed to "
        f"({LEAST_BITS_PER_BYTE} bits per byte, Shannon 1951; {e.least:.2f} nats in such tokens)"
    )
    if e.knows_by_heart:
        return (
            f"{start}: after {e.epochs:.0f} epochs over {e.setup.text.tokens:,} tokens a model of "
            f"{e.setup.parameters:,} parameters very likely knows the text by heart. Look at the validation loss, and "
            "stop where it was lowest; take more text, or a smaller model with dropout"
        )
    return (
        f"{start}; no model predicts a text so well that it has seen {e.epochs:.2g} times, so this is surely a fault "
        "or no prose. Usual causes, the likeliest first: the labels aren't shifted by one, so that the model copies "
        "its input; the mask lets it see what comes next; the text repeats itself; padding is counted. Score a text of "
        "your own that is surely not in it (python -m clm evaluate), and print a row of inputs beside its labels"
    )


def _too_good(e: Loss) -> str | None:
    if e.value >= e.least or e.knows_by_heart:
        return None
    return (
        f"a loss of {e.value:.2f} is below the {e.least:.2f} nats that English prose can be compressed to in such "
        f"tokens ({LEAST_BITS_PER_BYTE} bits per byte, Shannon 1951): too good to be true of prose, usual for source "
        "code, markup or text that repeats itself. Count repeated lines; if it is prose, look at how labels are shifted"
    )


def _far_above(e: Loss) -> str | None:
    if e.expected is None or e.value <= e.expected.band[1] + FAR:
        return None
    low, high = e.expected.band
    bits = e.value * math.log(2)
    unit = [f"it is in bits ({bits:.2f} nats would be usual)"] if e.is_usual(bits) else []
    return (
        f"a loss of {e.value:.2f}, perplexity {shown_perplexity(e.value, 0)}, is {e.value - high:.2f} nats above the "
        f"band of such runs ({low:.2f} to {high:.2f}): something holds it back; that is sure if text and recipe are as "
        "they are here. Usual causes, the likeliest first: "
        + e.causes(
            *unit,
            "fewer tokens a step than the recipe says",
            "a text that is harder than the references', or in another language",
            "labels of which a part is wrong",
        )
        + ". Train the recipe as it is for some hundred steps, and hold that against this run"
    )


def _far_below(e: Loss) -> str | None:
    if e.expected is None or e.value >= e.expected.band[0] - FAR:
        return None
    low, high = e.expected.band
    return (
        f"a loss of {e.value:.2f} after {e.tokens / 1e6:,.1f} M tokens is {low - e.value:.2f} nats below the band of "
        f"runs from nothing ({low:.2f} to {high:.2f}). One loss can't tell why; likeliest first: it is fine-tuned from "
        "trained weights, whose losses can't be held against this recipe's; its tokens are shorter or its text easier "
        "(compare bits per byte); the text repeats itself, or is in the validation text. Score fresh weights: they "
        f"must start at {e.uniform:.2f}"
    )


CHECKS: tuple[tuple[str, Callable[[Loss], str | None]], ...] = (
    ("mis-scaled accumulation", _scaled),
    ("loss above ln(vocabulary)", _above_uniform),
    ("nothing is learned", _at_uniform),
    ("plateau at the unigram entropy", _at_unigram),
    ("near zero", _near_zero),
    ("too good to be true", _too_good),
    ("far above the band", _far_above),
    ("far below the band", _far_below),
)


def find(setup: Setup, step: int, loss: float, expected: Expectation | None) -> list[dict[str, str]]:
    """The first fault that a training loss at a step shows, as {"name", "text"}; none where it shows none."""
    one = Loss(setup, step, loss, expected)
    found = ({"name": name, "text": text} for name, check in CHECKS if (text := check(one)))
    return [fault for fault in [next(found, None)] if fault]
