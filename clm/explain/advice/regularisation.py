"""Advice against overfitting, and on seeing it: epochs, weight decay, dropout, validation."""

from collections.abc import Iterator
from itertools import product

from clm.explain.advice.case import EPOCHS, Advice, Case, of_pairs
from clm.explain.forecast import Law
from clm.explain.outlook import pairs
from clm.explain.scaling import OVERFITTING_LIMIT
from clm.explain.setup import Setup
from clm.explain.situation import FEW_EPOCHS

DROPOUT = 0.1  # that is advised where the text is seen many times, and that of the pairs of runs
# Which the runs of many epochs had, one beside the other.
DECAYS, DROPOUTS = (0.1, 0.2, 0.4, 0.8, 1.6), (0.0, 0.05, 0.1, 0.2)
TELLS = 0.02  # nats: runs of many epochs that differ in nothing but their seed are as far apart
ALIKE = 0.01  # nats: of pairs that are expected to be so near the best one, that with the most dropout is the safest
KIM_DECAY = 0.8  # Kim et al. 2025: 150M parameters, 209M tokens, 16 epochs
REMEMBERED = 4.0  # epochs that the weights of the best small runs remember: docs/data-limited.md
EVIDENCE = "so small runs of up to 64 epochs over little text let expect (calibration/repetition.py)"


def epochs(case: Case) -> Iterator[Advice]:
    """Fewer epochs, and the weight decay and dropout that suit so many, where the evidence of overfitting reaches."""
    setup, epochs = case.setup, case.epochs
    law = setup.law(case.steps)
    if not _overfits(case):
        return
    best = case.best_epochs()
    if best and best < epochs:
        steps = max(1, round(best / epochs * case.steps))
        why = f"of {EPOCHS[0]} to {EPOCHS[-1]} epochs of this text, {best} are expected to be best; {EVIDENCE}"
        title = f"train for {best} epochs and not {epochs:.3g} ({steps:,} steps)"
        yield Advice(title, case.gain(setup.law(steps)), best / epochs, "less time", why)
    now = {"weight_decay": setup.weight_decay, "dropout": setup.dropout}
    changes, gain = _best_pair(case, law, now)
    if changes and gain >= TELLS:
        title = " and ".join(f"{name.replace('_', ' ')} of {value:g}" for name, value in changes.items())
        rises = {value > now[name] for name, value in changes.items()}
        purpose = {
            (True,): "against overfitting",
            (False,): "overfitting is held back more than pays now",
            (False, True): "less of the one and more of the other",
        }[tuple(sorted(rises))]
        then = f"with it {case.best_epochs(**changes)} epochs are expected to be best of {EPOCHS[0]} to {EPOCHS[-1]}"
        yield Advice(title, gain, 1.0, "no time", f"{purpose}; {then}; {EVIDENCE}; the two stand in for each other")


def _overfits(case: Case) -> bool:
    """Whether the evidence of overfitting reaches so far."""
    law = case.setup.law(case.steps)
    return case.epochs > 1 and law is not None and bool(case.setup.situation(law).overfitting(case.steps))


def _best_pair(case: Case, law: Law, now: dict[str, float]) -> tuple[dict[str, float], float]:
    """What to change of weight decay and dropout, and the gain in nats; nothing where no change is expected to gain."""
    pairs = product(sorted({now["weight_decay"], *DECAYS}), sorted({now["dropout"], *DROPOUTS}))
    gains = {pair: case.gain(law, weight_decay=pair[0], dropout=pair[1]) or 0.0 for pair in pairs}
    alike = [pair for pair, gain in gains.items() if gain >= max(gains.values()) - ALIKE]
    best = max(alike, key=lambda pair: (pair[1], gains[pair]))
    return {name: value for (name, old), value in zip(now.items(), best, strict=True) if value != old}, gains[best]


def regularisation(case: Case) -> Iterator[Advice]:
    setup, epochs = case.setup, case.epochs
    decay = setup.weight_decay
    if not decay and not _overfits(case):
        _, found = of_pairs("no-decay")
        why = f"the usual value; {found}, and what it gives large models isn't in the references"
        yield Advice("weight decay of 0.1", None, 1.0, "no time", why)
    large = setup.non_embedding_parameters > setup.text.tokens / 4
    reached = setup.non_embedding_parameters <= OVERFITTING_LIMIT  # then `epochs` tells
    if epochs > 2 * FEW_EPOCHS and 0 < decay < KIM_DECAY / 2 and large and not reached:
        why = (
            f"the text is seen {epochs:.0f} times; a model of 150M parameters on 209M tokens did best with 0.8 and 16 "
            "epochs, and with 0.1 at no more than 8 epochs (Kim et al. 2025, arXiv 2509.14786); here, models of less "
            f"than 1M were best with one that makes the weights an average over some {REMEMBERED:g} epochs, which is "
            f"{_remembering(setup):.2g} at this rate and batch; no reference run of this project says how much either "
            "gives at this size"
        )
        yield Advice(f"try a weight decay of up to {KIM_DECAY}", None, 1.0, "no time", why)
    if epochs > FEW_EPOCHS and setup.dropout < DROPOUT and large and not reached:
        why = f"the text is seen {epochs:.0f} times, and the model is large enough to learn it by heart"
        yield Advice("dropout of 0.1 to 0.3", None, 1.0, "no time", why)
    elif epochs < 1 and setup.dropout > 0:
        least = min(change for _, change in pairs("dropout"))
        gain = least * min(1.0, (setup.dropout / DROPOUT) ** 2)  # as the expected loss counts it
        seen = f"the text is seen {epochs:.2g} times, so nothing is learned by heart"
        if setup.text.never_repeated:
            seen = "if the text isn't repeated (its length isn't known), nothing is learned by heart"
        why = f"{seen}; in small runs that differ in nothing else, dropout 0.1 cost {least:.2f} nats or more"
        yield Advice("no dropout for less than an epoch", gain, 1.0, "no time", why)


def _remembering(setup: Setup) -> float:
    """The weight decay with which the weights remember REMEMBERED epochs."""
    return 1 / (setup.peak_rate * REMEMBERED * setup.steps_in_epoch)


def validation(case: Case) -> Iterator[Advice]:
    if case.setup.recipe.training["eval_strategy"] == "no":
        why = "overfitting can't be seen in a training loss alone; set eval_strategy to steps"
        yield Advice("evaluate on held-out text while training", None, 1.0, "some percent of the time", why)
