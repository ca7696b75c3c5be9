"""The pictures of the README and docs, light and dark, from the figures in benchmarks/results.

`python -m benchmarks.pictures` draws them. With --run RUN_DIR it also takes the quickstart's curve from that run, and a
headless Chromium's pictures of its report.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from clm.explain import explanation, normal, outlook
from clm.explain.setup import of_run
from clm.files import read_json, write_json
from clm.report.report import write_report
from clm.runs.record import read_run
from tests.browser import CHROMIUM, browser
from tests.explain import test_quickstart as quickstart_run

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PICTURES = ROOT / "benchmarks/results", ROOT / "docs/pictures"
CURVE = RESULTS / "quickstart-curve.json"
REPORT_SIZE = (1080, 1330)  # pixels: down to the end of the main chart
SHARES = (0.25, 0.5, 0.75)  # of the steps, at which the end is forecast, where enough is known
THEMES = {
    "light": {"paper": "#ffffff", "ink": "#1d1f23", "soft": "#5c616b", "line": "#dedfdb", "blue": "#1f5fbf",
              "green": "#17733a", "orange": "#c2410c", "card": "#f4f4f1"},
    "dark": {"paper": "#0d1117", "ink": "#e8e8e4", "soft": "#a3a8b0", "line": "#33373d", "blue": "#7fb0ff",
             "green": "#6fd08f", "orange": "#ff9b66", "card": "#1e2125"},
}  # fmt: skip
matplotlib.rcParams |= {"svg.hashsalt": "clm", "svg.fonttype": "none", "font.size": 11,
                        "font.sans-serif": ["Liberation Sans", "Arial", "DejaVu Sans"]}  # fmt: skip


def take_curve(run_dir: Path) -> None:
    """Keep a run's losses, its band, and what would have been forecast of it on the way."""
    run = read_run(run_dir)
    setup, curve = of_run(run), run.curve
    forecasts = []
    for share in SHARES:
        step = round(share * setup.total_steps)
        made = outlook.of_run(setup, curve.until(step))
        forecasts.append({"step": step, "final": [float(each) for each in made.final] if made else None})
    write_json(CURVE, {
        "total_steps": setup.total_steps,
        "training": [list(pair) for pair in zip(curve.train_steps, curve.train_losses, strict=True)],
        "validation": [list(pair) for pair in zip(curve.steps, curve.losses, strict=True)],
        "band": normal.band(setup, setup.total_steps, of_training=False),
        "forecasts": forecasts,
    })  # fmt: skip


def forecast_anew() -> None:
    """Keep what is forecast now, with today's constants, of the quickstart's curve that is kept."""
    kept, setup = read_json(CURVE), quickstart_run.setup()
    made = [outlook.of_run(setup, quickstart_run.curve().until(row["step"])) for row in kept["forecasts"]]
    for row, each in zip(kept["forecasts"], made, strict=True):
        row["final"] = [float(value) for value in each.final] if each else None
    write_json(CURVE, kept | {"band": normal.band(setup, setup.total_steps, of_training=False)})


def take_report(run_dir: Path) -> int:
    """Pictures of the top of a run's report, light and dark, as a headless Chromium shows it; how many were taken."""
    if CHROMIUM is None:
        print("the report's pictures stay as they are: there is no Chromium here")
        return 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:  # Chromium may still be writing its profile
        page = Path(name) / "report.html"
        write_report(run_dir, explanation.made_anew(read_run(run_dir)), page)
        with browser(Path(name) / "profile") as tab:
            for theme in THEMES:
                tab.open(page, *REPORT_SIZE, dark=theme == "dark")
                tab.picture(PICTURES / f"report-{theme}.png", REPORT_SIZE[1])
    return len(THEMES)


def quickstart(axes: Axes, theme: dict[str, str]) -> None:
    """The quickstart's losses in the band to expect, and where it was forecast to end."""
    curve = json.loads(CURVE.read_text("utf-8"))
    steps, low, high = np.array(curve["band"]).T
    axes.fill_between(steps, low, high, color=theme["green"], alpha=0.16, lw=0, label="to be expected (80 %)")
    axes.plot(*np.array(curve["training"]).T, color=theme["soft"], lw=1.2, label="training")
    axes.plot(*np.array(curve["validation"]).T, color=theme["blue"], lw=2.4, marker="o", ms=5, label="validation")
    made = [forecast for forecast in curve["forecasts"] if forecast["final"]]
    total = curve["total_steps"]
    for place, forecast in enumerate(made):
        final, bottom, top = forecast["final"]
        x = total * (1.03 + 0.05 * place)
        axes.errorbar(x, final, [[final - bottom], [top - final]], color=theme["orange"], fmt="D", ms=5, capsize=4,
                      label="end as forecast, with its 80 % interval" if place == 0 else None)  # fmt: skip
        axes.annotate(f"at {forecast['step'] / total:.0%}", (x, top), (0, 6), textcoords="offset points", rotation=60,
                      color=theme["orange"], fontsize=9.5)  # fmt: skip
    axes.axvline(total, color=theme["line"], lw=1)
    axes.set(ylim=(3.2, 6.6), xlim=(0, total * 1.22), xlabel="optimizer step", ylabel="loss, nats per token",
             xticks=np.linspace(0, total, 5))  # fmt: skip


def time_to_loss(axes: Axes, theme: dict[str, str]) -> None:
    """Seconds of training and the loss they gave: this project's runs beside the stock Trainer's."""
    runs = json.loads((RESULTS / "time_to_loss-before.json").read_text("utf-8"))["runs"]
    names = {"standard": ("stock Trainer, AdamW", "soft", "o"), "ours": ("this project", "blue", "D")}
    for way, (name, color, marker) in names.items():
        points = [(run["seconds"], run["loss"]) for run in runs if run["way"] == way]
        axes.plot(*np.array(points).T, marker, color=theme[color], ms=7, label=name)
    axes.set(xlim=(0, 135), ylim=(5.4, 6.4), xlabel="seconds of training, two CPU cores",
             ylabel="validation loss, nats per token")  # fmt: skip


def killed(axes: Axes, theme: dict[str, str]) -> None:
    """The losses that a run printed which was killed three times, on those of the same run undisturbed."""
    found = json.loads((RESULTS / "killed.json").read_text("utf-8"))
    axes.plot(*np.array(found["undisturbed"]).T, color=theme["blue"], lw=7, alpha=0.35, solid_capstyle="round",
              label="undisturbed")  # fmt: skip
    for place, points in enumerate(found["starts"]):
        steps, losses = np.array(points).T
        axes.plot(steps, losses, color=theme["ink"], lw=1, marker="o", ms=3.2,
                  label="killed, and the same command typed again" if place == 0 else None)  # fmt: skip
    for place, points in enumerate(found["starts"][:-1]):
        step, loss = points[-1]
        resumed = found["starts"][place + 1][0][0] - found["shape"]["logging_steps"]  # it prints the next one first
        axes.plot([step], [loss], "X", color=theme["orange"], ms=10, label="kill -9" if place == 0 else None)
        above = (8, 22 + 22 * (place % 2))  # points: two neighbours would overlap
        axes.annotate(f"killed after {step},\nresumed from {resumed}", (step, loss), above, color=theme["orange"],
                      textcoords="offset points", fontsize=9.5)  # fmt: skip
    if found["equal_weights"]:
        axes.text(0.02, 0.06, "at the end: the same weights, byte for byte", transform=axes.transAxes,
                  color=theme["green"], fontweight="bold")  # fmt: skip
    axes.set(xlabel="optimizer step", ylabel="training loss, nats per token", xlim=(0, found["shape"]["max_steps"]))


def text_to_blocks(axes: Axes, theme: dict[str, str]) -> None:
    """The way of a text to the blocks that a model reads."""
    boxes = [
        ("text", "files, the Hub,\nPython's docs"),
        ("documents", "cut by separator;\n5 % held out by hash"),
        ("token ids", "one streaming pass;\nnothing dropped"),
        ("store", "on disk, read through\na memory map"),
        ("blocks", "inputs and the tokens\nthat follow them"),
        ("order", "computed from seed,\nepoch and place"),
    ]
    for place, (head, words) in enumerate(boxes):
        x, y = place % 3 * 1.25, -(place // 3) * 1.35  # two rows: one would be too small to read on a phone
        box = FancyBboxPatch(
            (x, y), 1, 1, boxstyle="round,pad=0,rounding_size=0.08", fc=theme["card"], ec=theme["line"]
        )
        axes.add_patch(box)
        axes.text(x + 0.5, y + 0.7, head, ha="center", color=theme["ink"], fontweight="bold", fontsize=13)
        axes.text(x + 0.5, y + 0.32, words, ha="center", va="center", color=theme["soft"], fontsize=11)
        arrow = {"arrowstyle": "->", "color": theme["blue"]}
        if place % 3:
            axes.annotate("", (x - 0.02, y + 0.5), (x - 0.23, y + 0.5), arrowprops=arrow)
        elif place:
            axes.plot([3.0, 3.0, 0.5, 0.5], [-0.02, -0.18, -0.18, -0.22], color=theme["blue"], lw=1)
            axes.annotate("", (0.5, y + 1), (0.5, -0.16), arrowprops=arrow)
    axes.set(xlim=(-0.05, 3.55), ylim=(-1.4, 1.05))
    axes.axis("off")


DRAWN: dict[str, tuple[Callable[[Axes, dict[str, str]], None], tuple[float, float]]] = {
    "quickstart": (quickstart, (6.8, 3.9)),
    "killed": (killed, (6.8, 3.7)),
    "time-to-loss": (time_to_loss, (6.8, 3.5)),
    "text-to-blocks": (text_to_blocks, (6.8, 2.9)),
}


def draw(name: str, theme: str) -> None:
    """One picture in one theme, the same bytes every time."""
    paint, size = DRAWN[name]
    colors: dict[str, Any] = THEMES[theme]
    figure = Figure(figsize=size, layout="constrained", facecolor=colors["paper"])
    axes = figure.add_subplot(facecolor=colors["paper"])
    paint(axes, colors)
    axes.tick_params(colors=colors["soft"])
    axes.xaxis.label.set_color(colors["soft"])
    axes.yaxis.label.set_color(colors["soft"])
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(colors["line"])
    axes.grid(axis="y", color=colors["line"], lw=0.7)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, labelcolor=colors["ink"])
    figure.savefig(PICTURES / f"{name}-{theme}.svg", metadata={"Date": None})


def main() -> None:
    """Take the curve, if asked to, and draw everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, metavar="RUN_DIR", help="a finished quickstart's folder")
    args = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    shots = 0
    if args.run:
        take_curve(args.run)
        shots = take_report(args.run)
    else:
        forecast_anew()
        print("the quickstart's losses and the report's pictures stay as they are: they need --run RUN_DIR")
    for name in DRAWN:
        for theme in THEMES:
            draw(name, theme)
    print(f"{len(DRAWN) * len(THEMES) + shots} pictures in {PICTURES.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
