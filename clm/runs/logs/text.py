"""Logs of lines that people read: nanoGPT's, nanochat's, llm.c's, modded-nanogpt's, litgpt's, the
Trainer's dicts, and JSON lines.

    step 250: train loss 3.9012, val loss 4.0001                            nanoGPT, an evaluation
    iter 100: loss 4.2111, time 130.20ms, mfu 31.02%                        nanoGPT, a step
    step 00250/21400 (1.17%) | loss: 3.901234 | lrm: 1.00 | dt: 310.12ms    nanochat, a step
    Step 00250 | Validation bpb: 1.0123                                     nanochat, an evaluation
    s:250 tel:6.1700                                                        llm.c, an evaluation; trl: a step
    step:125/5100 val_loss:5.9600 train_time:23000ms                        modded-nanogpt
    Epoch 1 | iter 512 step 4 | loss train: 9.812, val: n/a |               litgpt, a step
    iter 512: val loss 9.8001, val time: 1200.00 ms                         litgpt, an evaluation
    {'loss': 3.9, 'grad_norm': 0.4, 'learning_rate': 0.0006, 'epoch': 0.1}  the Trainer; its values may be texts

Every line that isn't JSON is read by the same rule: a step or iteration with its number, and losses with theirs. So
lines of this kind by other programs are read too.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from clm.runs.logs.collect import Collector
from clm.runs.logs.columns import LOSSES, NTH, TRAINING, VALIDATION, classify, is_kind
from clm.runs.logs.nth import Nth
from clm.runs.logs.series import LARGEST_STEP

STEPS = (classify("step").rank, "step")  # what the column of steps is called, for a line names it in passing

DEEPEST = 4  # objects in objects
MOST_FORMS = 2000  # of lines, that are remembered
_NUMBER = r"[-+]?\d[\d,]*\.?\d*(?:[eE][-+]?\d+)?|(?<![A-Za-z])[-+]?(?:[nN]a[nN]|[iI]nf(?:inity)?)\b"
_NUMBERS = re.compile(f"({_NUMBER})")
_WORTH = re.compile(r"loss|bpb|bits|ppl|perplex|\bt[re]l:|\d\s*/\s*\d+ \[", re.I)  # a line without it says nothing
_STEP = re.compile(
    r"(?<![\w./-])(global[_ ]step|step|iteration|iter|s(?=:))\s*[:=#]?\s*(\d[\d,]*)(?:\s*/\s*(\d[\d,]*))?", re.I
)
_LOSS = re.compile(
    r"(?<![\w./])((?:[a-z]+[ _/.-]){0,2}(?:loss|bpb|bits[ _]per[ _]byte|ppl|perplexity|tel|trl)"
    rf"(?:[ _/.-](?:train\w*|val\w*|eval\w*))?)\s*[:=]?\s*({_NUMBER})",
    re.I,
)
_DICT = re.compile(r"\{[^{}]*loss['\"]?\s*:[^{}]*\}", re.I)
_PAIR = re.compile(rf"['\"]([^'\"]+)['\"]\s*:\s*['\"]?({_NUMBER})['\"]?\s*(?=[,}}])")
_BAR = re.compile(r"\|\s*(\d+)/(\d+) \[")


@dataclass(frozen=True)
class Form:
    """Where a line of a form has its numbers, by their place among them: step, iteration, all steps, and losses."""

    step: int | None
    iteration: int | None
    total: int | None
    losses: tuple[tuple[str, str, int], ...]  # name, kind, place


class TextLog:
    """Lines into a Collector. What a line's words mean is worked out once: the next one differs by its numbers."""

    def __init__(self, into: Collector, logging_steps: int | None = None) -> None:
        self.into, self.nth = into, Nth(logging_steps)
        self.read = self.objects = self.lines = 0
        self._step: float | None = None
        self._per_step = 1.0  # litgpt's iterations a step, by the last line that has both
        self._forms: dict[tuple[str, ...], Form | None] = {}

    def take(self, line: str) -> None:
        """A line, whatever is on it."""
        self.lines += 1
        if line.startswith("{") and (row := _json(line)) is not None:
            self.objects += 1
            self._dict(row)
            return
        pieces = _NUMBERS.split(line)
        words = tuple(pieces[::2])
        form = self._forms.get(words, self)
        if form is self:
            if not _WORTH.search(line) or self._special(line):
                return
            form = form_of(line)
            if len(self._forms) < MOST_FORMS:
                self._forms[words] = form
        if form is not None:
            self._line(form, pieces[1::2])

    def _special(self, line: str) -> bool:
        """Progress bars and dicts; whether the line was one with losses."""
        for count, total in _BAR.findall(line):
            self.nth.bar(int(count), int(total))
        if "{" not in line:
            return bool(_BAR.search(line))
        rows = [dict(_PAIR.findall(found)) for found in _DICT.findall(line)]
        for row in rows:
            self._dict(row)
        return bool(rows)

    def _dict(self, row: dict[str, Any]) -> None:
        kinds = _kinds(tuple(row))
        if "train_runtime" in row or not kinds & {TRAINING, VALIDATION}:
            return
        if "steps" not in kinds and "epoch" in row:
            row[NTH] = self.nth.of(TRAINING in kinds, row["epoch"])
        self.read += 1
        self.into.take(row)

    def _line(self, form: Form, numbers: list[str]) -> None:
        step = self._at(form, numbers)
        if step is None or not self.into.by(*STEPS):
            return
        self.read += 1
        if form.total is not None:
            self.into.says_total(_value(numbers[form.total]))
        for name, kind, place in form.losses:
            self.into.add(name, kind, step, _value(numbers[place]))

    def _at(self, form: Form, numbers: list[str]) -> float | None:
        if form.step is not None:
            self._step = _value(numbers[form.step])
            if form.iteration is not None and 0 < self._step <= LARGEST_STEP:
                self._per_step = max(1.0, _value(numbers[form.iteration]) / self._step)
        elif form.iteration is not None:
            iteration = _value(numbers[form.iteration]) / self._per_step
            self._step = float(round(iteration)) if iteration <= LARGEST_STEP else None
        return self._step


def form_of(line: str) -> Form | None:
    """What the numbers of a line are; None where no loss or no step is among them."""
    places = {found.start(): place for place, found in enumerate(_NUMBERS.finditer(line))}
    losses = []
    for found in _LOSS.finditer(line):
        name = _name(found[1])
        column, place = classify(name), places.get(found.start(2))
        if column is not None and column.kind in LOSSES and place is not None:
            losses.append((name, column.kind, place))
    steps: dict[bool, int] = {}
    total = None
    for found in _STEP.finditer(line):
        steps.setdefault(found[1].lower().startswith("it"), places.get(found.start(2)))
        total = places.get(found.start(3)) if found[3] and total is None else total
    alone = not steps and line.lstrip()[:3].lower() == "val"  # llm.c's validation loss: of the last step
    if not losses or not (steps or alone):
        return None
    return Form(steps.get(False), steps.get(True), total, tuple(losses))


def _value(number: str) -> float:
    return float(number.replace(",", "")) if "," in number else float(number)


@lru_cache(maxsize=MOST_FORMS)
def _kinds(names: tuple[str, ...]) -> set[str]:
    return {column.kind for name in names if (column := classify(name))}


def _json(line: str) -> dict[str, Any] | None:
    """The row of a line that is one JSON object; objects in it as `a/b`."""
    try:
        return flat(json.loads(line))
    except (ValueError, RecursionError):
        return None


def flat(value: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """One level of names, `a/b` for an object's b in the object a."""
    row: dict[str, Any] = {}
    for name, each in value.items():
        if isinstance(each, dict) and depth < DEEPEST:
            row |= flat(each, f"{prefix}{name}/", depth + 1)
        else:
            row[prefix + name] = each
    return row


def _name(name: str) -> str:
    """Of "Validation bpb" and the like, without words that only stand in front."""
    words = name.split()
    while len(words) > 1 and not is_kind(words[0]) and classify(" ".join(words[1:])) == classify(name):
        words = words[1:]
    return " ".join(words)
