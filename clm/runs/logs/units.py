"""A log's losses in nats a token, whatever unit they were written in: by the column's name, or where it is certain."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from clm.errors import UserError
from clm.runs.logs.columns import BITS, BITS_PER_BYTE, NATS, PERPLEXITY, TRAINING, VALIDATION

LARGEST_LOSS = 100.0  # nats a token: beyond it is no cross-entropy of tokens
PERPLEXITY_FALL = 20.0  # a perplexity falls by more than this factor, a loss in nats never does
CLOSE = 0.02  # of a value that is told by another one
FEWEST_TOGETHER = 2  # steps with both losses, that bytes a token are worked out from

Points = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Unit:
    """A loss's own unit: `name`, and how many nats one of it is (not of a perplexity)."""

    name: str
    nats: float = 1.0

    def of(self, nats: float) -> float:
        """A loss in nats in this unit."""
        return math.exp(min(nats, 690.0)) if self.name == PERPLEXITY else nats / self.nats


@dataclass
class Converted:
    """The curve in nats, a sentence for every conversion, and whether one of them is a guess."""

    curve: dict[str, Points]
    remarks: list[str] = field(default_factory=list)
    units: dict[str, Unit] = field(default_factory=dict)
    assumed: bool = False


def in_nats(
    curve: Mapping[str, Points],
    named: Mapping[str, str],
    beside: Mapping[str, Points],
    vocab_size: int | None,
    bytes_per_token: float | None,
) -> Converted:
    """Convert what isn't in nats.

    Args:
        named: each kind's unit, by its column's name.
        beside: perplexities that were logged beside a loss, by kind.
        bytes_per_token: a guess, for bits per byte that nothing else tells it of.

    Raises:
        UserError: the losses are none in any unit.
    """
    made = Converted({})
    for kind in (TRAINING, VALIDATION):  # in this order: training losses tell the bytes a token of the other
        if kind not in curve:
            continue
        steps, losses = curve[kind]
        unit, why = named[kind], "by its name"
        if unit == NATS:
            unit, why = _by_value(steps, losses, beside.get(kind), vocab_size)
        if unit == PERPLEXITY:
            keep = losses >= 1
            made.curve[kind] = steps[keep], np.log(losses[keep])
            made.units[kind] = Unit(PERPLEXITY)
            made.remarks.append(f"The {kind} loss is a perplexity ({why}); its logarithm is read.")
        elif unit == BITS:
            made.curve[kind] = steps, losses * math.log(2)
            made.units[kind] = Unit(BITS, math.log(2))
            made.remarks.append(f"The {kind} loss is in base 2 ({why}); it is read times ln(2).")
        elif unit == BITS_PER_BYTE:
            _from_bits_per_byte(made, kind, (steps, losses), bytes_per_token)
        else:
            made.curve[kind] = steps, losses
        middle = float(np.median(made.curve[kind][1])) if len(made.curve[kind][1]) else math.inf
        if not 0 <= middle <= LARGEST_LOSS:
            raise UserError(
                f"a {kind} loss of {np.median(losses):,.4g} is no cross-entropy of tokens, in nats from 0 to "
                f"{LARGEST_LOSS:.0f}; if it is in another unit, say so in its column's name (perplexity, bits, bpb)"
            )
    return made


def _by_value(
    steps: np.ndarray, losses: np.ndarray, perplexities: Points | None, vocab_size: int | None
) -> tuple[str, str]:
    """The unit of a column that is just called loss; another than nats only where that is certain."""
    if losses[0] > LARGEST_LOSS and losses.min() >= 1 and losses[0] / losses.min() > PERPLEXITY_FALL:
        return PERPLEXITY, f"it falls from {losses[0]:,.0f} to {losses.min():,.1f}"
    if perplexities is not None:
        _, here, there = np.intersect1d(steps, perplexities[0], return_indices=True)
        logs = np.log(np.maximum(perplexities[1][there], 1.0))
        ratios = logs[losses[here] > 0] / losses[here][losses[here] > 0]
        if len(ratios) and abs(np.median(ratios) / math.log(2) - 1) < CLOSE:
            return BITS, "the perplexity beside it is 2 to its power"
    if vocab_size and steps[0] <= 1:
        most = math.log2(vocab_size)
        if abs(losses[0] / most - 1) < CLOSE and losses.max() < (1 + CLOSE) * most:
            return BITS, f"it starts at log2({vocab_size:,}) = {most:.2f}"
    return NATS, ""


def _from_bits_per_byte(made: Converted, kind: str, points: Points, guess: float | None) -> None:
    steps, bits = points
    size, why = _measured(made.curve.get(TRAINING), points, made.units), "as the training loss beside it says"
    if size is None:
        size, why = guess or 4.5, "which is assumed"
        made.assumed = True
    made.units[kind] = Unit(BITS_PER_BYTE, size * math.log(2))
    made.curve[kind] = steps, bits * made.units[kind].nats
    made.remarks.append(f"The {kind} loss is in bits per byte; it is read at {size:.2f} bytes a token, {why}.")


def _measured(train: Points | None, validation: Points, units: Mapping[str, Unit]) -> float | None:
    """Bytes a token by a training loss in nats beside a validation loss in bits per byte, if both are known."""
    if train is None or TRAINING in units or len(train[0]) < FEWEST_TOGETHER:
        return None
    steps, bits = validation
    inside = (steps >= train[0][0]) & (steps <= train[0][-1]) & (bits > 0)
    late = inside & (steps >= np.median(steps[inside])) if inside.any() else inside  # an early loss falls too fast
    if late.sum() < FEWEST_TOGETHER:
        return None
    return float(np.median(np.interp(steps[late], *train) / bits[late])) / math.log(2)
