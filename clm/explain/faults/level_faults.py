"""Faults that show in how high a loss is. Each check gives a line that says what, where and why, or None."""

import math

import numpy as np

from clm.explain.faults.evidence import FEWEST_LOGS, Evidence, smooth

# Of the unigram entropy. Where that is a guess, less: a large model's loss on plain text, or a small one's on code, is
# below a quarter of what the vocabulary lets guess.
TOO_GOOD, TOO_GOOD_GUESSED = 0.25, 0.15
WHOLE = 0.05  # how near a ratio must be to a whole number, in ln, and half of what it may vary


def resumes(e: Evidence) -> str | None:
    """Two saved states that disagree on a step."""
    known: dict[tuple[int, str], float] = {}
    for history in e.histories:
        for entry in history:
            for key in ("loss", "eval_loss"):
                if key not in entry:
                    continue
                before = known.setdefault((entry["step"], key), entry[key])
                if not math.isclose(before, entry[key], rel_tol=1e-5):
                    return (
                        f"at step {entry['step']:,} one saved state has a {key} of {before:.4f}, another "
                        f"{entry[key]:.4f}; the run was repeated from a checkpoint and didn't repeat itself (other "
                        "hardware, another number of processes, or text that changed)"
                    )
    return None


def accumulation(e: Evidence) -> str | None:
    """A training loss that is the accumulation times too high or low; a whole number of times where it isn't known."""
    gaps = e.gaps()
    if len(gaps) < 2 or (e.accumulation or 2) < 2:
        return None
    ratios = np.array([train / validation for _, train, validation in gaps if validation > 0])
    ratio = float(np.median(ratios))
    if e.accumulation is None:
        factor = max(1, round(max(ratio, 1 / ratio)))
        off = abs(math.log(max(ratio, 1 / ratio) / factor))
        if factor < 2 or off > WHOLE or np.ptp(np.log(ratios[len(ratios) // 3 :])) > 2 * WHOLE:
            return None
        often = "its losses over the batches of a step"
    else:
        factor, often = e.accumulation, f"{e.accumulation} batches, which a step accumulates,"
        if abs(abs(math.log(ratio)) - math.log(factor)) > 0.15:
            return None
    word = "too high" if ratio > 1 else "too low"
    return (
        f"the training loss is {ratio:.2f} times the validation loss all along; it is {word} by {factor}: {often} are "
        "summed or divided once too often"
    )


def too_good(e: Evidence) -> str | None:
    """A loss that no model of a text has."""
    early = e.curve.train_losses[e.epochs(1) * e.curve.train_steps <= 2]
    if e.reference is None:
        return None
    limit = (TOO_GOOD if e.unigram else TOO_GOOD_GUESSED) * e.reference
    if len(early) >= FEWEST_LOGS and smooth(early)[-1] < limit:
        return (
            f"the training loss is {smooth(early)[-1]:.2f} within two epochs, below {limit:.2f}; "
            "no model of a text does that: are the labels shifted by one, or does the text repeat itself?"
        )
    if len(e.curve.losses) and e.curve.losses.min() < limit:
        return (
            f"the validation loss is {e.curve.losses.min():.2f}, below {limit:.2f}; that is too "
            "good for text: are the labels shifted by one, or is this text in the training text?"
        )
    return None


def leak_to_validation(e: Evidence) -> str | None:
    """A validation loss far below the training loss."""
    gaps = e.gaps()[-3:]
    if len(gaps) >= 2 and all(train - validation > max(0.75, 0.15 * train) for _, train, validation in gaps):
        gap = gaps[-1][1] - gaps[-1][2]
        return (
            f"the validation loss is {gap:.2f} nats below the training loss; the validation text is easier, or stands "
            "in the training text many times"
        )
    return None


def leak_in_training(e: Evidence) -> str | None:
    """A training loss far below the validation loss within the first epoch."""
    early = [row for row in e.gaps() if e.epochs(row[0]) <= 1.2]
    wide = [row for row in early if row[2] - row[1] > max(0.75, 0.15 * row[2])]
    if len(wide) >= 2 and wide[-1] is early[-1]:
        step, train, validation = wide[0]
        gap = validation - train
        if e.tokens_per_epoch is None:
            return (
                f"by step {step:,.0f} the training loss is {gap:.2f} nats below the validation loss; the training text "
                "repeats itself or is seen many times, or the validation text is of another kind"
            )
        return (
            f"by step {step:,.0f}, within the first epoch, the training loss is {gap:.2f} nats below the validation "
            "loss; the training text repeats itself, or the validation text is of another kind"
        )
    return None


def above_uniform(e: Evidence) -> str | None:
    """A loss above the uniform baseline."""
    if e.vocab_size is None:
        return None
    limit = math.log(e.vocab_size)
    worst = max([*e.curve.train_losses[:1], *smooth(e.curve.train_losses), *e.curve.losses], default=0.0)
    if worst > 1.05 * limit:
        return (
            f"a loss of {worst:.2f} is above the uniform baseline, ln({e.vocab_size:,}) = {limit:.2f}; the initial "
            "weights are too large, the labels are of another tokenizer, or the learning rate ruins the model"
        )
    return None


def validation_below(e: Evidence, dropout: float) -> str | None:
    """What it means, where it is no fault, that the validation loss lies below the training loss; else None."""
    gaps = [train - validation for _, train, validation in e.gaps()[-2:]]
    if len(gaps) < 2 or min(gaps) <= 0 or leak_to_validation(e):
        return None
    why = f"dropout ({dropout:g}) makes only training harder" if dropout else "no dropout is on"
    return (
        f"The validation loss lies {np.median(gaps):.2f} nats below the training loss, which is usual: {why}; a "
        "training loss is a mean over earlier, worse weights; and the validation text may be easier. Nothing is to be "
        "done."
    )
