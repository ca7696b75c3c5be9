"""Advice on how long, how fast and how large to train: steps, learning rate, batch, optimizer, model."""

from collections.abc import Iterator

from clm.config.fields import MUON
from clm.explain.advice.case import Advice, Case, of_pairs
from clm.explain.forecast.facts import MUON_RATE
from clm.explain.outlook import COSINE, MANY_EPOCHS, decays
from clm.explain.scaling import TOKENS_PER_PARAMETER, usual_learning_rate
from clm.training.schedule import warmup_steps

SMALLEST_GAIN = 0.01  # nats: what is expected to give less isn't given
DECAY_SHARE = 0.2  # of the steps, for the decay that is advised


def longer(case: Case) -> Iterator[Advice]:
    setup, steps, lengths = case.setup, case.steps, [(2 * case.steps, "twice the steps")]
    if not setup.text.never_repeated:
        lengths.append((round(MANY_EPOCHS * setup.text.tokens / setup.tokens_per_step), f"{MANY_EPOCHS} epochs"))
    for longer, words in lengths:
        gain = case.gain(setup.law(longer)) if longer >= 2 * steps else None
        gain = case.own.get(f"{words} ({longer:,})", gain)
        if gain is not None:
            factor, tokens = longer / steps, longer * setup.tokens_per_step
            epochs = "of new text" if setup.text.never_repeated else f"{tokens / setup.text.tokens:.1f} epochs"
            why = f"{tokens / 1e6:,.1f} M tokens, {epochs}"
            yield Advice(f"train for {longer:,} steps ({words})", gain, factor, f"{factor:.1f} times the time", why)


def decay(case: Case) -> Iterator[Advice]:
    setup, steps = case.setup, case.steps
    if not decays(setup):
        kwargs = {"num_decay_steps": max(1, round(DECAY_SHARE * steps)), "min_lr_ratio": 0.0, "decay_type": "linear"}
        law = setup.law(steps, lr_scheduler_type="warmup_stable_decay", lr_scheduler_kwargs=kwargs, warmup_steps=0.02)
        cosine = case.gain(setup.law(steps, **COSINE)) or 0.0
        also = f"; a cosine over all of them gives {cosine:.2f} nats" if cosine >= SMALLEST_GAIN else ""
        why = (
            "a constant rate keeps noise in the weights; the gain is that of warmup_stable_decay over the last "
            f"{DECAY_SHARE:.0%} of these steps{also}"
        )
        yield Advice("let the learning rate decay", case.gain(law), 1.0, "no time", why)
    if warmup_steps(setup.recipe.training, steps) == 0:
        gain, found = of_pairs("no-warmup")
        why = f"over 1 to 5 % of the steps; {found}, and it allows a higher peak rate"
        yield Advice("warm the learning rate up", gain, 1.0, "no time", why)


def batch(case: Case) -> Iterator[Advice]:
    setup, batch = case.setup, case.setup.tokens_per_step
    critical, source = case.critical_batch
    if batch < critical / 3:
        larger = min(4, int(critical / batch)) if case.noise_scale else 2  # an estimate isn't worth more
        why = (
            f"{batch:,} tokens a step are {batch / critical:.2g} of {critical:,.0f}, {source}: below that a larger "
            "batch saves steps almost in proportion; up to 256 or 1,024 sequences of 1,024 tokens are common"
        )
        gain = case.gain(setup.law(case.steps, batch=larger), batch=larger)
        yield Advice(
            f"a batch {larger} times as large ({larger * setup.sequences_per_step:,} sequences), as many steps",
            case.own.get(f"a batch {larger} times as large, as many steps", gain),
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


def rate(case: Case) -> Iterator[Advice]:
    parameters, rate = case.setup.non_embedding_parameters, case.setup.peak_rate
    if case.setup.optimizer is None:  # what suits AdamW says nothing of SGD
        return
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


def optimizer(case: Case) -> Iterator[Advice]:
    setup = case.setup
    if setup.optimizer == "adamw":
        gain = case.gain(setup.law(case.steps), muon=True)
        why = (
            "it trains the blocks' matrices (docs/training-speed.md); the gain is what the references' Muon runs "
            "and Liu et al. 2025 let expect; it doesn't run under DeepSpeed"
        )
        yield Advice(
            f"Muon as the optimizer (optim: {MUON})",
            gain,
            1.05,
            "some percent of the time where batches are large",
            why,
        )


def shape(case: Case) -> Iterator[Advice]:
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
