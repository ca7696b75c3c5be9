"""`python -m clm sweep`: run a sweep's trials until its budget is spent, and say what they found."""

from collections.abc import Callable
from pathlib import Path

from clm.data.prepare import open_text, prepare
from clm.data.sources.holdout import Side
from clm.errors import MachineError, UserError
from clm.launch.writable import check_writable
from clm.numbers import brief
from clm.progress import Say
from clm.rollback import Rollback
from clm.sweep import page, pruning, results, trial
from clm.sweep.definition import Sweep
from clm.sweep.findings import Findings, find
from clm.sweep.space import SEED_SPLITS
from clm.sweep.study import Outcome, Study, Taken, best_of
from clm.training.checkpoint.folders import folders_in, step_of


def run(sweep: Sweep, say: Say) -> Findings:
    """Run it, or resume it. Other processes may run the same sweep at the same time.

    Raises:
        UserError: the input is at fault.
        MachineError: no trial came to its end.
        Stopped: by a signal. The same command resumes the trial under way.
    """
    recipe = sweep.recipe({})
    check_writable("output_dir", sweep.output_dir)
    check_writable("cache_dir", Path(recipe.data.cache_dir))
    with Rollback() as rollback:  # once, for all trials
        text = open_text(recipe.data, recipe.training["seed"])
        if "seed" in sweep.vary and isinstance(text.validation, Side):
            raise UserError(f"{sweep.path}: {SEED_SPLITS}")
        prepare(recipe.data, text, False, say, rollback)
        study = Study(sweep)
    while taken := study.take():
        say(f"trial {taken.number}: {_described(taken)} …")
        outcome = _outcome(sweep, study, taken)
        study.finish(taken, outcome)
        say(_ended(taken, outcome))
        if best := best_of(study.trials):
            say(f"best trial so far: {best.number}, loss {best.value:.4f}")
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


def _ended(taken: Taken, outcome: Outcome) -> str:
    if outcome.reason:
        return f"trial {taken.number}: {outcome.kind}: {outcome.reason}"
    return f"trial {taken.number}: {outcome.kind}, loss {outcome.loss:.4f}"


def _outcome(sweep: Sweep, study: Study, taken: Taken) -> Outcome:
    """Run a trial. One whose values don't go together has failed."""
    own = {"output_dir": str(sweep.output_dir / f"trial-{taken.number}")}
    if taken.repeat:  # the same model at the start, another order of the text
        own["data_seed"] = sweep.recipe({}).training["seed"] + taken.repeat
    try:
        recipe = sweep.recipe(taken.values, **own)
    except UserError as error:
        return Outcome("failed", reason=str(error))
    return trial.run(recipe, _hopeless(sweep, study, taken))


def _hopeless(sweep: Sweep, study: Study, taken: Taken) -> Callable[[Path], bool]:
    """A question for `trial.run`: does the run's newest forecast say that it won't win? Asked once a checkpoint."""
    seen: set[int] = set()

    def ask(folder: Path) -> bool:
        newest = max(map(step_of, folders_in(folder)), default=0)
        if not sweep.prune or taken.repeat or newest in seen:
            return False
        seen.add(newest)
        best, rows = best_of(study.trials), pruning.forecasts(folder)
        return bool(best and rows) and rows[-1][0] == newest and pruning.hopeless(rows[-1], best.value)

    return ask
