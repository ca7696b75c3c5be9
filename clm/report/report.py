"""Run folders to one page that needs nothing else: report.html for a run, a comparison for several.

What comes from a run's folder is escaped, by the template or in the charts' JSON; the page's policy lets nothing run
but its own script, and nothing load.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clm.errors import UserError
from clm.explain.explanation import Explanation
from clm.files import write_bytes
from clm.numbers import fixed, percent, shown, whole
from clm.report import comparison, rows
from clm.report.charts import Chart, loss_chart, panels
from clm.report.loss_plot import draw
from clm.runs.record import RunRecord, read_run

PAGE = Path(__file__).parent / "page"
_SHOWN_OTHERWISE = {"normal": "verdict", "advice": "advice", "findings": "findings"}  # section -> part of explanation
REPORT_FILE, PLOT_FILE, COMPARISON_FILE = "report.html", "loss_curve.png", "comparison.html"


def write_report(folder: Path, explanation: Explanation | None = None, output: Path | None = None) -> list[Path]:
    """Write a run's report.html and, if it has a curve, loss_curve.png into its folder; the files written.

    Args:
        explanation: as in the run's explanation.json; any part of it may be missing or None.
        output: another file for the page, and then there is no picture.

    Raises:
        UserError: the folder isn't a run's, or the page can't be written.
    """
    run = read_run(folder)
    files = {output or folder / REPORT_FILE: page_bytes(run_page(run, explanation))}
    if output is None and (plot := draw(run)):
        files[folder / PLOT_FILE] = plot
    return _write(files)


def write_log_report(run: RunRecord, explanation: Explanation, output: Path) -> list[Path]:
    """Write the page of a run of which only a log is there; the files written. UserError as from write_report."""
    return _write({output: page_bytes(run_page(run, explanation, only_log=True))})


def write_comparison(folders: Sequence[Path], output: Path) -> list[Path]:
    """Write the page of several runs; the files written. UserError as from write_report."""
    return _write({output: page_bytes(comparison_page([read_run(folder) for folder in folders]))})


def page_bytes(page: str) -> bytes:
    """A page as it is written."""
    return page.encode("utf-8", "replace")  # half a surrogate pair, which JSON can hold and UTF-8 can't


def _write(files: dict[Path, bytes]) -> list[Path]:
    for path, content in files.items():
        if path.is_dir():
            raise UserError(f"--output {path}: is a folder; name a file")
        try:
            write_bytes(path, content)
        except (PermissionError, NotADirectoryError, FileNotFoundError) as error:
            raise UserError(f"{path}: can't be written ({error.strerror}); name another file by --output") from None
    return list(files)


def run_page(run: RunRecord, explanation: Explanation | None = None, only_log: bool = False) -> str:
    """The page of one run; of one of which `only_log` is there, without its machine and its command."""
    explanation = explanation or {}
    recipe = {key: shown(value) for key, value in run.recipe.items()}
    return render(
        "run.html",
        [loss_chart([run], [run.name], explanation), *panels([run], [run.name])],
        title=f"{run.name}: training report",
        kind="single",
        run=run,
        lead=rows.lead(run),
        state=rows.state(run),
        explanation=explanation,
        sections=_sections(explanation),
        verdict=explanation.get("verdict"),
        forecast=explanation.get("forecast"),
        history=rows.history(explanation),
        figures=rows.figures(run),
        published=rows.published_rows(run),
        charts_note=_charts_note(run),
        measures=rows.measures(run),
        samples=rows.samples(run),
        text=rows.text(run),
        recipe=list(recipe.items()),
        main_keys=[(key, recipe[key]) for key in rows.MAIN_KEYS if run.recipe.get(key) is not None],
        machine=[] if only_log else rows.machine_rows(run) + rows.cost(run),
        command="" if only_log else rows.command(run),
    )


def comparison_page(runs: Sequence[RunRecord]) -> str:
    """The page of several runs."""
    names = comparison.names(runs)
    return render(
        "comparison.html",
        [loss_chart(runs, names), *panels(runs, names)],
        title=f"{len(runs)} training runs compared",
        kind="several",
        names=names,
        results=comparison.results(runs),
        warnings=comparison.warnings(runs),
        differences=comparison.differences(runs),
    )


def _sections(explanation: Explanation) -> list[dict[str, Any]]:
    """The sections of an explanation without those that the page shows as something else than lines."""
    told = {key for key, part in _SHOWN_OTHERWISE.items() if explanation.get(part)}
    return [section for section in explanation.get("sections") or [] if section.get("key") not in told]


def _charts_note(run: RunRecord) -> str:
    points = sum("loss" in entry for entry in run.log)
    if points == 0:
        return "Can't say how this run goes: no training loss was logged yet."
    if points == 1:
        return "Can't say how this run goes: its curve has one point."
    return ""


def render(template: str, charts: Sequence[Chart], **values: Any) -> str:
    """A page of its own: the template with its values, and the charts."""
    css = (PAGE / "report.css").read_text("utf-8")
    script = "".join((PAGE / name).read_text("utf-8") for name in ("charts.js", "report.js"))
    policy = (
        f"default-src 'none'; img-src data:; script-src '{_digest(script)}'; style-src '{_digest(css)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    drawn = _rounded([asdict(chart) for chart in charts if chart.lines])
    data = json.dumps(drawn, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    from jinja2 import ChainableUndefined, Environment, FileSystemLoader  # not for an explanation without a page

    pages = Environment(
        loader=FileSystemLoader(PAGE),
        autoescape=True,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {"count": whole, "fixed": fixed, "percent": percent}
    return pages.get_template(template).render(css=css, script=script, policy=policy, charts=data, **values)


def _rounded(value: Any) -> Any:
    """Six digits of every fraction: more than a chart can show, in a third of the space."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list) else value


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
