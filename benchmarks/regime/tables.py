"""The tables of docs/data-limited.md, by their rows."""

import statistics
from dataclasses import dataclass

from benchmarks.regime.results import arithmetic_of

MARKS = {"bf16": "", "amx": " *", "fp32": " †"}  # of rows, by what their runs multiply in
SMALL, LARGE = "rate 0.01, cosine to 0, wd 1.6", "rate 0.005, cosine to 0, wd 0.8"  # the best of each size
OLD = "rate 0.02, linear to 0, wd 1.6"
FULL = ", documents shuffled, rows balanced, embedding rate 2"
ALONE = "rate 0.01, dropout 0.0, wd 0.8"  # at wt103.json's weights a token: decay alone
ROW = "rate 0.01, dropout 0.05"
WON = f"{ROW}, wd 0.4"  # and a little of both
CARRIED = f"{ROW}, wd 0.2"  # to wide by the rule
SHIPPED = f"{ROW}, wd 0.1"  # wt103.json's pair
CAUTIOUS = "rate 0.01, dropout 0.05, wd 0.8, decay cautious"  # as much decay as WON's where half of it is left out
EXTRA = ("cosine to 0", "documents shuffled", "embedding rate 2")  # what lost nothing alone


@dataclass(frozen=True)
class Table:
    """Sizes side by side, and the rows."""

    sizes: tuple[str, ...]
    rows: list[str]


FEW, MANY = ("small", "large"), ("half", "ample", "wide")  # tokens for each weight
MEMORY = "How many epochs the weights remember: "
TABLES: dict[str, Table] = {
    "As much text for each weight as wt103.json has: its settings, by their rate": Table(
        MANY, [f"rate {rate}" for rate in (0.0025, 0.005, 0.01, 0.02)]
    ),
    "As much text for each weight as wt103.json has: dropout and decay": Table(
        MANY,
        [
            *(f"rate 0.01, wd {decay}" for decay in (0.4, 1.6)),
            *("rate 0.01, dropout 0.1", *(f"rate 0.01, dropout 0.1, wd {decay}" for decay in (0.4, 0.8))),
            *("rate 0.005, dropout 0.1, wd 0.4", "rate 0.02, dropout 0.1, wd 0.4"),
            *("rate 0.005, dropout 0.05, wd 0.4", WON, "rate 0.02, dropout 0.05, wd 0.4"),
            *(f"rate 0.01, dropout 0.05, wd {decay}" for decay in (0.1, 0.2, 0.8)),
            *("rate 0.01, dropout 0.0", "rate 0.01, dropout 0.0, wd 0.4", "rate 0.005, dropout 0.0, wd 0.4", ALONE),
            *("rate 0.005, dropout 0.0, wd 0.8", "rate 0.01, dropout 0.0, wd 1.6", "rate 0.005, dropout 0.0, wd 1.6"),
        ],
    ),
    "As much text for each weight as wt103.json has: one change more": Table(
        MANY,
        [
            *("rate 0.01, dropout 0.1, cosine to 0", "rate 0.01, dropout 0.1, wd 0.4, cosine to 0"),
            *(f"{WON}, {change}" for change in ("cosine to 0", "rows balanced", "documents shuffled")),
            *(f"{WON}, embedding rate 2", f"{ALONE}, embedding rate 2"),
            CAUTIOUS,
            *(f"{WON}, warmup {share}" for share in (0, 0.1)),
            *(f"{WON}, {change}" for change in ("beta2 0.99", "clip 0.5", "clip 0", "attention dropout 0.1")),
            *(f"{WON}, {change}" for change in ("1-d rate 0.3", "1-d rate 3", "1-d wd 1")),
        ],
    ),
    "As much text for each weight as wt103.json has: all together, then each taken out": Table(
        MANY,
        [
            ", ".join((WON, *EXTRA)),
            *(", ".join((WON, *(other for other in EXTRA if other != out))) for out in EXTRA),
            *(", ".join((CAUTIOUS, *extra)) for extra in (EXTRA, EXTRA[1:])),
            *(f"{CARRIED}, cosine to 0", f"{CARRIED}, cosine to 0, embedding rate 2", f"{SHIPPED}, cosine to 0"),
        ],
    ),
    "As much text for each weight as wt103.json has: epochs": Table(
        MANY,
        [
            *(f"rate 0.005, epochs {epochs}" for epochs in (12, 50)),
            *(f"{WON}, epochs {epochs}" for epochs in (12, 50)),
        ],
    ),
    f"{MEMORY}another batch or rate": Table(
        ("ample",),
        [
            *(f"{ROW}, wd {decay}, batch 8" for decay in (0.1, 0.2, 0.4, 0.8)),
            *(f"{ROW}, wd {decay}, batch 32" for decay in (0.2, 0.4, 0.8, 1.6)),
            *("rate 0.005, dropout 0.05, wd 0.8", "rate 0.02, dropout 0.05, wd 0.2"),
        ],
    ),
    f"{MEMORY}a deeper and a narrower model": Table(
        ("half", "deep"), [f"{ROW}, wd {decay}" for decay in (0.1, 0.2, 0.4, 0.8, 1.6)]
    ),
    f"{MEMORY}less text, and a wider model": Table(
        ("scant", "larger"),
        [
            "rate 0.005",
            *(f"rate 0.005, cosine to 0, wd {decay}" for decay in (0.2, 0.4, 0.8, 1.6, 3.2, 6.4)),
        ],
    ),
    f"{MEMORY}`weight_decay_epochs` 4": Table(
        (*FEW, "scant", "larger", *MANY),
        [f"rate {rate}, cosine to 0, remembers 4" for rate in (0.005, 0.01)] + [f"{ROW}, remembers 4"],
    ),
    f"{MEMORY}10 epochs": Table(
        ("scant", "large"),
        [
            *(f"rate 0.005, cosine to 0, wd {decay}, epochs 10" for decay in (0.4, 0.8, 1.6, 3.2)),
            *(f"rate 0.005, cosine to 0, wd {decay}, epochs 10, batch 64" for decay in (0.8, 3.2, 6.4, 12.8)),
        ],
    ),
    f"{MEMORY}AdamW": Table(
        ("ample",),
        [
            f"rate {rate}, dropout 0.05, wd {decay}, adamw"
            for rate in (0.003, 0.006, 0.012)
            for decay in (0.1, 0.4, 0.8, 1.6, 3.2)
        ],
    ),
    "wt103.json's settings, by their rate": Table(
        FEW, [f"rate {rate}" for rate in (0.00125, 0.0025, 0.005, 0.01, 0.02, 0.04)]
    ),
    "Weight decay": Table(
        FEW,
        [
            *("rate 0.005, cosine to 0, wd 0.4", LARGE, "rate 0.005, cosine to 0, wd 1.6"),
            *("rate 0.005, cosine to 0, wd 3.2", "rate 0.01, wd 0.8", "rate 0.01, cosine to 0, wd 0.8"),
            *("rate 0.01, wd 1.14", "rate 0.01, wd 1.6", SMALL, "rate 0.01, linear to 0, wd 1.6"),
            *("rate 0.01, linear to 0, wd 3.2", "rate 0.02, wd 0.8", "rate 0.02, cosine to 0, wd 1.6"),
            *(OLD, "rate 0.02, wd 3.2", "rate 0.04, linear to 0, wd 1.6"),
        ],
    ),
    "Dropout": Table(
        FEW,
        [
            *("rate 0.01, dropout 0.1", "rate 0.01, wd 0.4, dropout 0.1", "rate 0.02, dropout 0.1"),
            *("rate 0.02, wd 0.8, dropout 0.1", f"{OLD}, dropout 0.3", f"{OLD}, attention dropout 0.2"),
        ],
    ),
    "One change to much decay": Table(
        FEW,
        [
            *(f"{OLD}, {change}" for change in ("decay cautious", "embedding wd 0", "embedding rate 0.3")),
            *(f"{OLD}, {change}" for change in ("embedding rate 2", "documents shuffled", "batch 4", "batch 16")),
            *(f"{OLD}, {change}" for change in ("rows balanced", "normuon", "depth drop 0.1")),
            *(f"{SMALL}, embedding wd 3", f"{SMALL}, embedding wd 3, documents shuffled"),
            *(f"{SMALL}, {change}" for change in ("decay constant", "decay squared", "blocks not shifted")),
            *("rate 0.01, cosine to 0, wd 3.2, decay cautious", "rate 0.01, wsd 0.2, wd 1.6"),
            *("rate 0.01, constant, wd 1.6, mean of last 0.2", "rate 0.01, constant, wd 1.6, ema 0.99"),
            *(f"{SMALL}{FULL}", f"rate 0.005, cosine to 0, wd 1.6{FULL}"),
        ],
    ),
    "Epochs": Table(
        FEW,
        [
            *("rate 0.01, epochs 12", "rate 0.01, epochs 50", f"{SMALL}, epochs 12"),
            *("rate 0.01, cosine to 0, wd 0.8, epochs 50", f"{SMALL}, epochs 50"),
            *(f"{row}, epochs {epochs}" for row in ("rate 0.005", LARGE) for epochs in (12, 50)),
        ],
    ),
}


def cell(runs: list[dict]) -> list[str]:
    """The mean of the last losses and half their range, the mean of each run's lowest loss, and how many runs."""
    if not runs:
        return ["", "", ""]
    ends = [run["end"] for run in runs]
    spread = f" ± {(max(ends) - min(ends)) / 2:.3f}" if len(ends) > 1 else ""
    best = statistics.mean(run["best"] for run in runs)
    return [f"{statistics.mean(ends):.3f}{spread}", f"{best:.3f}", f"{len(runs)}"]


def print_tables(runs: list[dict]) -> None:
    """Each as Markdown, rows without a run left out; runs with AMX (*) or in fp32 (†) have rows of their own."""
    shown = {(size, row) for table in TABLES.values() for size in table.sizes for row in table.rows}
    others = list(dict.fromkeys(run["row"] for run in runs if (run["size"], run["row"]) not in shown))
    for title, table in (TABLES | ({"Others": Table(FEW + MANY, others)} if others else {})).items():
        columns = [f"{size}, {what}" for size in table.sizes for what in ("end", "best", "runs")]
        print(f"\n### {title}\n\n| | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
        for row, kind in ((row, kind) for row in table.rows for kind in MARKS):
            cells = []
            for size in table.sizes:
                cells += cell(
                    [run for run in runs if (run["row"], run["size"], arithmetic_of(run)) == (row, size, kind)]
                )
            if any(cells):
                print(f"| {row}{MARKS[kind]} | {' | '.join(cells)} |")
