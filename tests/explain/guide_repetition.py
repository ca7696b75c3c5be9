"""What docs/training-loss.md says of repeating a text, with the figures as they come out now."""

from calibration import repetition_since
from calibration.repetition import score
from calibration.repetition_since import KINDS
from clm.explain import references
from clm.explain.advice.regularisation import ALIKE, KIM_DECAY
from clm.explain.scaling import OVERFITTING, REPEAT_HALF_LIFE, REPEATED_EPOCHS, REPEATED_RATIOS, SMALL_HALF_LIFE
from clm.files import read_json
from tests.tiny import ROOT

REPETITION = [
    (which, key, words, left_out)
    for which, words in (("one text", "one little text"), ("regime", "data-limited.md's"))
    for key, left_out in (("a run", "it"), ("a size", "its size"), ("its text", "its set"))
]


def repetition_row(words: str, left_out: str, scored: dict) -> str:
    """A row of the table of what repeating the text costs."""
    nats = [scored[f"{which}, {kind}"] for kind in ("error", "of changes") for which in ("with penalty", "without")]
    shares = [scored[f"{which}, pairs in order"] for which in ("with penalty", "without")]
    cells = [*(f"{each:.2f}" for each in nats), *(f"{100 * each:.0f} %" for each in shares)]
    return f"| {words} | {left_out} | {' | '.join(cells)} |"


def of_repetition() -> list[str]:
    """What the page says of repeating a text, from calibration/results/repetition.json."""
    repeated = read_json(ROOT / "calibration" / "results" / "repetition.json")
    law, runs = OVERFITTING, references.entries("repeated_runs.json")
    decays = sorted({run["recipe"]["weight_decay"] for run in runs})
    dropouts = {run["recipe"]["resid_pdrop"] for run in runs}
    regime = references.entries("regime_runs.json")
    sizes = [repeated[f"{which}, a size left out"] for which in ("regime", "one text")]
    above = [pick["above the best"] for pick in repeated["picks"].values()]
    return [
        f"`{law.scale:.4f} r / (1 + r / {law.saturation:.1f}) (E - 1)^{law.epochs_power:.2f}`, with",
        f"{SMALL_HALF_LIFE:.0f} repetitions and not {REPEAT_HALF_LIFE}",
        f"{len(runs)} are over one little text, 44 kB of WikiText (one: 24 kB), of 1 to {REPEATED_EPOCHS:.0f} epochs",
        f"outside {REPEATED_RATIOS[0]:g} to {REPEATED_RATIOS[1]:g} parameters for each token",
        f"e^-{law.decay:.1f} for each unit of W,",
        f"e^-{law.dropout:.1f} for each unit of dropout P, and by e^-{law.adamw:.1f} under AdamW",
        f"`{law.decay_cost:.2f} W ln E / (1 + r)` is added",
        f"weight decay {', '.join(map(str, decays[:-1]))} and {decays[-1]}; dropout 0 and {max(dropouts)};",
        f"longest overfitted to {max(run['validation'][-1][1] for run in runs):.2f}, above the uniform baseline",
        f"{len(regime)} curves, from {sum(entry['runs'] for entry in regime)} runs,",
        f"within {ALIKE} nats it takes the one with the most dropout",
        f"{min(above):.3f} to {max(above):.3f} nats above the best",
        " and ".join(f"{100 * each['inside 80 % band']:.0f} %" for each in sizes),
        f"a weight decay of {KIM_DECAY}, and at 8 with 0.1 (Kim et al. 2025)",
        *(repetition_row(*words, repeated[f"{which}, {key} left out"]) for which, key, *words in REPETITION),
    ]


def of_runs_made_since() -> list[str]:
    """What it says of the runs that no fit has seen."""
    found = repetition_since.since()
    scored = {kind: score([each for each in found if is_of(each.run.name)]) for kind, is_of in KINDS.items()}
    too_low = [each.loss - each.expected for each in found if KINDS["larger"](each.run.name)]
    return [
        f"{len(found)} curves were made since",
        *(repetition_row(kind, str(each["runs"]), each) for kind, each in scored.items()),
        f"The 80 % band holds {100 * scored['all']['inside 80 % band']:.0f} % of them, and none of 30 steps",
        f"({sum(too_low) / len(too_low):.2f} too low)",
    ]
