"""`python -m clm sweep`: run a sweep's trials until its budget is spent, and say what they found."""

from collections.abc import Callable
from pathlib import Path

from clm.data.prepare import open_text, prepare
from clm.errors import MachineError, UserError
from clm.launch.writable import check_writable
from clm.numbers import brief
from clm.progress import Say
from clm.rollback import Made
from clm.sweep import page, pruning, results, trial
from clm.sweep.definition import Sweep
from clm.sweep.findings import Findings, find
from clm.sweep.study import Outcome, Study, Taken, best_of
from clm.training.checkpoint.find import folders_in, step_of


def run(sweep: Sweep, say: Say) -> Findings:
    """Run it, or go on with it; other processes may do the same at the same time.

    Raises:
        UserError: the input is at fault.
        MachineError: no trial came to its end.
        Stopped: by a signal; the same command takes the trial under way up again.
    """
    recipe = sweep.recipe({})
    check_writable("output_dir", sweep.output_dir)
    check_writable("cache_dir", Path(recipe.data.cache_dir))
    with Made() as made:  # once, for all trials
        prepare(recipe.data, open_text(recipe.data, recipe.training["seed"]), False, say, made)
        study = Study(sweep)
    while taken := study.take():
        say(f"trial {taken.number}: {_described(taken)} …")
        outcome = _outcome(sweep, study, taken)
        study.finish(taken, outcome)
        best = best_of(study.trials)
        loss = "" if outcome.loss is None else f", loss {outcome.loss:.4f}"
        reason = f": {outcome.reason}" if outcome.reason else ""
        say(f"trial {taken.number}: {outcome.kind}{loss}{reason}" + (f"; best {best.value:.4f}" if best else ""))
        if found := find(sweep, study.trials):
            results.write_data(sweep, found)
            page.write(sweep, found)
    found = find(sweep, study.trials)
    if found is None:
        raise MachineError(f"{sweep.output_dir}: no trial has come to its end; its trial-*.log say why")
    say(f"\n{results.table(sweep, found)}\n")
    for name in (results.PAGE_FILE, results.BEST_FILE, results.DATA_FILE):
        say(str(sweep.output_dir / name))
    return found


def _described(taken: Taken) -> str:
    values = ", ".join(f"{key} {brief(value)}" for key, value in taken.values.items())
    return f"{values}, repeat {taken.repeat}" if taken.repeat else values


def _outcome(sweep: Sweep, study: Study, taken: Taken) -> Outcome:
    """Run a trial; one whose values don't go together has failed."""
    own = {"output_dir": str(sweep.output_dir / f"trial-{taken.number}")}
    if taken.repeat:  # the same model at the start, another order of the text
        own["data_seed"] = sweep.recipe({}).training["seed"] + taken.repeat
    try:
        recipe = sweep.recipe(taken.values, **own)
    except UserError as error:
        return Outcome("failed", reason=str(error))
    return trial.run(recipe, _hopeless(sweep, study, taken))


def _hopeless(sweep: Sweep, study: Study, taken: Taken) -> Callable[[Path], bool]:
    """Whether a run's newest forecast says that it won't win; asked once for each of its checkpoints."""
    seen: set[int] = set()

    def ask(folder: Path) -> bool:
        newest = max(map(step_of, folders_in(folder)), default=0)
        if not sweep.prune or taken.repeat or newest in seen:
            return False
        seen.add(newest)
        best, rows = best_of(study.trials), pruning.forecasts(folder)
        return bool(best and rows) and rows[-1][0] == newest and pruning.hopeless(rows[-1], best.value)

    return ask
