"""What a part finds: rows of a table, each a figure with its target, if it has one, and whether that is reached."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line.

    Attributes:
        figure: what was found; a number, or words.
        target: what had to be found, as `>= 0.4`; empty where nothing had to be.
        ok: whether it was; None where nothing had to be.
    """

    name: str
    figure: float | str
    unit: str = ""
    target: str = ""
    ok: bool | None = None

    @property
    def verdict(self) -> str:
        """`ok`, `NOT`, or nothing."""
        return "" if self.ok is None else "ok" if self.ok else "NOT"

    def as_json(self) -> dict[str, Any]:
        """Its fields under their names."""
        return asdict(self)


def number(
    name: str, figure: float, unit: str = "", at_least: float | None = None, at_most: float | None = None
) -> Row:
    """A measured number, held against a least, a most, or both; a figure that isn't a number reaches no target."""
    limits = {">=": at_least, "<=": at_most}
    targets = [f"{sign} {limit:g}" for sign, limit in limits.items() if limit is not None]
    reached = (at_least is None or figure >= at_least) and (at_most is None or figure <= at_most)
    return Row(name, float(figure), unit, ", ".join(targets), reached if targets else None)


def fact(name: str, holds: bool, figure: str, target: str) -> Row:
    """Something that has to hold, and what was found in its place."""
    return Row(name, figure, "", target, bool(holds))


def failed(name: str, why: str) -> Row:
    """A part, or a measurement, that came to nothing."""
    return Row(name, f"NOT: {why}", ok=False)


def left_out(name: str, why: str) -> Row:
    """A measurement that this machine, or the time, doesn't allow; nothing is claimed of it."""
    return Row(name, f"not measured: {why}")


def table(found: Mapping[str, Iterable[Row]]) -> str:
    """All rows, those of a part under its name."""
    lines = []
    for part, rows in found.items():
        lines += ["", part]
        for row in rows:
            figure = f"{row.figure:,.4g}" if isinstance(row.figure, float) else row.figure
            if isinstance(row.figure, float) and abs(row.figure) >= 1000:
                figure = f"{row.figure:,.0f}"
            what = " ".join(word for word in (figure, row.unit) if word)
            line = f"  {row.verdict:<3} {row.name:<58} {what}"
            lines.append(f"{line}   ({row.target})" if row.target else line)
    return "\n".join(lines[1:])


def failures(found: Mapping[str, Iterable[Row]]) -> list[str]:
    """`part: row` of each row that is NOT."""
    return [f"{part}: {row.name}" for part, rows in found.items() for row in rows if row.ok is False]
