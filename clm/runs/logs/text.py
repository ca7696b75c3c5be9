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
from collections.abc import Iterable, Mapping
from typing import Any

from clm.runs.logs.collect import Collector
from clm.runs.logs.columns import NTH, TRAINING, VALIDATION, classify, is_time
from clm.runs.logs.nth import Nth

DEEPEST = 4  # objects in objects
_NUMBER = r"[-+]?(?:\d[\d,]*\.?\d*(?:e[-+]?\d+)?|\.\d+|nan\b|inf(?:inity)?\b)"
_WORTH = re.compile(r"loss|bpb|bits|ppl|perplex|\bt[re]l:|\d\s*/\s*\d+ \[", re.I)  # a line without it says nothing
_STEP = re.compile(
    r"(?<![\w./-])(global[_ ]step|step|iteration|iter|s(?=:))\s*[:=#]?\s*(\d+(?:,\d{3})*)(?:\s*/\s*(\d+(?:,\d{3})*))?",
    re.I,
)
_LOSS = re.compile(
    r"(?<![\w./])((?:[a-z]+[ _/.-]){0,2}(?:loss|bpb|bits[ _]per[ _]byte|ppl|perplexity|tel|trl)"
    rf"(?:[ _/.-](?:train\w*|val\w*|eval\w*))?)\s*[:=]?\s*({_NUMBER})",
    re.I,
)
_DICT = re.compile(r"\{[^{}]*loss['\"]?\s*:[^{}]*\}", re.I)
_PAIR = re.compile(rf"['\"]([^'\"]+)['\"]\s*:\s*['\"]?({_NUMBER})['\"]?\s*(?=[,}}])", re.I)
_BAR = re.compile(r"\|\s*(\d+)/(\d+) \[")


class TextLog:
    """Lines into a Collector."""

    def __init__(self, into: Collector, logging_steps: int | None = None) -> None:
        self.into, self.nth = into, Nth(logging_steps)
        self.read = self.objects = self.lines = 0
        self._step: float | None = None
        self._pair: tuple[float, float] | None = None  # litgpt's iteration and step of the same line

    def take(self, line: str) -> None:
        """A line, whatever is on it."""
        self.lines += 1
        if not _WORTH.search(line):
            return
        if (row := _json(line)) is not None:
            self.objects += 1
            self._dict(row)
            return
        for count, total in _BAR.findall(line):
            self.nth.bar(int(count), int(total))
        rows = [dict(_PAIR.findall(found)) for found in _DICT.findall(line)] if "{" in line else []
        for row in rows:
            self._dict(row)
        if not rows:
            self._line(line)

    def _dict(self, row: dict[str, Any]) -> None:
        kinds = {column.kind for name in row if (column := classify(name))}
        if "train_runtime" in row or not kinds & {TRAINING, VALIDATION}:
            return
        if "steps" not in kinds and not any(map(is_time, row)):
            row[NTH] = self.nth.of(TRAINING in kinds, row.get("epoch"))
        self.read += 1
        self.into.take(row)

    def _line(self, line: str) -> None:
        losses = {_name(name): value.replace(",", "") for name, value in _LOSS.findall(line)}
        if not losses:
            return
        step = self._at(_STEP.findall(line), alone=line.lstrip()[:3].lower() in ("val", "tes"))
        if step is None:
            return
        self.read += 1
        self.into.take(losses | {"step": step})

    def _at(self, found: Iterable[tuple[str, str, str]], alone: bool) -> float | None:
        """The step of a line that names it in `found`; of a validation loss that stands `alone`, the last one."""
        named: Mapping[str, float] = {}
        for word, number, total in found:
            named = {word.lower(): float(number.replace(",", ""))} | named
            if total:
                self.into.says_total(float(total.replace(",", "")))
        steps = [value for word, value in named.items() if not word.startswith("it")]
        iterations = [value for word, value in named.items() if word.startswith("it")]
        if steps and iterations and steps[0] > 0:
            self._pair = iterations[0], steps[0]
        if steps:
            self._step = steps[0]
        elif iterations:
            per_step = self._pair[0] / self._pair[1] if self._pair else 1.0
            self._step = float(round(iterations[0] / per_step))
        elif not alone:
            return None
        return self._step


def _json(line: str) -> dict[str, Any] | None:
    """The row of a line that is one JSON object; objects in it as `a/b`."""
    line = line.strip()
    if not (line.startswith("{") and line.endswith("}")):
        return None
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
    while len(words) > 1 and classify(" ".join(words[1:])) == classify(name) and classify(name):
        words = words[1:]
    return " ".join(words)
