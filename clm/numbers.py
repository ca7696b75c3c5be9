"""Numbers as a reader wants them: checked where they come out of a file, and written with their unit."""

import json
import math
from typing import Any

UNKNOWN = "not known"


def number(value: Any) -> float | int | None:
    """`value` if it is a finite number, else None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and -math.inf < value < math.inf else None


def count(value: Any) -> int | None:
    """`value` if it is a whole number of 0 or more, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


# Numbers as text; anything else is UNKNOWN


def whole(value: Any) -> str:
    """12,345."""
    return UNKNOWN if count(value) is None else f"{value:,}"


def fixed(value: Any, digits: int = 4) -> str:
    """1,234.5678."""
    return UNKNOWN if number(value) is None else f"{value:,.{digits}f}"


def percent(value: Any) -> str:
    """80 %."""
    return UNKNOWN if number(value) is None else f"{100 * value:.0f} %"


def large(value: Any) -> str:
    """1.24 M."""
    if number(value) is None:
        return UNKNOWN
    for unit, factor in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.3g}"


def duration(seconds: Any) -> str:
    """1 min 2 s, 3 h 25 min, 2 d 4 h."""
    if number(seconds) is None:
        return UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 1440 else f"{minutes // 1440} d {minutes // 60 % 24} h"


# A recipe's values as text


def shown(value: Any) -> str:
    """A value as one would write it; a text is written without its quotes."""
    if value is None:
        return "none"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def brief(value: Any) -> str:
    """Three digits of a fraction, all of anything else."""
    return f"{value:.3g}" if isinstance(value, float) else shown(value)
