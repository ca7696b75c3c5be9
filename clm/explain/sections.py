"""The six parts of an explanation, as lines of plain text."""

import math
from collections.abc import Sequence
from typing import Any

from clm.data.text_size import BYTES_PER_TOKEN
from clm.explain.forecast import Forecast
from clm.explain.normal import Verdict
from clm.explain.outlook import Outlook, pairs
from clm.explain.scaling import TOKENS_PER_PARAMETER, distinct_share
from clm.explain.setup import Setup

# Where a GPT-2 of this size ends up on WikiText-103 after 10 to 25 passes: "low 3s to high 2s" (published.json).
WIKITEXT_TARGETS = (3.0, 2.8)


def numbers(setup: Setup, step: int, loss: float) -> dict[str, float | None]:
    """The figures behind the sentences, under their names."""
    text, tokens = setup.text, setup.tokens_at(step)
    samples = step * setup.sequences_per_step
    count = setup.samples(setup.recipe.data.sampling)
    holding = setup.block_size if setup.recipe.data.sampling == "windows" else 1
    distinct = distinct_share(min(samples, count), count, holding) * text.tokens
    return {
        "perplexity": math.exp(loss),
        "uniform_loss": math.log(setup.vocab_size),
        "unigram_entropy": text.unigram_entropy,
        "bits_per_byte": loss / math.log(2) * text.tokens / text.bytes if text.bytes else None,
        "nats_per_word": loss * text.tokens / text.words if text.words else None,
        "tokens": tokens,
        "passes": tokens / text.tokens,
        "samples": samples,
        "samples_per_epoch": count,
        "share_of_samples": samples / count,
        "full_steps_per_epoch": setup.epoch(setup.recipe.data.sampling).full,
        "distinct_tokens": distinct,
        "parameters": setup.parameters,
        "tokens_per_parameter": tokens / setup.parameters,
    }


def all_of(
    setup: Setup,
    step: int,
    loss: float,
    kind: str,
    verdict: Verdict,
    made: Forecast | None,
    what_if: Sequence[Outlook],
    advice: Sequence[dict[str, Any]],
    findings: Sequence[dict[str, str]],
) -> list[dict[str, Any]]:
    """Every part, {"key", "title", "lines"}, in the order in which one asks."""
    known = numbers(setup, step, loss)
    parts = (
        ("meaning", f"What a {kind} loss of {loss:.2f} means", _meaning(setup, loss, known)),
        ("seen", "How much it has seen", _seen(setup, step, known)),
        ("normal", "Is it normal?", [verdict.sentence, f"How sure: {verdict.confidence}."]),
        ("end", "Where it will end", _end(setup, step, made, what_if)),
        ("advice", "What would help", _help(advice)),
        ("findings", "What is wrong", [f"{each['name']}: {each['text']}" for each in findings] or _nothing(step, kind)),
    )
    return [{"key": key, "title": title, "lines": lines} for key, title, lines in parts]


def targets(setup: Setup) -> Sequence[float]:
    """Losses that are known to be within reach."""
    small = 50e6 < setup.non_embedding_parameters < 200e6
    return WIKITEXT_TARGETS if setup.text_name == "wikitext-103" and small else ()


def _meaning(setup: Setup, loss: float, known: dict[str, Any]) -> list[str]:
    uniform, text = known["uniform_loss"], setup.text
    lines = [
        f"Perplexity {known['perplexity']:.1f}: on average as unsure of the next token as between "
        f"{known['perplexity']:.1f} "
        "equally likely ones.",
        f"It started near ln({setup.vocab_size:,}) = {uniform:.2f}, what a model scores that knows nothing.",
    ]
    if text.unigram_entropy is None:
        lines.append(
            "The unigram entropy, what knowing only how often each token occurs would give: not measured (no store)."
        )
    else:
        lines.append(
            f"A model that knows only how often each token occurs scores {text.unigram_entropy:.2f} (measured)."
        )
    for target in targets(setup):
        line = f"Within reach: {target:.1f}, perplexity {math.exp(target):.1f}; {_way(uniform, loss, target):.0%} "
        "of the way "
        line += f"from {uniform:.2f} is done"
        if text.unigram_entropy:
            line += f", {_way(text.unigram_entropy, loss, target):.0%} from the unigram entropy"
        lines.append(line + ".")
    if known["bits_per_byte"]:
        size = text.bytes / text.tokens
        lines.append(
            f"At the training text's {size:.2f} bytes a token that is {known['bits_per_byte']:.3f} bits per byte."
        )
    else:
        guess = loss / math.log(2) / BYTES_PER_TOKEN
        lines.append(f"In bits per byte about {guess:.2f}, at {BYTES_PER_TOKEN} bytes a token (assumed).")
    if known["nats_per_word"]:
        nats = known["nats_per_word"]
        lines.append(
            f"At its {text.tokens / text.words:.2f} tokens a word, {nats:.2f} nats per word, a word perplexity of "
            f"{math.exp(nats):,.0f}; published figures divide so."
        )
    return lines


def _way(start: float, loss: float, target: float) -> float:
    return (start - loss) / (start - target) if start > target else 1.0


def _seen(setup: Setup, step: int, known: dict[str, Any]) -> list[str]:
    sampling, text = setup.recipe.data.sampling, setup.text
    lines = [
        f"{known['tokens'] / 1e6:,.1f} M tokens in {step:,} steps of {setup.tokens_per_step:,}: "
        f"{known['passes']:.2f} of a pass over {text.tokens:,} tokens ({text.tokens_from}).",
        f"Counted in {sampling}, {known['samples']:,} of {known['samples_per_epoch']:,}: "
        f"{100 * known['share_of_samples']:.3g} %; an epoch has {known['full_steps_per_epoch']:,} full steps.",
    ]
    if sampling == "windows":
        lines.append(
            f"Both are true: every token lies in {setup.block_size:,} windows, and it is the tokens that are "
            "learned from. "
            f"In blocks end to end an epoch has {setup.epoch('blocks').full:,} full steps."
        )
    lines.append(
        f"Different tokens seen, as is to be expected: {known['distinct_tokens'] / 1e6:,.1f} M "
        f"({known['distinct_tokens'] / text.tokens:.0%} of the text)."
    )
    lines.append(
        f"{known['tokens_per_parameter']:.2f} tokens for each of {setup.parameters:,} parameters; compute is spent "
        "best at "
        f"about {TOKENS_PER_PARAMETER:.0f} (Hoffmann et al. 2022)."
    )
    return lines


def _end(setup: Setup, step: int, made: Forecast | None, what_if: Sequence[Outlook]) -> list[str]:
    if made is not None:
        final, low, high = made.final
        lines = [
            f"At step {setup.total_steps:,} the validation loss is forecast at {final:.2f}, {low:.2f} to {high:.2f} "
            "in 80 % "
            f"of cases; perplexity {math.exp(final):.1f}."
        ]
    elif step >= setup.total_steps:
        lines = ["The run is finished."]
    else:
        lines = ["Can't say: a forecast needs the run's curve, with some validation losses below the unigram entropy."]
    for each in what_if:
        interval = f", {each.low:.2f} to {each.high:.2f}" if each.low is not None else " (what references let expect)"
        lines.append(f"With {each.title}: {each.loss:.2f}{interval}.")
    shown = ", ".join(f"{change:+.2f} nats at {passes:.2g} passes" for passes, change in pairs("dropout"))
    lines.append(f"With dropout: can't say; in small runs alike but for it, dropout 0.1 made {shown}.")
    return lines


def _help(advice: Sequence[dict[str, Any]]) -> list[str]:
    if not advice:
        return ["Nothing that the recipe doesn't do already, or that the references can tell."]
    lines = []
    for number, each in enumerate(advice, 1):
        gain = f"-{each['gain_nats']:.2f} nats" if each["gain_nats"] else "gain unknown"
        lines.append(
            f"{number}. {each['title'][0].upper()}{each['title'][1:]}: {gain}; {each['cost']}. {each['text']}."
        )
    return lines


def _nothing(step: int, kind: str) -> list[str]:
    return [f"Nothing that shows by step {step:,}."] if kind == "validation" else ["Nothing that one loss can show."]
