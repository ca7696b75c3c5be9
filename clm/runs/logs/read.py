"""A log, in whatever format it is: which one, and into one curve with it."""

import sys
from pathlib import Path

from clm.errors import UserError
from clm.runs.logs import log, tables, tensorboard
from clm.runs.logs.collect import Collector
from clm.runs.logs.log import Known, Log
from clm.runs.logs.nth import Nth
from clm.runs.logs.stream import Stream
from clm.runs.logs.text import TextLog
from clm.training.checkpoint.find import folders_in, step_of

STANDARD_INPUT = "-"
STATE_FILE = "trainer_state.json"


def read_log(path: str, known: Known | None = None) -> Log:
    """Read a log: a file, a folder of TensorBoard's or of the Trainer's, or `-` for standard input.

    Raises:
        UserError: there is none, it can't be read, no losses or steps are in it, or it is several runs side by side.
    """
    known, into = known or Known(), Collector()
    name = "standard input" if path == STANDARD_INPUT else path
    try:
        what, nth = _take(path, name, into, known)
        return log.of(name, what, into, known, nth)
    except UserError as error:
        said = str(error)
        raise UserError(said if said.startswith(name) else f"{name}: {said}") from None


def _take(path: str, name: str, into: Collector, known: Known) -> tuple[str, Nth | None]:
    """Every row of a log into a Collector; the format in words, and the counts of a log without steps."""
    if path == STANDARD_INPUT:
        return _take_stream(Stream(name, sys.stdin.buffer), into, known)
    place = Path(path)
    if place.is_dir():
        return _take_folder(place, into)
    try:
        with place.open("rb") as file:
            head = file.read(64)
            if tensorboard.is_event_file(place, head):
                tensorboard.take([place], into)
                return "a TensorBoard event file", None
            file.seek(0) if file.seekable() else None
            return _take_stream(Stream(name, file), into, known)
    except FileNotFoundError:
        raise UserError(f"{name}: there is no such file or folder") from None
    except OSError as error:
        raise UserError(f"{name}: can't be read ({error.strerror})") from None


def _take_folder(folder: Path, into: Collector) -> tuple[str, None]:
    events = tensorboard.files_in(folder)
    holders = [folder, *sorted(folders_in(folder), key=step_of, reverse=True)]
    state = next((path for place in holders if (path := place / STATE_FILE).is_file()), None)
    if state is not None:
        with state.open("rb") as file:
            tables.take_json(Stream(str(state), file), into)
        return f"the Trainer's {state.relative_to(folder)}", None
    if events:
        tensorboard.take(events, into)
        return f"{len(events)} TensorBoard event file{'s' if len(events) > 1 else ''}", None
    raise UserError(
        f"{folder}: not a run's folder: it has no recipe.json, no trainer_state.json, no checkpoint and no TensorBoard "
        "event files"
    )


def _take_stream(stream: Stream, into: Collector, known: Known) -> tuple[str, Nth | None]:
    if tables.is_json(stream.head):
        tables.take_json(stream, into)
        return "JSON", None
    if (table := tables.delimiter_of(stream.head)) is not None:
        return _with_skipped("a table", tables.take_csv(stream, *table, into)), None
    text = TextLog(into, known.logging_steps)
    for line in stream.lines():
        text.take(line)
    if text.nth.total:
        into.says_total(text.nth.total)
    lines = f"{text.read:,} of {text.lines:,} lines"
    return f"JSON lines, {lines}" if 2 * text.objects > text.read else f"a text log, {lines}", text.nth


def _with_skipped(what: str, skipped: int) -> str:
    return f"{what}, without {skipped:,} line{'s' if skipped > 1 else ''} that are none of it" if skipped else what
