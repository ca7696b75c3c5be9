"""The tables of docs/data-limited.md, by their rows."""

import statistics

SMALL, LARGE = "rate 0.01, cosine to 0, wd 1.6", "rate 0.005, cosine to 0, wd 0.8"  # the best of each size
OLD = "rate 0.02, linear to 0, wd 1.6"
FULL = ", documents shuffled, rows balanced, embedding rate 2"
AMPLE = "As much text for each weight as wt103.json has"
TABLES: dict[str, list[str]] = {
    "wt103.json's settings, by their rate": [f"rate {rate}" for rate in (0.00125, 0.0025, 0.005, 0.01, 0.02, 0.04)],
    "Weight decay": [
        *("rate 0.005, cosine to 0, wd 0.4", LARGE, "rate 0.005, cosine to 0, wd 1.6"),
        *(
            "rate 0.005, cosine to 0, wd 3.2",
            "rate 0.01, wd 0.8",
            "rate 0.01, cosine to 0, wd 0.8",
            "rate 0.01, wd 1.14",
        ),
        *("rate 0.01, wd 1.6", SMALL, "rate 0.01, linear to 0, wd 1.6", "rate 0.01, linear to 0, wd 3.2"),
        *(
            "rate 0.02, wd 0.8",
            "rate 0.02, cosine to 0, wd 1.6",
            OLD,
            "rate 0.02, wd 3.2",
            "rate 0.04, linear to 0, wd 1.6",
        ),
    ],
    AMPLE: [
        *("rate 0.01", "rate 0.01, dropout 0.1", "rate 0.01, dropout 0.0", "rate 0.01, wd 0.4", "rate 0.01, wd 1.6"),
        *("rate 0.01, dropout 0.1, wd 0.4", "rate 0.01, dropout 0.1, cosine to 0"),
    ],
    "Dropout": [
        *("rate 0.01, dropout 0.1", "rate 0.01, wd 0.4, dropout 0.1", "rate 0.02, dropout 0.1"),
        *("rate 0.02, wd 0.8, dropout 0.1", f"{OLD}, dropout 0.3", f"{OLD}, attention dropout 0.2"),
    ],
    "One change to much decay": [
        *(
            f"{OLD}, {change}"
            for change in ("decay cautious", "embedding wd 0", "embedding rate 0.3", "embedding rate 2")
        ),
        *(f"{OLD}, {change}" for change in ("documents shuffled", "batch 4", "batch 16", "rows balanced", "normuon")),
        *(f"{OLD}, depth drop 0.1", f"{SMALL}, embedding wd 3", f"{SMALL}, embedding wd 3, documents shuffled"),
        *(f"{SMALL}, {change}" for change in ("decay constant", "decay squared", "blocks not shifted")),
        *("rate 0.01, cosine to 0, wd 3.2, decay cautious", "rate 0.01, wsd 0.2, wd 1.6"),
        *("rate 0.01, constant, wd 1.6, mean of last 0.2", "rate 0.01, constant, wd 1.6, ema 0.99"),
        *(f"{SMALL}{FULL}", f"rate 0.005, cosine to 0, wd 1.6{FULL}"),
    ],
    "Epochs": [
        *("rate 0.01, epochs 12", "rate 0.01, epochs 50", "rate 0.04, epochs 50", f"{SMALL}, epochs 12"),
        *("rate 0.01, cosine to 0, wd 0.8, epochs 50", f"{SMALL}, epochs 50"),
        *("rate 0.005, epochs 12", f"{LARGE}, epochs 12", f"{LARGE}, epochs 50"),
    ],
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
    """Each as Markdown, rows without a run left out."""
    others = list(dict.fromkeys(run["row"] for run in runs))
    others = [row for row in others if not any(row in rows for rows in TABLES.values())]
    for title, rows in (TABLES | ({"Others": others} if others else {})).items():
        sizes = ["half", "ample"] if title == AMPLE else ["small", "large"]
        columns = [f"{size}, {what}" for size in sizes for what in ("end", "best", "runs")]
        print(f"\n### {title}\n\n| | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
        for row in rows:
            cells = []
            for size in sizes:
                cells += cell([run for run in runs if (run["row"], run["size"]) == (row, size)])
            if any(cells):
                print(f"| {row} | {' | '.join(cells)} |")
