"""sweep.html: a sweep as one page that needs nothing else, in the style of a run's report."""

from pathlib import Path

from clm.errors import UserError
from clm.files import write_bytes
from clm.numbers import brief
from clm.report.charts import validation_chart
from clm.report.report import page_bytes, render
from clm.runs.record import read_run
from clm.sweep import results
from clm.sweep.definition import Sweep
from clm.sweep.findings import Findings
from clm.sweep.scatter import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, scatters
from clm.sweep.study import repeat_of

CURVES = 8  # of the best trials: as many as the page has colours


def write(sweep: Sweep, found: Findings) -> Path:
    """Write the page into the sweep's folder."""
    path = sweep.output_dir / results.PAGE_FILE
    write_bytes(path, page_bytes(page(sweep, found)))
    return path


def page(sweep: Sweep, found: Findings) -> str:
    """The page."""
    ended = [trial for trial in found.trials if found.above(trial) is not None and not repeat_of(trial)]
    shown = sorted(ended, key=found.above)[:CURVES]
    runs, names = [], []
    for trial in shown:
        try:
            runs.append(read_run(sweep.output_dir / f"trial-{trial.number}"))
        except UserError:  # its folder is gone; its figures are in the study
            continue
        names.append(f"{trial.number}: {', '.join(brief(value) for value in trial.params.values())}")
    command = f"accelerate launch run_clm.py --config {sweep.output_dir / results.BEST_FILE}"
    bad = [trial for trial in found.trials if trial.user_attrs.get("reason")]
    return render(
        "sweep.html",
        [validation_chart(runs, names)],
        title=f"{sweep.path.stem}: sweep",
        kind="several",
        made_by="python -m clm sweep",
        name=sweep.path.stem,
        lead=_lead(sweep, found),
        best=[(flat.key, brief(flat.best), f"as good: {flat}") for flat in found.flat],
        loss=found.best.value,
        tolerance=found.tolerance,
        sure=found.sure,
        scatters=scatters(found),
        frame={
            "width": WIDTH,
            "height": HEIGHT,
            "left": LEFT,
            "right": WIDTH - RIGHT,
            "top": TOP,
            "bottom": HEIGHT - BOTTOM,
        },
        importances=[(key, f"{share:.0%}", 100 * share) for key, share in found.importances.items()],
        heads=results.heads(sweep),
        rows=results.rows(found),
        replay=results.replay_lines(found),
        reasons=[(f"trial {trial.number}", trial.user_attrs["kind"], trial.user_attrs["reason"]) for trial in bad],
        note=f"The {len(runs)} best trials, by number and values." if len(ended) > len(runs) else "",
        command=command,
    )


def _lead(sweep: Sweep, found: Findings) -> str:
    searched = [trial for trial in found.trials if not repeat_of(trial)]
    keys, trials = ", ".join(sweep.vary), "trial" if len(searched) == 1 else "trials"
    return (
        f"{len(searched)} {trials} of {sweep.tokens:,} tokens each, over {keys}, from {sweep.base.path}; "
        "compared by the exact loss on the validation text."
    )
