"""Background upload: a thread pushes while the run trains. It never delays the run, and its failures end nothing."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from clm.errors import MachineError, Stopped, UserError
from clm.hub import access
from clm.hub.push import push
from clm.launch import processes, status
from clm.progress import Say
from clm.training.checkpoint.writer import Saved

TRIES = 5  # of a push that somebody waits for
_FIRST_WAIT, _LONGEST_WAIT = 2.0, 300.0  # seconds between two tries, doubled each time


def with_retries(work: Callable[[], str], name: str, tries: int = TRIES) -> str:
    """What `work` returns. It is tried up to `tries` times; each wait is longer, and at least as long as the Hub asks.

    Raises:
        UserError: work's own, which waiting doesn't mend.
        MachineError: all tries failed, or the Hub asks to wait for longer than five minutes.
    """
    for attempt in range(1, tries + 1):
        try:
            return work()
        except UserError:
            raise
        except Exception as error:
            wait = _wait(attempt, error)
            if attempt == tries or wait > _LONGEST_WAIT or access.refused(error):
                raise MachineError(f"pushing to {name} failed: {access.line(error)}") from None
        time.sleep(wait)
    raise AssertionError("no try at all")


def _wait(attempt: int, error: BaseException) -> float:
    return max(access.retry_after(error), min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (attempt - 1)))


class BackgroundUpload:
    """Pushes a run's folder whenever it has a new checkpoint: one push at a time, always of the newest state.

    Args:
        say: prints a line.
    """

    def __init__(self, api: HfApi, run_dir: Path, target: access.Target, say: Say) -> None:
        self._api, self._run_dir, self._target, self._say = api, run_dir, target, say
        self._pending, self._wake, self._over = False, threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="push", daemon=True)
        self._thread.start()

    def saved(self) -> None:
        """There is a new checkpoint."""
        self._pending = self._target.strategy != "end"
        self._wake.set()

    def finish(self, tries: int = TRIES) -> None:
        """Wait for the push under way and push what is left; where that fails, say how to do it later."""
        try:
            self._over.set()
            self._wake.set()
            self._thread.join()
            if self._pending or status.finished_steps(self._run_dir) is not None:
                self._say(f"pushing to {self._target.name}")
                work = partial(push, self._api, self._run_dir, self._target)
                self._say(f"pushed to {with_retries(work, self._target.name, tries)}")
        except (UserError, MachineError, Stopped) as error:
            why = "a signal came first" if isinstance(error, Stopped) else error
            _warn(f"{why}; `python -m clm push {self._run_dir}` finishes the push")

    def _work(self) -> None:
        failures = 0
        while not self._over.is_set():
            self._wake.wait()
            self._wake.clear()
            while self._pending and not self._over.is_set():
                self._pending = False
                try:
                    self._say(f"pushed to {push(self._api, self._run_dir, self._target)}")
                    failures = 0
                except Exception as error:  # whatever it is, training goes on
                    self._pending, failures = True, failures + 1
                    wait = _wait(failures, error)
                    _warn(f"a push failed and is tried again in {wait:,.0f} s: {access.line(error)}")
                    self._over.wait(wait)


@contextmanager
def uploads(run_dir: Path, training: Mapping[str, Any], say: Say) -> Iterator[Saved]:
    """What to call after each save. The context ends when the last push has ended.

    It is None where nothing is pushed, or another process pushes. A push that fails ends no run.
    """
    if not training.get("push_to_hub") or not processes.main_process():
        yield None
        return
    upload = BackgroundUpload(access.client(), run_dir, access.Target.of(training), say)
    try:
        yield upload.saved
    except (Stopped, MachineError) as error:
        processes.say_why(error)  # before the push, which may take minutes
        upload.finish(tries=1)  # once, for the machine may soon be switched off
        raise
    upload.finish()


def check(training: Mapping[str, Any]) -> None:
    """Find out before training whether the repository may be written; a Hub in trouble is only a warning.

    Raises:
        UserError: it may not.
    """
    if not training.get("push_to_hub"):
        return
    target = access.Target.of(training)
    try:
        access.open_repository(access.client(), target)
    except UserError:
        raise
    except Exception as error:
        _warn(f"the Hub can't be asked about {target.name} now; the run pushes when it can: {access.line(error)}")


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)
