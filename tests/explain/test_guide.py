"""Every figure of docs/training-loss.md, worked out again."""

import math
import re

import pytest

from clm.config.recipe import load
from clm.explain import explain, forecast, references
from clm.explain.evidence import PLATEAU_TOKENS
from clm.explain.outlook import pairs
from clm.explain.scaling import effective_tokens, usual_learning_rate
from clm.files import read_json
from tests.tiny import ROOT

# Not worked out but quoted: the question, rates and dropouts of recipes, results of others, years and arXiv numbers.
QUOTED = {"3.9", "3.0", "2.8", "3.09", "2.9", "0.1", "3e-4"}


def tokens_at_the_plateau(entry: dict) -> float:
    """Tokens for each id until a run's validation loss is below the unigram plateau."""
    recipe = entry["recipe"]
    tokens = recipe["block_size"] * recipe["per_device_train_batch_size"] * recipe["gradient_accumulation_steps"]
    limit = forecast.PLATEAU * entry["unigram_loss"]
    return next(step for step, loss in entry["validation"] if loss < limit) * tokens / recipe["vocab_size"]


@pytest.fixture(scope="module")
def phrases() -> list[str]:
    """What the page must say, with the figures as they come out now."""
    case = explain.explain_recipe(load(ROOT / "recipes" / "wt103-seed.json"), 3000, 3.9, 116_944_985)
    known, verdict = case["numbers"], case["verdict"]
    gains = {advice["title"]: advice["gain_nats"] for advice in case["advice"]}
    low, high = re.search(r"; ([\d.]+) to ([\d.]+) is", verdict["sentence"]).groups()
    band = re.search(r"±([\d.]+)", verdict["confidence"])[1]
    expected, scored = (
        read_json(ROOT / "calibration" / "results" / f"{name}.json") for name in ("expected", "forecast")
    )
    pooled, frozen = scored["all"]["pooled"], scored["frozen"]
    warm = [nats for _, nats in pairs("no-warmup")]
    dropped, twice = pairs("dropout"), gains["train for 6,000 steps (twice the steps)"]
    held = 100 * frozen["pooled"]["coverage"]
    rows = [
        f"| {row['share_of_steps']:.0%} | {row['median_error']:.3f} | {row['last_value_median_error']:.3f} | "
        f"{row['power_law_median_error']:.3f} |".replace("%", " %", 1)
        for row in scored["all"]["at"]
    ]
    of_frozen, of_adamw, of_muon = (
        "{:.3f}, {:.3f} and {:.3f}".format(*(row["median_error"] for row in scored[name]["at"]))
        for name in ("frozen", "adamw", "muon")
    )
    stays = [tokens_at_the_plateau(entry) for entry in references.entries("small_runs.json")]
    return [
        *rows,
        f"ln(32,000) = {known['uniform_loss']:.2f}",
        f"3.9 is {known['perplexity']:.1f}, 3.0 is {math.exp(3):.1f}, 2.8 is {math.exp(2.8):.1f}",
        f"| {known['full_steps_per_epoch']:,} full steps |",
        f"| {100 * known['share_of_samples']:.3g} % |",
        f"| {known['tokens'] / 1e6:.1f} M, {known['epochs']:.2f} of an epoch over the text |",
        f"| {known['distinct_tokens'] / 1e6:.1f} M |",
        f"each of {known['parameters']:,} parameters | {known['tokens_per_parameter']:.2f} |",
        f"for {min(stays):.0f} to {max(stays):.0f} tokens for each id",
        f"Longer than {PLATEAU_TOKENS}: look for a fault",
        f"about {forecast.constants(False, 3e5).decay:.2f} nats for the whole decay in small runs by AdamW, "
        f"{forecast.constants(True, 3e5).decay:.2f} by Muon",
        f"**{verdict['label']} what such a run shows, {low} to {high}**",
        f"Each of {expected['all']['runs']} reference runs ({expected['small']['runs']} small ones made here, "
        f"{expected['published']['runs']} published)",
        f"{100 * expected['all']['inside_80_band']:.0f} % of the left-out losses",
        f"the median error is {expected['all']['median_error']:.2f} nats",
        f"±{band} for the case",
        f"Doubling the steps of the case is expected to give {twice:.2f} nats",
        f"ten epochs {gains['train for 35,689 steps (10 epochs)']:.2f}",
        f"A rule of thumb for the case's size is {usual_learning_rate(85_056_000):.1e}",
        f"up to {max(epochs for epochs, _ in dropped):.1f} epochs",
        f"*cost* {min(change for _, change in dropped):.2f} to {max(change for _, change in dropped):.2f} nats",
        f"ten epochs are worth {effective_tokens(1, 10):.2f} of different text",
        f"for {len(scored['all']['errors'])} runs",
        f"Median errors for the {len(scored['adamw']['errors'])} by AdamW {of_adamw}, "
        f"for the {len(scored['muon']['errors'])} by Muon {of_muon}",
        f"hold {100 * pooled['coverage']:.0f} % of the ends ({100 * pooled['low']:.0f} to {100 * pooled['high']:.0f} %",
        f"{len(frozen['errors'])} runs were made after the code was frozen: median errors of {of_frozen}, "
        f"intervals that hold {held:.0f} %",
        f"{warm[0]:.2f} and {warm[1]:.2f} nats",
        f"fell {scored['adamw']['errors']['f-p-1x96-constant'][0]:.2f} nats further than forecast",
    ]


def test_every_figure_of_the_guide_is_what_comes_out_now(phrases):
    page = " ".join((ROOT / "docs" / "training-loss.md").read_text("utf-8").split())
    for phrase in phrases:
        assert phrase in page, phrase
        page = page.replace(phrase, "")
    page = re.sub(r"arXiv [\d.]+|`[^`]*`|--\w+ \S+", "", page.split("## Sources")[0])
    left = set(re.findall(r"\d+\.\d+(?:e-\d+)?|\de-\d+", page)) - QUOTED
    assert not left, f"figures that nothing works out: {left}"
