"""Published word perplexities on WikiText-103, for comparison with a result in the one unit that they share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

UNK = "<unk>"  # wikitext-103-v1: words outside the 267,735 of its vocabulary are written <unk>
RAW = "raw"  # wikitext-103-raw-v1: the same words as they were
_CONFIGS = {"wikitext-103-v1": UNK, "wikitext-103-raw-v1": RAW}
_COUNTS = {(217_646, 1_121_681): ("validation", UNK)}  # words and bytes of a text that is known by them


class Wikitext103(NamedTuple):
    """Which part of WikiText-103 a text is, and in which form."""

    split: str
    form: str


@dataclass(frozen=True)
class Figure:
    """A published result; `unit` is the metric that it may be compared with."""

    model: str
    parameters: str
    value: float
    split: str
    form: str
    alone: bool  # trained on WikiText-103 and nothing else
    source: str
    unit: str = "word_perplexity"


_DAI = "Dai et al. 2019, Transformer-XL, arXiv 1901.02860, table 1"
_FAN = "Fan et al. 2020, Feedback Transformer, arXiv 2002.09402"
_KHANDELWAL = "Khandelwal et al. 2020, kNN-LM, arXiv 1911.00172"
_LEI = "Lei 2021, SRU++, arXiv 2102.12459"
_PRESS = "Press et al. 2021, Shortformer, arXiv 2012.15832"
_RADFORD = "Radford et al. 2019, GPT-2, table 3 (zero-shot)"
_DETOKENIZED = f"{UNK}, de-tokenized"  # reversibly, which GPT-2's authors say gains 2.5 to 5 of perplexity

FIGURES = (
    Figure("QRNN", "151M", 33.0, "test", UNK, True, f"Merity et al. 2018, in {_DAI}"),
    Figure("Transformer-XL standard", "151M", 24.0, "test", UNK, True, _DAI),
    Figure("SRU++ base", "148M", 18.3, "test", UNK, True, _LEI),
    Figure("SRU++ base", "148M", 17.5, "validation", UNK, True, _LEI),
    Figure("Feedback Transformer", "139M", 18.2, "test", UNK, True, _FAN),
    Figure("Feedback Transformer", "139M", 17.5, "validation", UNK, True, _FAN),
    Figure("Adaptive inputs", "247M", 18.7, "test", UNK, True, "Baevski and Auli 2019, arXiv 1809.10853"),
    Figure("Transformer-XL large", "257M", 18.3, "test", UNK, True, _DAI),
    Figure("Shortformer", "247M", 18.15, "test", UNK, True, _PRESS),
    Figure("Shortformer", "247M", 17.47, "validation", UNK, True, _PRESS),
    Figure("Staged training", "247M", 17.56, "test", UNK, True, _PRESS),
    Figure("Staged training", "247M", 16.89, "validation", UNK, True, _PRESS),
    Figure("kNN-LM", "247M", 16.12, "test", UNK, True, _KHANDELWAL),
    Figure("kNN-LM", "247M", 16.06, "validation", UNK, True, _KHANDELWAL),
    Figure("GPT-2", "117M", 37.50, "not stated", _DETOKENIZED, False, _RADFORD),
    Figure("GPT-2", "345M", 26.37, "not stated", _DETOKENIZED, False, _RADFORD),
    Figure("GPT-2", "762M", 22.05, "not stated", _DETOKENIZED, False, _RADFORD),
    Figure("GPT-2", "1542M", 17.48, "not stated", _DETOKENIZED, False, _RADFORD),
)


def which_text(dataset_name: str | None, config: str | None, split: str) -> Wikitext103 | None:
    """What a dataset of the Hub is of WikiText-103; None for any other, and for the training split."""
    of_wikitext = (dataset_name or "").split("/")[-1].lower() == "wikitext" and config in _CONFIGS
    return Wikitext103(split, _CONFIGS[config]) if of_wikitext and split in ("validation", "test") else None


def text_with(words: int, bytes: int) -> Wikitext103 | None:
    """The part of WikiText-103 that has these very counts; None where no known one has."""
    found = _COUNTS.get((words, bytes))
    return Wikitext103(*found) if found else None


def rows(
    metrics: Mapping[str, float], text: Wikitext103 | None, parameters: int, alone: bool | None
) -> list[dict[str, Any]]:
    """This model's word perplexity among the published ones, the lowest first; empty for any other text.

    A row has: model, parameters, value, unit, split, form (of the text), alone (trained on WikiText-103 alone; None
    where that isn't known), source (empty for this model). A published model stands in it with its figure for the
    same split if it has one, else with the one it has.

    Args:
        metrics: those of eval_results.json.
        text: what was scored, by one of the functions above.
        parameters: of this model.
        alone: whether this model trained on WikiText-103 alone.
    """
    if text is None:
        return []
    same_split = {figure.model for figure in FIGURES if figure.split == text.split}
    chosen = [vars(f) for f in FIGURES if f.unit in metrics and (f.split == text.split or f.model not in same_split)]
    this = Figure("this model", f"{parameters / 1e6:.0f}M", metrics["word_perplexity"], *text, alone, "")
    return sorted([vars(this), *chosen], key=lambda row: row["value"])


def rows_of_run(recipe: Mapping[str, Any], metrics: Mapping[str, float], parameters: int) -> list[dict[str, Any]]:
    """The rows of a training run, by its resolved recipe; empty unless its validation text is WikiText-103's."""
    names = [recipe.get(key) for key in ("dataset_name", "dataset_config_name")]
    if recipe.get("validation_file") or not all(isinstance(name, str) for name in names):
        return []
    return rows(metrics, which_text(*names, "validation"), parameters, alone=True)


def table(compared: Sequence[Mapping[str, Any]]) -> str:
    """Rows of `rows` as a Markdown table."""
    words = {True: "yes", False: "no", None: "?"}
    lines = ["| model | parameters | word perplexity | split | text | WikiText-103 alone | source |", "|" + "---|" * 7]
    for row in compared:
        name = f"**{row['model']}**" if not row["source"] else row["model"]
        cells = [name, row["parameters"], f"{row['value']:.2f}", row["split"], f"`{row['form']}`", words[row["alone"]]]
        lines.append(f"| {' | '.join([*cells, row['source']])} |")
    return "\n".join(lines)
