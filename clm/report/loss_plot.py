"""The loss curve as a picture, for the model card."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from clm.numbers import large
from clm.report.charts import loss_chart
from clm.runs.record import RunRecord

_STYLE = {"training": {"color": "#83878f", "linewidth": 1.2}, "validation": {"color": "#1f5fbf", "linewidth": 2.2}}


def draw(run: RunRecord) -> bytes | None:
    """Training and validation loss against tokens (steps where tokens aren't known) as a PNG; None without a curve."""
    # Here, for only a run's end and a report need it, and it takes half a second to load.
    with _without_warnings():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter

    lines = loss_chart([run], [run.name]).lines
    if not lines:
        return None
    by_tokens = all(point[1] is not None for line in lines for point in line.points)
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for line in lines:
        across, values = zip(*((point[1 if by_tokens else 0], point[3]) for point in line.points), strict=True)
        marker = "o" if line.shape == "dots" or len(values) == 1 else None
        axes.plot(across, values, label=line.name, marker=marker, markersize=4, **_STYLE[line.role])
    axes.set_title(run.name, parse_math=False)
    axes.set(xlabel="tokens" if by_tokens else "steps", ylabel="loss, nats per token")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: large(value)))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    picture = BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Where no home can be written, matplotlib makes a folder that it deletes again, and warns of that in two lines."""
    log = logging.getLogger("matplotlib")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
