"""What is wrong, if a run's curve shows it: the checks, and which of them silences which."""

from collections.abc import Callable, Sequence

from clm.explain.faults import epoch_shapes, level_faults, shape_faults
from clm.explain.faults.evidence import Evidence

Check = Callable[[Evidence], str | None]
_OTHER_THAN_IT_SEEMS = {"mis-scaled accumulation", "too good to be true"}
_FLAT = {"divergence", "plateau at the unigram entropy", "learning rate too high"}
CHECKS: tuple[tuple[str, Check, set[str]], ...] = (
    ("non-determinism between resumes", level_faults.resumes, set()),
    ("mis-scaled accumulation", level_faults.accumulation, set()),
    ("too good to be true", level_faults.too_good, {"mis-scaled accumulation"}),
    ("loss above ln(vocabulary)", level_faults.above_uniform, _OTHER_THAN_IT_SEEMS),
    ("loss that isn't finite", shape_faults.not_finite, set()),
    ("divergence", shape_faults.divergence, set()),
    ("training text in validation", level_faults.leak_to_validation, _OTHER_THAN_IT_SEEMS),
    ("duplicate training text", level_faults.leak_in_training, _OTHER_THAN_IT_SEEMS),
    ("learning rate too high", shape_faults.rate_too_high, {"divergence"}),
    ("learning rate too low", shape_faults.rate_too_low, set()),
    ("plateau at the unigram entropy", shape_faults.plateau, {"learning rate too high", "learning rate too low"}),
    ("stalled", shape_faults.stalled, _FLAT | _OTHER_THAN_IT_SEEMS),
    ("spikes", shape_faults.spikes, {"divergence"}),
    ("stairs at each epoch", epoch_shapes.stairs, {"divergence"} | _OTHER_THAN_IT_SEEMS),
    ("rises at each epoch", epoch_shapes.sawtooth, {"divergence"}),
    ("overfitting", shape_faults.overfitting, {"divergence", "duplicate training text"} | _OTHER_THAN_IT_SEEMS),
)


# These leave a run as it is: its forecast and advice still hold.
HARMLESS = {
    *("non-determinism between resumes", "spikes", "overfitting", "stairs at each epoch", "rises at each epoch"),
}


def comes_first(found: Sequence[dict[str, str]]) -> bool:
    """Whether a fault is to be mended before a forecast or advice means anything."""
    return any(fault["name"] not in HARMLESS for fault in found)


def find(evidence: Evidence) -> list[dict[str, str]]:
    """Every fault that shows, as {"name", "text"}; a graver one silences those that follow from it."""
    found = {}
    for name, check, silenced_by in CHECKS:
        if not silenced_by & found.keys() and (text := check(evidence)):
            found[name] = text
    return [{"name": name, "text": text} for name, text in found.items()]
