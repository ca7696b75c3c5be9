"""The six parts of an explanation, as lines of plain text."""

import math
from collections.abc import Sequence
from typing import Any

from clm.data.store.words import has_words
from clm.data.text_size import BYTES_PER_TOKEN
from clm.explain.ending import end_lines
from clm.explain.faults.checks import comes_first
from clm.explain.floor import BYTE_IDS
from clm.explain.forecast import Forecast
from clm.explain.normal import CANT_SAY, Verdict
from clm.explain.outlook import Outlook
from clm.explain.perplexity import perplexity, shown_perplexity
from clm.explain.scaling import TOKENS_PER_PARAMETER, distinct_share
from clm.explain.setup import Setup

# Where a GPT-2 of this size ends up on WikiText-103 after 10 to 25 epochs: "low 3s to high 2s" (published.json).
WIKITEXT_TARGETS = (3.0, 2.8)
_NOT_YET = "Can't say before what is wrong is mended: it would be said of another run."


def numbers(setup: Setup, step: int, loss: float, kind: str) -> dict[str, float | None]:
    """The figures behind the sentences, under their names, of a loss of this `kind`, training or validation."""
    text, tokens = setup.text, setup.tokens_at(step)
    samples = step * setup.sequences_per_step
    count = setup.samples(setup.recipe.data.sampling)
    holding = setup.block_size if setup.recipe.data.sampling == "windows" else 1
    distinct = distinct_share(min(samples, count), count, holding) * text.tokens
    own, _ = text.sizes_for(kind)
    words = own.words and (not own.bytes or has_words(own.words, own.bytes))
    return {
        "perplexity": perplexity(loss),
        "uniform_loss": math.log(setup.vocab_size),
        "unigram_entropy": text.unigram_entropy,
        "bits_per_byte": loss / math.log(2) * own.tokens / own.bytes if own.bytes else None,
        "nats_per_word": loss * own.tokens / own.words if words else None,
        "tokens": tokens,
        "epochs": None if text.never_repeated else tokens / text.tokens,
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
    single: bool = False,
) -> list[dict[str, Any]]:
    """Every part, {"key", "title", "lines"}, in the order in which one asks; of a `single` loss or of a curve.

    A fault that comes first is first.
    """
    known, first = numbers(setup, step, loss, kind), comes_first(findings)
    sure = [] if verdict.label == CANT_SAY else [f"How sure: {verdict.confidence}."]
    wrong = ["Nothing that one loss can show."] if single and not findings else findings_lines(findings, step)
    parts = (
        ("meaning", f"What a {kind} loss of {loss:.2f} means", _meaning(setup, loss, kind, known)),
        ("seen", "How much it has seen", _seen(setup, step, known)),
        ("normal", "Is it normal?", [verdict.sentence, *sure]),
        ("end", "Where it will end", [_NOT_YET] if first else end_lines(setup, made, what_if, single)),
        ("advice", "What would help", [_NOT_YET] if first else _help(advice)),
        ("findings", "What is wrong", wrong),
    )
    shown = [{"key": key, "title": title, "lines": lines} for key, title, lines in parts]
    return [shown[-1], *shown[:-1]] if first else shown


def targets(setup: Setup) -> Sequence[float]:
    """Losses that are known to be within reach."""
    small = 50e6 < setup.non_embedding_parameters < 200e6
    return WIKITEXT_TARGETS if setup.text_name == "wikitext-103" and small else ()


def _meaning(setup: Setup, loss: float, kind: str, known: dict[str, Any]) -> list[str]:
    uniform, text = known["uniform_loss"], setup.text
    own, which = text.sizes_for(kind)
    lines = [
        perplexity_line(loss),
        f"It started near the uniform baseline, ln({setup.vocab_size:,}) = {uniform:.2f}.",
    ]
    if text.unigram_entropy is None:
        lines.append("The unigram entropy, the loss of knowing only token frequencies, is not measured (no store).")
    else:
        lines.append(
            f"A model that knows only how often each token occurs scores {text.unigram_entropy:.2f} (measured)."
        )
    for target in [target for target in targets(setup) if target < loss]:
        done = f"{_way(uniform, loss, target):.0%} of the way from {uniform:.2f} is done"
        if text.unigram_entropy:
            done += f", and {_way(text.unigram_entropy, loss, target):.0%} of the way from the unigram entropy"
        lines.append(f"Within reach: {target:.1f}, perplexity {math.exp(target):.1f}; {done}.")
    if setup.vocab_size <= BYTE_IDS:
        bits = loss / math.log(2)
        lines.append(
            f"A token is a byte here, so it is {bits:.3f} bits per byte. Losses of other vocabularies are per longer "
            f"tokens: at {BYTES_PER_TOKEN} bytes a token the same model would show about {BYTES_PER_TOKEN * loss:.2f}."
        )
    elif known["bits_per_byte"]:
        size = own.bytes / own.tokens
        lines.append(
            f"At the {which} text's {size:.2f} bytes a token it is {known['bits_per_byte']:.3f} bits per byte."
        )
    else:
        guess = loss / math.log(2) / BYTES_PER_TOKEN
        lines.append(f"In bits per byte it is about {guess:.2f}, if a token has {BYTES_PER_TOKEN} bytes (assumed).")
    if other := _other_languages(setup):
        lines.append(
            f"The text is in {other}, the references are in English: a loss per token can't be held against theirs, "
            "because other languages make tokens of other lengths; bits per byte, or a run of a known size on this "
            "text, can."
        )
    if known["nats_per_word"]:
        nats, size = known["nats_per_word"], own.tokens / own.words
        lines.append(
            f"At the {which} text's {size:.2f} tokens a word it is {nats:.2f} nats per word, a word perplexity of "
            f"{shown_perplexity(nats, 0)}."
        )
        lines.append("Published word perplexities divide by words in the same way.")
    return lines


def perplexity_line(loss: float) -> str:
    """What a loss says by itself."""
    each = shown_perplexity(loss)
    return f"Perplexity {each}: the model is as unsure of the next token as between {each} equally likely ones."


def _other_languages(setup: Setup) -> str:
    """The recipe's languages, where English isn't among them."""
    given = setup.recipe.run.language or []
    codes = [given] if isinstance(given, str) else given
    return "" if any(code.lower().startswith("en") for code in codes) else " and ".join(codes)


def _way(start: float, loss: float, target: float) -> float:
    return max(0.0, (start - loss) / (start - target)) if start > target else 1.0


def _seen(setup: Setup, step: int, known: dict[str, Any]) -> list[str]:
    text = setup.text
    amount = f"{known['tokens'] / 1e6:,.1f} M tokens in {step:,} steps of {setup.tokens_per_step:,}."
    if text.never_repeated:
        unknown = "How long the text is isn't known, so it counts as never repeated (--dataset_tokens N says it)."
        lines = [f"{amount} {unknown}"]
    else:
        epochs = f"{known['epochs']:.2f} of an epoch over {text.tokens:,} tokens ({text.tokens_from})"
        lines = [f"{amount} That is {epochs}.", *_in_samples(setup, known)]
    return [
        *lines,
        f"{known['tokens_per_parameter']:.2f} tokens for each of {setup.parameters:,} parameters; compute is spent "
        f"best at about {TOKENS_PER_PARAMETER:.0f} (Hoffmann et al. 2022).",
    ]


def _in_samples(setup: Setup, known: dict[str, Any]) -> list[str]:
    sampling, text, distinct = setup.recipe.data.sampling, setup.text, known["distinct_tokens"]
    share = 100 * known["share_of_samples"]
    share = f"{share:.3g} %" if share < 100 else f"{share:,.0f} %"
    lines = [
        f"Counted in {sampling} it is {known['samples']:,} of {known['samples_per_epoch']:,}, "
        f"{share}; an epoch of {sampling} has {known['full_steps_per_epoch']:,} full "
        "steps.",
    ]
    if sampling == "windows":
        lines.append(f"Both are true: every token lies in {setup.block_size:,} windows. The model learns from tokens.")
        lines.append(f"An epoch of blocks, end to end, has {setup.epoch('blocks').full:,} full steps.")
    lines.append(f"About {distinct / 1e6:,.1f} M different tokens are seen, {distinct / text.tokens:.0%} of the text.")
    return lines


def _help(advice: Sequence[dict[str, Any]]) -> list[str]:
    if not advice:
        return ["Nothing that the recipe doesn't do already, or that the references can tell."]
    lines = []
    for number, each in enumerate(advice, 1):
        gain = f"-{each['gain_nats']:.2f} nats" if each["gain_nats"] else "gain unknown"
        title, text = (each[key][0].upper() + each[key][1:] for key in ("title", "text"))
        lines.append(f"{number}. {title}: {gain}; {each['cost']}. {text}.")
    return lines


def findings_lines(findings: Sequence[dict[str, str]], step: int) -> list[str]:
    """What is wrong by a step."""
    named = [f"{each['name'][:1].upper()}{each['name'][1:]}: {each['text']}" for each in findings]
    return named or [f"Nothing that shows by step {step:,}."]
