"""Where a run will end, and where it would if it were another, as lines of plain text."""

from collections.abc import Sequence

from clm.explain.forecast import Forecast
from clm.explain.forecast.posterior import FEWEST_MEASURED
from clm.explain.outlook import Outlook, pairs
from clm.explain.perplexity import shown_perplexity
from clm.explain.scaling import REPEATED_EPOCHS
from clm.explain.setup import Setup

HELPS = 0.005  # nats: what changes less changes nothing that is shown


def end_lines(setup: Setup, made: Forecast | None, what_if: Sequence[Outlook], single: bool) -> list[str]:
    """The end of a run and of its variants; `single`: of which one loss is known."""
    lines = forecast_lines(made) if made is not None else [_why_no_forecast(setup, single)]
    if what_if and made is not None and made.by == "one loss":
        lines.append("From that forecast, and not from the loss now, what follows is counted:")
    lines += [what_if_line(each) for each in what_if]
    shown = ", ".join(f"{change:+.2f} nats at {epochs:.2g} epochs" for epochs, change in pairs("dropout"))
    lines.append(f"With dropout: can't say. In small runs that differ in nothing else, dropout 0.1 made {shown}.")
    return lines


def _why_no_forecast(setup: Setup, single: bool) -> str:
    if setup.own_law is None:
        return "Can't say: the schedule follows the loss."
    tokens = setup.total_steps * setup.tokens_per_step
    epochs = tokens / setup.text.tokens
    if single and epochs > REPEATED_EPOCHS:
        most = f"no reference run more than {REPEATED_EPOCHS:.0f} times"
        return f"Can't say: it goes over its text {epochs:,.0f} times, and {most}."
    if single:
        return (
            "Can't say: no reference run of this size has a loss after as few tokens as this one has now, or after "
            f"the {tokens / 1e6:,.0f} M that it will have."
        )
    return (
        "Can't say: a forecast needs some losses after the warmup and below the unigram entropy, "
        f"{FEWEST_MEASURED} of them of validation."
    )


def what_if_line(each: Outlook) -> str:
    """Where a variant of the run would end, and whether that is any better."""
    interval = f", {each.low:.2f} to {each.high:.2f}" if each.low is not None else " (what references let expect)"
    if each.change >= -HELPS:
        no_help = f"; that is {each.change:.2f} higher" if each.change >= HELPS else "; that changes nothing"
    else:
        no_help = ""
    beyond = f"; outside the evidence: {each.beyond}" if each.beyond else ""
    return f"With {each.title}: {each.loss:.2f}{interval}{no_help}{beyond}."


def forecast_lines(made: Forecast) -> list[str]:
    """Where a run will end, and what that doesn't rest on."""
    final, low, high = made.final
    if made.by == "measured":
        return ["The run is finished."]
    lines = [
        f"At step {made.steps[-1]:,} the {made.of} loss is forecast at {final:.2f}, perplexity "
        f"{shown_perplexity(final)}. The 80 % interval is {low:.2f} to {high:.2f}."
    ]
    if made.by == "one loss":
        lines.append("That is what references let expect after this loss; a run's curve tells more.")
    elif made.of == "training":
        lines.append("It is the training loss that is forecast: there are no validation losses.")
    return lines + [f"Outside the evidence: {each}." for each in made.outside]
