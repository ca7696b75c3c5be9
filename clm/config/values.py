"""What a key's annotation lets a value be, and what typed text means for it."""

from __future__ import annotations

import json
import math
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from clm.config.limits import CHOICES, RANGES


def parts(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the hint itself."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def fits(value: Any, hint: Any) -> bool:
    """Whether `value` is of the type `hint`; a whole number is a number, and a truth value is neither."""
    return any(_fits_one(value, part) for part in parts(hint))


def _fits_one(value: Any, part: Any) -> bool:
    kind, inner = get_origin(part) or part, get_args(part)
    if kind is Any:
        return True
    if kind is Literal:
        return any(value is choice for choice in inner)
    if kind is list:
        return isinstance(value, list) and all(fits(v, inner[0]) for v in value)
    if kind is dict:
        return isinstance(value, dict) and all(fits(v, (*inner, Any, Any)[1]) for v in value.values())
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, kind)


def read(text: str, hint: Any) -> Any:
    """Typed text as the first type of `hint` that can read it; the text itself where none can."""
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    kinds = {get_origin(part) or part for part in parts(hint)}
    if NoneType in kinds and text.lower() in ("none", "null"):
        return None
    if kinds & {bool, Literal} and text.lower() in words:
        return words[text.lower()]
    numbers = [int, float] if float in kinds else [int] * (int in kinds)  # 10 stays 10, as in a recipe
    readers = numbers + [json.loads] * bool(kinds & {list, dict})
    for reader in readers:
        try:
            value = reader(text)
        except (ValueError, RecursionError):
            continue
        if fits(value, hint):
            return value
    return text


def allowed(hint: Any, key: str) -> str:
    """What `key` may be, in words."""
    if key in CHOICES or key in RANGES:
        words = RANGES[key][1] if key in RANGES else f"one of {', '.join(CHOICES[key])}"
        if int in parts(hint):
            words = f"{words} (a whole number)"
        return f"{words}, or null" if NoneType in parts(hint) else words
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text that isn't empty"}
    names |= {list: "a list of texts", dict: "an object", NoneType: "null", Literal: "false"}
    return " or ".join(names[get_origin(part) or part] for part in parts(hint))


def show(value: Any) -> str:
    """A value as JSON, for a message; cut after 77 characters."""
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return shown if len(shown) <= 80 else shown[:77] + "…"


def plain(value: Any) -> bool:
    """Whether it holds no NaN or infinity, no number beyond 64 bits, and no text that can't be written as UTF-8."""
    if isinstance(value, dict):
        return all(plain(v) for v in value.values())
    if isinstance(value, list):
        return all(plain(v) for v in value)
    if isinstance(value, str):
        return "\0" not in value and value.encode("utf-8", "replace") == value.encode("utf-8", "surrogatepass")
    if isinstance(value, int):
        return abs(value) < 2**63
    return value is None or math.isfinite(value)
