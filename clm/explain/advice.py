"""What would lower the loss: changes ranked by their expected gain, leaving out what the recipe does already."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from clm.config.fields import MUON
from clm.explain import references
from clm.explain.expected import Model
from clm.explain.forecast import Law
from clm.explain.forecast.facts import MUON_RATE
from clm.explain.outlook import decays, pairs
from clm.explain.scaling import OVERFITTING_LIMIT, TOKENS_PER_PARAMETER, critical_batch_tokens, usual_learning_rate
from clm.explain.setup import Setup
from clm.training.schedule import warmup_steps

SMALLEST_GAIN = 0.01  # nats: what is expected to give less isn't given
DECAY_SHARE = 0.2  # of the steps, for the decay that is advised
DROPOUT = 0.1  # that is advised where the text is seen many times
_EPOCHS = (1, 2, 4, 8, 16, 32, 64)  # which the runs of many epochs had
STRONG_DECAYS = (0.4, 1.6)  # which they had as well
STRONG_DROPOUT = 0.2
KIM_DECAY = 0.8  # Kim et al. 2025: 150M parameters, 209M tokens, 16 epochs
EVIDENCE = "so small runs of up to 64 epochs over one little text let expect (calibration/repetition.py)"
MANY_EPOCHS = 4.0  # Muennighoff et al. 2023: up to four, repeated text is nearly as good as new


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
    """A set-up at the end of `steps` steps, its loss now, and the gradient noise scale if it was measured, tokens."""

    setup: Setup
    steps: int
    loss: float
    noise_scale: float | None

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

    def gain(self, law: Law | None, **changes: Any) -> float | None:
        """How much lower the references let expect the loss at the end of `law`; None where they don't reach."""
        setup, model = self.setup, references.model()
        before = setup.law(self.steps)
        if law is None or before is None:
            return None
        now, then = _expected(model, setup, before), _expected(model, setup, law, **changes)
        return now - then if now is not None and then is not None else None

    def best_epochs(self) -> int | None:
        """Of _EPOCHS, by the expected loss, with the schedule stretched over each; None where it can't be told."""
        setup, model, losses = self.setup, references.model(), {}
        for epochs in _EPOCHS:
            law = setup.law(max(1, round(epochs * setup.text.tokens / setup.tokens_per_step)))
            loss = _expected(model, setup, law) if law is not None else None
            if loss is not None:
                losses[epochs] = loss
        return min(losses, key=losses.get) if losses else None


def _expected(model: Model, setup: Setup, law: Law, **changes: Any) -> float | None:
    made = model.expect(setup.situation(law, **changes), law.total_steps)
    return made.loss if made.covered else None


def advise(
    setup: Setup, steps: int, loss: float, noise_scale: float | None = None, least: float = 0.0
) -> list[dict[str, Any]]:
    """Advice for a run of so many steps whose loss is `loss`, by gain for an e-fold of time; what is unknown last.

    No gain leads below `least`, a loss that no model of such a text has.
    """
    case = Case(setup, steps, loss, noise_scale)
    given = [_bounded(advice, loss - least) for rule in RULES for advice in rule(case)]
    worth = [advice for advice in given if advice.gain_nats is None or advice.gain_nats >= SMALLEST_GAIN]
    worth.sort(key=lambda advice: -(advice.gain_nats or 0) / (1 + math.log(max(1.0, advice.time_factor))))
    return [asdict(advice) for advice in worth]


def _bounded(advice: Advice, most: float) -> Advice:
    return advice if advice.gain_nats is None else replace(advice, gain_nats=min(advice.gain_nats, most))


def _longer(case: Case) -> Iterator[Advice]:
    setup, steps, lengths = case.setup, case.steps, [(2 * case.steps, "twice the steps")]
    if not setup.text.never_repeated:
        lengths.append((round(10 * setup.text.tokens / setup.tokens_per_step), "10 epochs"))
    for longer, words in lengths:
        gain = case.gain(setup.law(longer)) if longer >= 2 * steps else None
        if gain is not None:
            factor, tokens = longer / steps, longer * setup.tokens_per_step
            epochs = "of new text" if setup.text.never_repeated else f"{tokens / setup.text.tokens:.1f} epochs"
            why = f"{tokens / 1e6:,.1f} M tokens, {epochs}"
            yield Advice(f"train for {longer:,} steps ({words})", gain, factor, f"{factor:.1f} times the time", why)


def _epochs(case: Case) -> Iterator[Advice]:
    """Fewer epochs, weight decay or dropout against overfitting, where its evidence reaches."""
    setup, epochs = case.setup, case.epochs
    law = setup.law(case.steps)
    if epochs <= 1 or law is None or not setup.situation(law).overfitting(case.steps):
        return
    best = case.best_epochs()
    if best and best < epochs:
        steps = max(1, round(best / epochs * case.steps))
        why = f"of {_EPOCHS[0]} to {_EPOCHS[-1]} epochs of this text, {best} are expected to be best; {EVIDENCE}"
        title = f"train for {best} epochs and not {epochs:.3g} ({steps:,} steps)"
        yield Advice(title, case.gain(setup.law(steps)), best / epochs, "less time", why)
    decay = setup.recipe.training.get("weight_decay") or 0.0
    gains = {more: case.gain(law, weight_decay=more) or 0.0 for more in STRONG_DECAYS if more > 2 * decay}
    if gains:
        more = max(gains, key=gains.get)
        yield Advice(f"weight decay of {more}", gains[more], 1.0, "no time", f"against overfitting; {EVIDENCE}")
    if setup.dropout < STRONG_DROPOUT:
        why = f"against overfitting, at what dropout itself costs; {EVIDENCE}"
        gain = case.gain(law, dropout=STRONG_DROPOUT)
        yield Advice(f"dropout of {STRONG_DROPOUT}", gain, 1.0, "no time", why)


def _decay(case: Case) -> Iterator[Advice]:
    setup, steps = case.setup, case.steps
    if not decays(setup):
        kwargs = {"num_decay_steps": max(1, round(DECAY_SHARE * steps)), "min_lr_ratio": 0.0, "decay_type": "linear"}
        law = setup.law(steps, lr_scheduler_type="warmup_stable_decay", lr_scheduler_kwargs=kwargs, warmup_steps=0.02)
        why = (
            "a constant rate keeps noise in the weights; a cosine over the whole run, or warmup_stable_decay over its "
            f"last {DECAY_SHARE:.0%}, for which the gain is worked out"
        )
        yield Advice("let the learning rate decay", case.gain(law), 1.0, "no time", why)
    if warmup_steps(setup.recipe.training, steps) == 0:
        gain, found = _of_pairs("no-warmup")
        why = f"over 1 to 5 % of the steps; {found}, and it allows a higher peak rate"
        yield Advice("warm the learning rate up", gain, 1.0, "no time", why)


def _batch(case: Case) -> Iterator[Advice]:
    setup, batch = case.setup, case.setup.tokens_per_step
    critical, source = case.critical_batch
    if batch < critical / 3:
        larger = min(4, int(critical / batch)) if case.noise_scale else 2  # an estimate isn't worth more
        why = (
            f"{batch:,} tokens a step are {batch / critical:.2g} of {critical:,.0f}, {source}: below that a larger "
            "batch saves steps almost in proportion; up to 256 or 1,024 sequences of 1,024 tokens are common"
        )
        yield Advice(
            f"a batch {larger} times as large ({larger * setup.sequences_per_step:,} sequences), as many steps",
            case.gain(setup.law(case.steps, batch=larger), batch=larger),
            float(larger),
            f"{larger} times the time on one device, none where more devices share it",
            why,
        )
    elif batch > 3 * critical:
        smaller = critical / batch
        gain = case.gain(setup.law(round(case.steps / smaller), batch=smaller), batch=smaller)
        why = f"{batch:,} tokens a step are {batch / critical:.1f} times {source}: the excess buys little"
        title = f"a smaller batch, of about {critical:,.0f} tokens, and more steps"
        yield Advice(title, gain, 1.0, "no time: the same tokens", why)


def _rate(case: Case) -> Iterator[Advice]:
    parameters, rate = case.setup.non_embedding_parameters, case.setup.peak_rate
    usual = usual_learning_rate(parameters) * (MUON_RATE if case.setup.optimizer == "muon" else 1.0)
    if usual / 2 <= rate <= 5 * usual:
        return
    word = "higher" if rate < usual else "lower"
    gain = case.gain(case.setup.law(case.steps), peak_rate=usual) if rate < usual else None
    why = (
        f"{rate:.1e} is {rate / usual:.2g} times what suits {parameters:,} non-embedding parameters (Kaplan et al. "
        "2020, equation D.1; for Muon four times that); try a few around it, with warmup"
    )
    yield Advice(f"a {word} learning rate, about {usual:.1e}", gain, 1.0, "no time", why)


def _regularisation(case: Case) -> Iterator[Advice]:
    setup, epochs = case.setup, case.epochs
    if not setup.recipe.training.get("weight_decay"):
        _, found = _of_pairs("no-decay")
        why = f"the usual value; {found}, and what it gives large models isn't in the references"
        yield Advice("weight decay of 0.1", None, 1.0, "no time", why)
    large = setup.non_embedding_parameters > setup.text.tokens / 4
    reached = setup.non_embedding_parameters <= OVERFITTING_LIMIT  # then _epochs tells
    decay = setup.recipe.training.get("weight_decay") or 0.0
    if epochs > 2 * MANY_EPOCHS and 0 < decay < KIM_DECAY / 2 and large and not reached:
        why = (
            f"the text is seen {epochs:.0f} times; of 150M parameters on 209M tokens by AdamW, 0.8 and 16 epochs were "
            "best, and at 0.1 no more than 8 epochs (Kim et al. 2025, arXiv 2509.14786); no reference run of this "
            "project says how much it gives at this size"
        )
        yield Advice(f"try a weight decay of up to {KIM_DECAY}", None, 1.0, "no time", why)
    if epochs > MANY_EPOCHS and setup.dropout < DROPOUT and large and not reached:
        why = f"the text is seen {epochs:.0f} times, and the model is large enough to learn it by heart"
        yield Advice("dropout of 0.1 to 0.3", None, 1.0, "no time", why)
    elif epochs < 1 and setup.dropout > 0:
        least = min(change for _, change in pairs("dropout"))
        seen = "no text is seen twice" if setup.text.never_repeated else f"the text is seen {epochs:.2g} times"
        why = (
            f"{seen}, so nothing is learned by heart; in small runs that differ in nothing else, dropout 0.1 cost "
            f"{least:.2f} nats or more"
        )
        yield Advice("no dropout for less than an epoch", least, 1.0, "no time", why)


def _of_pairs(change: str) -> tuple[float, str]:
    """The mean gain of undoing `change`, nats, and where that is from."""
    gains = [nats for _, nats in pairs(change)]
    shown = " and ".join(f"{gain:.2f}" for gain in gains)
    return sum(gains) / len(gains), f"in small runs that differ in nothing else, it gave {shown} nats"


def _optimizer(case: Case) -> Iterator[Advice]:
    setup = case.setup
    if setup.optimizer == "adamw":
        gain = case.gain(setup.law(case.steps), muon=True)
        why = (
            "Muon on the blocks' matrices (docs/training-speed.md); the gain is what the references' Muon runs, "
            "all small, and Liu et al. 2025 let expect; not under DeepSpeed"
        )
        yield Advice(f"optim {MUON}", gain, 1.05, "some percent of the time where batches are large", why)


def _validation(case: Case) -> Iterator[Advice]:
    if case.setup.recipe.training["eval_strategy"] == "no":
        why = "a training loss alone can't show overfitting; set eval_strategy to steps"
        yield Advice("evaluate on held-out text while training", None, 1.0, "some percent of the time", why)


def _shape(case: Case) -> Iterator[Advice]:
    setup, law = case.setup, case.setup.law
    parameters, ratio = setup.non_embedding_parameters, case.steps * setup.tokens_per_step / setup.parameters
    if setup.total_steps > 4 * case.steps:
        return  # the budget is another than the steps so far
    best = f"compute is spent best at about {TOKENS_PER_PARAMETER:.0f} (Hoffmann et al. 2022)"
    if ratio < TOKENS_PER_PARAMETER / 4:
        gain = case.gain(law(4 * case.steps), non_embedding_parameters=parameters // 4, peak_rate=2 * setup.peak_rate)
        why = f"{ratio:.2g} tokens a parameter; {best}: for this many tokens the model is large"
        yield Advice(
            "a model of a quarter of the size, for four times the steps", gain, 1.0, "about the same time", why
        )
    elif ratio > 4 * TOKENS_PER_PARAMETER:
        gain = case.gain(law(case.steps), non_embedding_parameters=2 * parameters)
        why = f"{ratio:.0f} tokens a parameter; {best}: worth it where a small model isn't the aim"
        yield Advice("a larger model", gain, 2.0, "twice the time", why)


RULES: tuple[Callable[[Case], Iterator[Advice]], ...] = (
    _longer,
    _epochs,
    _decay,
    _batch,
    _rate,
    _optimizer,
    _regularisation,
    _validation,
    _shape,
)
