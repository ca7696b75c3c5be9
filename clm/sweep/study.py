"""The search itself: Optuna's study in SQLite, which many processes share and which outlives all of them."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from clm.config.keys import OPTIONS
from clm.config.values import show
from clm.errors import UserError
from clm.sweep.definition import Sweep
from clm.sweep.space import combinations

STUDY_FILE = "study.db"
_HEADER = b"SQLite format 3\0"
# How a trial ended -> what Optuna's sampler makes of it: it learns from a diverged one that its values are bad, and
# from a failed one nothing.
STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "diverged": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: "complete", "pruned", "diverged" or "failed", and why.

    `forecasts` are rows of (step, low, middle, high): what its final loss was expected to be by its evaluations.
    """

    kind: str
    loss: float | None = None
    reason: str = ""
    tokens: int = 0
    seconds: float = 0.0
    forecasts: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Taken:
    """A trial that this process is to run. `repeat`: 0 in the search, else 1 for the first repeat of the best one."""

    id: int
    number: int
    values: dict[str, Any]
    repeat: int
    lock: FileLock


class Study:
    """A sweep's trials.

    A process locks the trial that it runs, and the kernel releases the lock when the process ends. So a trial that is
    under way but not locked is to be resumed.
    """

    def __init__(self, sweep: Sweep) -> None:
        """Open the sweep's study, or make it.

        Raises:
            UserError: it is of another search, or no study.
        """
        self._sweep, self._locks = sweep, sweep.output_dir / "locks"
        every = combinations(sweep.vary)
        self._all = every if len(every) <= (sweep.trials or 0) else []
        self._locks.mkdir(parents=True, exist_ok=True)
        self._turn = FileLock(self._locks / "study.lock")
        path = sweep.output_dir / STUDY_FILE
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with self._turn:
            fault = f"{path}: not a study of this version of Optuna: delete it, or set another output_dir"
            if path.exists() and path.read_bytes()[:16] not in (b"", _HEADER):
                raise UserError(fault)
            try:
                storage = RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})
                self.optuna = optuna.create_study(storage=storage, study_name="sweep", load_if_exists=True)
            except RuntimeError:  # it was written by another one
                raise UserError(fault) from None
            self._storage = self.optuna._storage
            self._check_search()

    def _check_search(self) -> None:
        ours, known = json.loads(json.dumps(self._sweep.described())), self.optuna.user_attrs.get("search")
        if known is None:
            self.optuna.set_user_attr("search", ours)
            return
        # A key that an earlier version didn't know had the value there that is its default now.
        defaults = {key: value for options in OPTIONS for key, value in asdict(options()).items()}
        known = known | {"recipe": defaults | known["recipe"]}
        if known != ours:
            raise UserError(
                f"{self._sweep.output_dir / STUDY_FILE}: made with another search: {_difference(ours, known)}: set "
                f"another output_dir in {self._sweep.path}, or delete that folder"
            )

    @property
    def trials(self) -> list[FrozenTrial]:
        """All that have values, oldest first."""
        found = self.optuna.get_trials(deepcopy=False)
        return [trial for trial in found if trial.params.keys() == self._sweep.vary.keys()]

    def take(self) -> Taken | None:
        """The next trial to run: one that a dead process left, a new one, or a repeat of the best; None at the end."""
        with self._turn:
            under_way = [trial for trial in self.trials if trial.state == TrialState.RUNNING]
            for trial in under_way:
                if taken := self._lock(trial._trial_id):
                    return taken
            searched = [trial for trial in self.trials if not repeat_of(trial)]
            if not self._spent(searched):
                self._prepare_search(searched)
            elif under_way or not self._prepare_repeat():  # in another process: the last one to end does the repeats
                return None
            return self._lock(self.optuna.ask(self._sweep.vary)._trial_id)

    def finish(self, taken: Taken, outcome: Outcome) -> None:
        """Write down how a trial ended, and let go of it."""
        for step, _, middle, _ in outcome.forecasts:
            self._storage.set_trial_intermediate_value(taken.id, int(step), middle)
        for key, value in vars(outcome).items():
            self._storage.set_trial_user_attr(taken.id, key, value)
        state = STATES[outcome.kind]
        self._storage.set_trial_state_values(taken.id, state, [outcome.loss] if state == TrialState.COMPLETE else None)
        taken.lock.release()

    def _spent(self, searched: list[FrozenTrial]) -> bool:
        minutes = sum(trial.user_attrs.get("seconds", 0.0) for trial in searched) / 60
        enough = self._sweep.trials is not None and len(searched) >= self._sweep.trials
        return enough or (self._sweep.minutes is not None and minutes >= self._sweep.minutes)

    def _prepare_search(self, searched: list[FrozenTrial]) -> None:
        """Let the next trial be the base recipe's own values, or what the sampler suggests.

        Where the trials are enough for all values that there are, each is tried before any is tried again.

        Each trial has a sampler of its own, so a suggestion depends on the trials so far and on nothing else. A search
        that was killed is resumed as if it had not been.
        """
        number, tried = len(searched), [trial.params for trial in searched]
        if number == 0 and (own := self._sweep.start()) is not None:
            self.optuna.enqueue_trial(own, skip_if_exists=True)
        elif new := [values for values in self._all if values not in tried]:
            self.optuna.enqueue_trial(new[0], skip_if_exists=True)
        self.optuna.sampler = optuna.samplers.TPESampler(
            n_startup_trials=min(10, 2 + 2 * len(self._sweep.vary)), seed=self._sweep.seed * 100_003 + number
        )

    def _prepare_repeat(self) -> bool:
        """Let the next trial be a repeat of the best; False where there are enough."""
        best = best_of(self.trials)
        repeats = [repeat_of(trial) for trial in self.trials if best and trial.user_attrs.get("of") == best.number]
        if best is None or len(repeats) >= self._sweep.repeats:
            return False
        attributes = {"repeat": len(repeats) + 1, "of": best.number}
        self.optuna.enqueue_trial(best.params, attributes, skip_if_exists=False)
        return True

    def _lock(self, trial_id: int) -> Taken | None:
        """The trial, locked by this process; None if another process has it or has just finished it."""
        trial = self._storage.get_trial(trial_id)
        lock = FileLock(self._locks / f"{trial.number}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        if self._storage.get_trial(trial_id).state != TrialState.RUNNING:
            lock.release()
            return None
        return Taken(trial_id, trial.number, trial.params, repeat_of(trial), lock)


def repeat_of(trial: FrozenTrial) -> int:
    """Which repeat of the best trial it is, from 1; 0 in the search."""
    return trial.user_attrs.get("repeat", 0)


def best_of(trials: list[FrozenTrial]) -> FrozenTrial | None:
    """The trial of the search with the lowest loss."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and not repeat_of(trial)]
    return min(complete, key=lambda trial: trial.value, default=None)


def _difference(ours: Any, known: Any, name: str = "") -> str:
    """The first thing in which two descriptions differ, in words."""
    if isinstance(ours, dict) and isinstance(known, dict):
        key = next(key for key in [*known, *ours] if ours.get(key) != known.get(key))
        return _difference(ours.get(key), known.get(key), f"{name} {key}".strip())
    return f"{name} was {show(known)} and is {show(ours)}"
