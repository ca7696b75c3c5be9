"""What is known of a run besides its curve, as the forecast's constants depend on it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from clm.explain.scaling import usual_learning_rate

SMALL, LARGE = 2e6, 2.5e7  # non-embedding parameters: up to the one all is small, from the other on large
MUON_RATE = 4.0  # Muon's usual peak rate in those of AdamW, in the reference runs
SEEN = (("adamw", "muon"), ("adamw", "muon", "soap"))  # optimizers of the small and of the large reference runs
TEXTS = ("english", "python-docs", "wikitext")  # of the small reference runs; a name may begin with one of these
# The regressions' inputs, in the order of their coefficients; `small` and `large` go from 0 to 1.
INPUTS = (
    "one", "large", "small parameters", "large parameters", "small ratio", "large ratio", "small muon",
    "small muon parameters", "small rate", "small steps", "small epochs", "small dropout",
    "small weight decay", "small embeddings",
    *(f"small {text}" for text in TEXTS),
)  # fmt: skip
QUANTITIES = ("non-embedding parameters", "tokens a parameter", "steps", "peak rate over the usual one", "epochs")

# Of the small reference runs; more counts as this.
MOST_DROPOUT, MOST_DECAY, MOST_EMBEDDINGS = 0.1, 0.3, 2.0
DECAY = 0.1  # the usual weight decay

Ranges = Mapping[str, Sequence[float]]  # of QUANTITIES: the least and the greatest


@dataclass(frozen=True)
class Facts:
    """What is known of a run besides its curve; None where it isn't.

    `parameters` are without embeddings; `tokens` are what the whole run trains on, repeats counted; `optimizer` may be
    any name; `epochs` are those of the whole run over its text, 1 where it doesn't repeat; `text` is its name;
    `dropout` is the largest of the model's; `embeddings` is their learning rate in that of the matrices.
    """

    parameters: float | None
    tokens: float | None
    steps: int
    optimizer: str | None = "adamw"
    peak_rate: float | None = None
    epochs: float = 1.0
    text: str | None = None
    dropout: float = 0.0
    weight_decay: float = DECAY
    embeddings: float = 1.0

    @property
    def family(self) -> str | None:
        """`adamw`, `muon`, `soap`, or None for another or an unknown optimizer."""
        name = (self.optimizer or "").lower()
        return next((family for part, family in _FAMILIES.items() if part in name), None)

    @property
    def counted_dropout(self) -> float:
        """As much of it as a reference run has; so are the next two."""
        return min(self.dropout, MOST_DROPOUT)

    @property
    def counted_decay(self) -> float:
        return min(self.weight_decay, MOST_DECAY)

    @property
    def counted_embeddings(self) -> float:
        return min(max(self.embeddings, 1.0), MOST_EMBEDDINGS)

    @property
    def known_text(self) -> str | None:
        """Its text as it is called in TEXTS; None where no small reference run has it."""
        return next((text for text in TEXTS if (self.text or "").startswith(text)), None)

    @property
    def stranger(self) -> bool:
        """Whether no reference run of this size has its optimizer."""
        return self.family not in SEEN[largeness(self.parameters or SMALL) == 1]


_FAMILIES = {"muon": "muon", "soap": "soap", "adam": "adamw"}


def largeness(parameters: float) -> float:
    """0 for a small model, 1 for a large one, and between them in between, in ln(parameters)."""
    return min(1.0, max(0.0, math.log(parameters / SMALL) / math.log(LARGE / SMALL)))


def inputs(facts: Facts) -> np.ndarray:
    """(INPUTS,) of a run whose size and tokens are known; logarithms, set off so that each is about 0 in the mean."""
    large = largeness(facts.parameters)
    small, size = 1 - large, math.log(facts.parameters)
    ratio, muon = math.log(facts.tokens / facts.parameters), float(facts.family == "muon")
    rate = quantities(facts).get("peak rate over the usual one", 1.0)
    return np.array([
        1.0, large, small * (size - 12.6), large * (size - 18.4) / 2, small * (ratio - 2), large * (ratio - 4) / 2,
        small * muon, small * muon * (size - 12.6), small * math.log(rate), small * (math.log(facts.steps) - 6.6),
        small * math.log(max(1.0, facts.epochs)), small * facts.counted_dropout / MOST_DROPOUT,
        small * (facts.counted_decay - DECAY) / (MOST_DECAY - DECAY), small * math.log(facts.counted_embeddings),
        *(small * (facts.known_text == text) for text in TEXTS),
    ])  # fmt: skip


def quantities(facts: Facts) -> dict[str, float]:
    """QUANTITIES of a run whose size and tokens are known; of a large model steps and rate make no difference."""
    found = {QUANTITIES[0]: facts.parameters, QUANTITIES[1]: facts.tokens / facts.parameters}
    found[QUANTITIES[4]] = max(1.0, facts.epochs)
    if largeness(facts.parameters) < 1:
        found[QUANTITIES[2]] = facts.steps
        if facts.peak_rate:
            found[QUANTITIES[3]] = facts.peak_rate / _usual_rate(facts)
    return found


def ranges(runs: Sequence[Facts]) -> dict[str, Ranges]:
    """Those of small and of large runs."""
    found = {}
    for name, share in (("small", 0.0), ("large", 1.0)):
        rows = [quantities(facts) for facts in runs if largeness(facts.parameters) == share]
        columns = {key: [row[key] for row in rows if key in row] for key in QUANTITIES}
        found[name] = {key: (min(values), max(values)) for key, values in columns.items() if values}
    return {name: each for name, each in found.items() if each}


def ranges_for(facts: Facts, known: Mapping[str, Ranges]) -> Ranges:
    """What a run of this size is held against: between small and large, what either has."""
    share = largeness(facts.parameters)
    names = [name for name in known if (name == "small" and share < 1) or (name == "large" and share > 0)]
    near = [known[name] for name in names] or list(known.values())
    found = {key: _hull(each[key] for each in near if key in each) for key in {key for each in near for key in each}}
    return found | {QUANTITIES[0]: _hull(each[QUANTITIES[0]] for each in known.values())}


def nearest(facts: Facts, known: Mapping[str, Ranges]) -> tuple[Facts, float]:
    """The facts moved to within the references', and how many e-folds that is, all together.

    `epochs` stay as they are, and how far they are beyond the references' counts.
    """
    values, limits = quantities(facts), ranges_for(facts, known)
    moved = {key: min(max(value, limits[key][0]), limits[key][1]) for key, value in values.items() if key in limits}
    farther = sum(abs(math.log(values[key] / value)) for key, value in moved.items())
    parameters = moved[QUANTITIES[0]]
    steps, rate = moved.get(QUANTITIES[2], facts.steps), moved.get(QUANTITIES[3])
    near = replace(facts, parameters=parameters, tokens=moved[QUANTITIES[1]] * parameters, steps=steps)
    return replace(near, peak_rate=rate * _usual_rate(near) if rate else None), farther


def _hull(pairs: Iterable[Sequence[float]]) -> tuple[float, float]:
    lows, highs = zip(*pairs, strict=True)
    return min(lows), max(highs)


def _usual_rate(facts: Facts) -> float:
    return usual_learning_rate(facts.parameters) * (MUON_RATE if facts.family == "muon" else 1.0)
