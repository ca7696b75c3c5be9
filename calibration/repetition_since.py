"""Scores what overfitting is expected to cost on the runs that were made since it was fitted, in seconds.

    python -m calibration.repetition_since      prints the table of docs/training-loss.md

They are the curves of benchmarks/regime that are no reference runs yet; calibration/repetition_regime.py makes them so.
"""

import argparse
from collections.abc import Callable

from calibration import repetition_regime
from calibration.repetition import NONE, LeftOut, Run, points_of, runs_at_hand, score
from clm.explain import references
from clm.explain.expected import Model
from clm.explain.scaling import OVERFITTING

KINDS: dict[str, Callable[[str], bool]] = {
    "all": lambda name: True,
    "deep": lambda name: name.startswith("deep"),
    "ample, Muon": lambda name: name.startswith("ample") and "adamw" not in name,
    "scant, 25 epochs": lambda name: name.startswith("scant") and "epochs" not in name,
    "larger": lambda name: name.startswith("larger"),
    "AdamW": lambda name: "adamw" in name,
    "30 steps": lambda name: "batch 64" in name,
}


def since() -> list[LeftOut]:
    """Each such run as the shipped model expects it, with and without penalty."""
    known = runs_at_hand()
    points, names = points_of(known), {run.name for run in known}
    model, plain, found = Model(points, OVERFITTING), Model(points, NONE), []
    for entry in repetition_regime.entries():
        of_run = references.repeated(entry)
        if entry["name"] not in names and of_run:
            run = Run(entry["name"], entry["size"], True, of_run)
            made, without = (each.expect(run.end.situation, run.end.step) for each in (model, plain))
            found.append(LeftOut(run, made.loss, without.loss, made.band[1] - made.loss))
    return found


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    found = since()
    for kind, is_of in KINDS.items():
        if mine := [each for each in found if is_of(each.run.name)]:
            print(kind, {name: round(value, 3) for name, value in score(mine).items()}, flush=True)


if __name__ == "__main__":
    main()
