"""What of a run no reference run covers, in words."""

from collections.abc import Mapping

from clm.explain.forecast.facts import (
    LARGE,
    QUANTITIES,
    SMALL,
    Facts,
    Ranges,
    largeness,
    quantities,
    ranges_for,
)


def outside(facts: Facts, known: Mapping[str, Ranges]) -> list[str]:
    """What no reference run covers, each as a clause; empty where all is covered."""
    said, small = [], facts.parameters is not None and largeness(facts.parameters) < 1
    if facts.parameters is None:
        said.append("the model's size isn't known")
    elif 0 < largeness(facts.parameters) < 1:
        said.append(f"no reference run has from {_shown(SMALL)} to {_shown(LARGE)} non-embedding parameters")
    if facts.tokens is None:
        said.append("the tokens of the run aren't known")
    if facts.parameters and facts.tokens:
        values = quantities(facts)
        for key, (low, high) in sorted(ranges_for(facts, known).items(), key=lambda item: QUANTITIES.index(item[0])):
            if key in values and not 0.99 * low <= values[key] <= 1.01 * high:
                said.append(_said(key, values[key], low, high))
    said += [
        f"its {name} is {given:g}, and it counts as the reference runs' {counted:g}"
        for name, given, counted in (
            ("dropout", facts.dropout, facts.counted_dropout),
            ("weight decay", facts.weight_decay, facts.counted_decay),
            ("embeddings' share of the learning rate", facts.embeddings, facts.counted_embeddings),
        )
        if small and given != counted
    ]
    if optimizer := strange_optimizer(facts):
        said.append(optimizer)
    if small and not facts.known_text:
        said.append("no small reference run has its text, on which the curve of a small model depends")
    return said


def strange_optimizer(facts: Facts) -> str | None:
    """That no reference run has its optimizer, as a clause; None where one has."""
    if not facts.stranger:
        return None
    if not facts.optimizer:
        return "its optimizer isn't known"
    return f"its optimizer is {facts.optimizer}, which no reference run {'of its size ' if facts.family else ''}has"


_CLAUSES = {
    QUANTITIES[0]: "it has {} non-embedding parameters, and the reference runs have {}",
    QUANTITIES[1]: "it trains on {} tokens for each parameter, and reference runs of its size on {}",
    QUANTITIES[2]: "it has {} steps, and reference runs of its size have {}",
    QUANTITIES[3]: "its peak learning rate is {} of the usual one, and that of reference runs of its size {}",
    QUANTITIES[4]: "it reads its text {} times, and reference runs of its size read theirs {} times",
}


def _said(quantity: str, value: float, low: float, high: float) -> str:
    limits = " to ".join(dict.fromkeys((_shown(low), _shown(high))))
    return _CLAUSES[quantity].format(_shown(value), limits).replace(" 1 times", " once")


def _shown(value: float) -> str:
    for unit, name in ((1e9, " billion"), (1e6, " million")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
