"""Every figure of docs/training-loss.md, worked out again."""

import math
import re

import pytest

from clm.config.recipe import load
from clm.explain import explain, forecast, references
from clm.explain.expected import TRAINING_DROPOUT
from clm.explain.faults.evidence import PLATEAU_TOKENS
from clm.explain.outlook import LOSS_WIDTHS, pairs
from clm.explain.scaling import effective_tokens, usual_learning_rate
from clm.files import read_json
from tests.explain import test_quickstart as quickstart
from tests.explain.guide_repetition import of_repetition, of_runs_made_since
from tests.tiny import ROOT

# Not worked out but quoted: the question, rates and dropouts of recipes, results of others, years and arXiv numbers.
QUOTED = {"3.9", "3.0", "2.8", "3.09", "2.9", "0.1", "3e-4", "1.5"}
# Settings and sizes of docs/data-limited.md.
QUOTED |= {"0.02", "0.7", "4.6", "0.2", "0.3", "3.2", "1.6", "0.4", "0.05", "0.8"}
EARLIER = (  # forecasts that are no more
    "it had median errors of 0.038, 0.033, 0.034 and 0.047 nats",
    "That one had 0.041, 0.047, 0.016 and 0.036 on the first ten",
    "0.077, 0.056, 0.029 and 0.025 on the other ten",
    "Its median errors were 0.045, 0.037, 0.023 and 0.040 nats on the first ten and 0.082, 0.052, 0.034 and 0.027 on "
    "the other ten",
    "by 0.12 nats in the mean at half of their steps",
    "had missed its end by 0.0005",
)


GROUPS = ("small", "25M to 400M", "124M to 1.5B")


def table(name: str, rows: list[dict]) -> list[str]:
    """The page's rows of a group: errors of the forecast and of the naive ones, the interval and what it holds."""
    keys = ("median_error", "last_value_median_error", "power_law_median_error", "usual_fall_median_error")
    return [
        f"| {name} | {100 * row['share_of_steps']:.0f} % | {' | '.join(f'{row[key]:.3f}' for key in keys)} | "
        f"±{row['median_half_interval']:.3f} | {100 * row['coverage']:.0f} % ({100 * row['coverage_low']:.0f} to "
        f"{100 * row['coverage_high']:.0f}) |"
        for row in rows
    ]


def one_loss_row(words: str, share: str, scored: dict) -> str:
    """A row of the table of forecasts from one loss."""
    return (
        f"| {words} | {share} % | {scored['runs']} | {scored['median_error']:.3f} | "
        f"{scored['last_value_median_error']:.3f} | ±{scored['median_half_interval']:.2f} | "
        f"{100 * scored['coverage']:.0f} % | {100 * scored['coverage_before_widening']:.0f} % |"
    )


def errors(scored: dict) -> str:
    """The median errors at the four shares, in words."""
    *first, last = (f"{row['median_error']:.3f}" for row in scored["at"])
    return f"{', '.join(first)} and {last}"


def coverage(scored: dict) -> str:
    """What the intervals hold at the four shares."""
    return ", ".join(f"{100 * row['coverage']:.0f}" for row in scored["at"]) + " %"


def biggest(scored: dict, run: str) -> float:
    """The largest error of a run."""
    return max(scored["errors"][run])


def _held(scored: dict) -> str:
    return f"±{scored['median_half_band']:.2f} and holds {100 * scored['inside_80_band']:.0f} %"


def tokens_at_the_plateau(entry: dict) -> float:
    """Tokens for each id until a run's validation loss is below the unigram plateau."""
    recipe = entry["recipe"]
    tokens = recipe["block_size"] * recipe["per_device_train_batch_size"] * recipe["gradient_accumulation_steps"]
    limit = forecast.PLATEAU * entry["unigram_loss"]
    return next(step for step, loss in entry["validation"] if loss < limit) * tokens / recipe["vocab_size"]


def of_the_forecast(scored: dict) -> list[str]:
    """What the page says of how good forecasts are, from calibration/results/forecast.json."""
    fresh, measured = scored["held out, made after the freeze"], scored["small, validation text left out"]
    widths, ahead = forecast.knowledge().widths, forecast.knowledge().ahead
    ends = [quickstart.forecast_at(share).final for share in (0.25, 0.5, 0.75)]
    *first, last = (f"{final:.2f} ({low:.2f} to {high:.2f})" for final, low, high in ends)
    return [
        *EARLIER,
        f"It ends at {quickstart.ENDED:.2f}, and its forecasts at 25, 50 and 75 % are {', '.join(first)} and {last}",
        f"The median errors are now {errors(scored['held out'])} nats on the first ten and {errors(fresh)} on the",
        f"The intervals hold {coverage(scored['held out'])} and {coverage(fresh)}",
        f"one by {scored['held out']['errors']['h-p-2x128-linear'][0]:.2f} nats at a quarter: its text repeats itself",
        f"So {widths['small'][0]:.1f} times the first goes into a small run's interval by AdamW and "
        f"{widths['small muon'][0]:.1f} by Muon, where its standard deviation is never below "
        f"{widths['small muon'][1]:.3f} nats",
        f"are made {LOSS_WIDTHS[0]} times as wide",
        f"{TRAINING_DROPOUT / 10:.1f} nats at a dropout of 0.1 (in pairs of small runs 0.06 to 0.17)",
        f"{ahead['english']:.3f} nats on English, {ahead['python-docs']:.3f} on Python's documentation, "
        f"{ahead['wikitext']:.3f} on WikiText and {ahead['another text']:.3f} on another text",
        f"The median errors are then {errors(measured)} nats, and the intervals hold {coverage(measured)}",
        f"{errors(scored['small, on python-docs'])} nats there, {errors(scored['small, on english'])} on English and "
        f"{errors(scored['small, on wikitext'])} on WikiText",
        f"the mean error is {scored['small, text left out']['at'][0]['bias']:+.3f} at a quarter, where it is "
        f"{scored['small']['at'][0]['bias']:+.3f} in the table",
        f"By AdamW the errors are {errors(scored['small, by adamw'])} nats",
        f"The median errors are then {errors(scored['small, text left out'])} nats",
        f"for a text that isn't known, hold {coverage(scored['small, text left out'])}",
        f"by Muon {errors(scored['small, by muon'])}, with intervals that hold "
        f"{' and '.join(coverage(scored[f'small, by {family}']) for family in ('adamw', 'muon'))}",
        f"it is {errors(scored['small, logged as the quickstart'])} in small runs, and the intervals, which are wider "
        f"then, hold {coverage(scored['small, logged as the quickstart'])}",
        f"{errors(scored['124M to 1.5B, training losses alone'])} in the runs of 124M to 1.5B",
        f"{errors(scored['small, training losses alone'])} in the small ones",
        f"fell {biggest(scored['124M to 1.5B'], 'gpt2-124m-fineweb-adamw-trapezoid'):.2f} nats further in its decay",
        f"fell {scored['small']['errors']['f-p-1x96-constant'][0]:.2f} nats further than forecast",
    ]


def of_the_case() -> list[str]:
    """What it says of the question that every beginner asks, as explain answers it."""
    case = explain.explain_recipe(load(ROOT / "recipes" / "wt103-seed.json"), 3000, 3.9, 116_944_985)
    known, verdict = case["numbers"], case["verdict"]
    gains = {advice["title"]: advice["gain_nats"] for advice in case["advice"]}
    low, high = re.search(r"; ([\d.]+) to ([\d.]+) is", verdict["sentence"]).groups()
    band, twice = re.search(r"±([\d.]+)", verdict["confidence"])[1], gains["train for 6,000 steps (twice the steps)"]
    return [
        f"ln(32,000) = {known['uniform_loss']:.2f}",
        f"3.9 is {known['perplexity']:.1f}, 3.0 is {math.exp(3):.1f}, 2.8 is {math.exp(2.8):.1f}",
        f"| {known['full_steps_per_epoch']:,} full steps |",
        f"| {100 * known['share_of_samples']:.3g} % |",
        f"| {known['tokens'] / 1e6:.1f} M, {known['epochs']:.2f} of an epoch over the text |",
        f"| {known['distinct_tokens'] / 1e6:.1f} M |",
        f"each of {known['parameters']:,} parameters | {known['tokens_per_parameter']:.2f} |",
        f"**{verdict['label']} what such a run shows, {low} to {high}**",
        f"±{band} for the case",
        f"Doubling the steps of the case is expected to give {twice:.2f} nats",
        f"ten epochs {gains['train for 35,689 steps (10 epochs)']:.2f}",
    ]


def of_the_expected_loss() -> list[str]:
    """What it says of how good the expected loss is, from calibration/results/expected.json."""
    expected = read_json(ROOT / "calibration" / "results" / "expected.json")
    return [
        *(
            one_loss_row(words, share, expected[f"{size}, from one loss at {share}%"])
            for size, words in (("small", "small"), ("published", "25M to 1.5B"))
            for share in ("20", "40", "60")
        ),
        f"Each of {expected['all']['runs']} reference runs ({expected['small']['runs']} small ones made here, "
        f"{expected['published']['runs']} public ones from 25M to 1.5B)",
        f"{100 * expected['all']['inside_80_band']:.0f} % of the left-out losses",
        f"the median error is {expected['all']['median_error']:.2f} nats",
        f"At 124M on web text the band is {_held(expected['124M on web text'])}",
        f"in small runs it is ±{expected['small']['median_half_band']:.2f}",
        f"On a text that no reference knows it is {_held(expected['small, text unknown'])} in small runs",
        f"in large ones it is {_held(expected['published, text unknown'])}",
    ]


@pytest.fixture(scope="module")
def phrases() -> list[str]:
    """What the page must say, with the figures as they come out now."""
    scored = read_json(ROOT / "calibration" / "results" / "forecast.json")
    warm, dropped = [nats for _, nats in pairs("no-warmup")], pairs("dropout")
    small, muon, large = (
        forecast.knowledge().prior(facts).decay
        for facts in (
            forecast.Facts(3e5, 3e6, 750, "adamw", 2.5e-3),
            forecast.Facts(3e5, 3e6, 750, "muon", 1e-2),
            forecast.Facts(85e6, 2.7e9, 5100),
        )
    )
    stays = [tokens_at_the_plateau(entry) for entry in references.entries("small_runs.json")]
    return [
        *(row for name in GROUPS for row in table(name, scored[name]["at"])),
        *of_repetition(),
        *of_runs_made_since(),
        *of_the_case(),
        *of_the_expected_loss(),
        f"for {min(stays):.0f} to {max(stays):.0f} tokens for each id",
        f"Longer than {PLATEAU_TOKENS}: look for a fault",
        f"about {small:.2f} nats for the whole decay in small runs by AdamW, {muon:.2f} by Muon, {large:.2f} at 124M",
        f"{small:.2f} nats for all of the peak rate in a small run by AdamW, {muon:.2f} by Muon, {large:.2f} in a",
        f"A rule of thumb for the case's size is {usual_learning_rate(85_056_000):.1e}",
        f"up to {max(epochs for epochs, _ in dropped):.1f} epochs",
        f"*cost* {min(change for _, change in dropped):.2f} to {max(change for _, change in dropped):.2f} nats",
        f"ten epochs are worth {effective_tokens(1, 10):.2f} of different text",
        f"The small runs are {len(scored['small']['errors'])} of",
        f"{errors(scored['25M to 400M, source left out'])} nats at 25, 33, 50 and 75 % for those from 25M to 400M",
        f"{errors(scored['124M to 1.5B, source left out'])} for those from 124M to 1.5B",
        f"hold {' and '.join(coverage(scored[f'{name}, source left out']) for name in GROUPS[1:])} of the ends",
        f"{warm[0]:.2f} and {warm[1]:.2f} nats",
        *of_the_forecast(scored),
    ]


def test_every_figure_of_the_guide_is_what_comes_out_now(phrases):
    page = " ".join((ROOT / "docs" / "training-loss.md").read_text("utf-8").split())
    missing = [phrase for phrase in phrases if phrase not in page]
    assert not missing, "\n".join(missing)
    for phrase in phrases:
        page = page.replace(phrase, "")
    page = re.sub(r"arXiv [\d.]+|`[^`]*`|--\w+ \S+", "", page.split("## Sources")[0])
    left = set(re.findall(r"\d+\.\d+(?:e-\d+)?|\de-\d+", page)) - QUOTED
    assert not left, f"figures that nothing works out: {left}"
