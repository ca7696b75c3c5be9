"""Is this loss normal: the verdict, from what the reference runs let expect."""

from dataclasses import dataclass

import numpy as np

from clm.explain import references
from clm.explain.expected import Expectation
from clm.explain.forecast import NORMAL_QUANTILE, PLATEAU, Facts
from clm.explain.forecast.outside import strange_optimizer
from clm.explain.setup import Setup

EARLY = 0.3  # of the steps
CANT_SAY = "can't say"
WIDEST = 1.0  # nats to each side: what lies within a wider band isn't called normal
UNKNOWN_TEXT = (
    "this text isn't known to be one of the references', which widens the band much (--dataset_name says if it is "
    "fineweb or wikitext-103)"
)


@dataclass(frozen=True)
class Verdict:
    """below, within, above, or can't say; a sentence; how sure; and the expectation it rests on, if any."""

    label: str
    sentence: str
    confidence: str
    expectation: Expectation | None = None


def expect(setup: Setup, step: int, of_training: bool) -> Expectation | None:
    """The loss to expect, or None where the references don't cover the set-up or this early a step."""
    if setup.own_law is None or step < 1:
        return None
    expectation = references.model().expect(setup.situation(setup.own_law), step, of_training)
    return expectation if expectation.covered else None


def verdict(setup: Setup, step: int, loss: float, of_training: bool) -> Verdict:
    """Hold `loss`, of training or validation, against the band for this set-up at this step."""
    if setup.text.unigram_entropy and loss > PLATEAU * setup.unigram and step < EARLY * setup.total_steps:
        reason = "the model is still learning how often each token occurs, which takes runs alike differently long"
        return Verdict(CANT_SAY, f"Whether {loss:.2f} is normal can't be said yet: {reason}.", "too early")
    expectation = expect(setup, step, of_training)
    if expectation is None:
        reason = (
            "its schedule follows the loss, so that nothing can be expected of it beforehand"
            if setup.own_law is None
            else "no reference run has a model of about this size after about as many tokens"
        )
        return Verdict(CANT_SAY, f"Whether {loss:.2f} is normal can't be said: {reason}.", "no reference")
    low, high = expectation.band
    if (high - low) / 2 > WIDEST and low <= loss <= high:
        reason = f"the reference runs leave room from {low:.1f} to {high:.1f}"
        return Verdict(CANT_SAY, f"Whether {loss:.2f} is normal can't be said: {reason}.", "too wide", expectation)
    label = "below" if loss < low else "above" if loss > high else "within"
    words = {
        "below": f"lower than such a run shows at step {step:,}: better than usual, or too good (see what is wrong)",
        "within": f"normal for such a run at step {step:,}",
        "above": f"higher than such a run shows at step {step:,}: something holds it back",
    }[label]
    expected = f"{low:.2f} to {high:.2f} is to be expected, {expectation.loss:.2f} in the middle"
    sentence = f"A loss of {loss:.2f} is {words}; {expected}."
    return Verdict(label, sentence, _confidence(expectation, loss, setup.text_name, _outside(setup, step)), expectation)


def _outside(setup: Setup, step: int) -> list[str]:
    """What of the run at this step no reference run has, each as a clause."""
    optimizer = setup.recipe.training.get("optim", "adamw")
    facts = Facts(setup.non_embedding_parameters, None, setup.total_steps, optimizer)
    clauses = (setup.situation(setup.own_law).repetition_beyond(step), strange_optimizer(facts))
    return [clause for clause in clauses if clause]


def _confidence(expectation: Expectation, loss: float, text: str | None, outside: list[str]) -> str:
    share = expectation.share_below(loss)
    side = f"{share:.0%} of such runs would be lower"
    known = "" if text else f"; {UNKNOWN_TEXT}"
    band = f"80 % band, ±{NORMAL_QUANTILE * expectation.sd:.2f}"
    beyond = f"; outside the evidence: {'; '.join(outside)}" if outside else ""
    return f"{band}; {side}; nearest reference: {expectation.nearest}{known}{beyond}"


def band(setup: Setup, last_step: int, of_training: bool, points: int = 40) -> list[list[float]] | None:
    """[step, low, high] along the run, wherever something can be expected; None where nothing can."""
    steps = np.unique(np.geomspace(max(1, last_step // 50), last_step, points).round().astype(int))
    expected = [(step, expect(setup, int(step), of_training)) for step in steps]
    rows = [[int(step), *(round(bound, 4) for bound in each.band)] for step, each in expected if each is not None]
    return rows or None
