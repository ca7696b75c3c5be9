"""Several models into one, where text is little: members, the mean of their probabilities, and their students.

    python -m benchmarks.ensembles --wikitext FILE [--size small|large ...] [--row ROW] [--students N] [--weights W ...]
    python -m benchmarks.ensembles --table

Text, sizes and trainings are those of benchmarks/regime; ROW is the single model's recipe, as there. Members differ by
seed (weights and order), or by the order alone. Students begin from seeds of their own, learn from the first K members
and the labels, and take as many steps as a member. What is in benchmarks/results/ensembles.json is passed over, as far
as the members' weights needn't be made again.
"""

import argparse
import json
import multiprocessing
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.regime import training
from benchmarks.regime.parts import Mean
from benchmarks.regime.results import Results
from benchmarks.regime.rows import BLOCK, SIZES
from clm.__main__ import main as clm
from clm.config.recipe import Recipe, load
from clm.model.teachers import load_teachers
from clm.training.build import make_trainer
from clm.training.text import RunText
from clm.training.trainer import ClmTrainer

RESULTS = Results(Path(__file__).resolve().parent / "results" / "ensembles.json")
MEMBERS = (1, 2, 3, 4)  # seeds
COUNTS = (1, 2, 4)  # of members that teach
STUDENT = 10  # the seed before the students' first
forks = multiprocessing.get_context("fork")


def train(
    row: str,
    size: str,
    seed: int,
    files: dict[str, str],
    folder: Path,
    kept: Path,
    changes: dict[str, Any],
    teachers: Sequence[Path] = (),
) -> dict[str, Any]:
    """One training of benchmarks/regime, with teachers or a key of its recipe changed; the model is kept."""
    trainers: list[ClmTrainer] = []

    def taught(*args: Any) -> RunText:
        return RunText(*args, teachers=load_teachers([str(teacher) for teacher in teachers], BLOCK, str(folder)))

    def noted(recipe: Recipe, *args: Any) -> ClmTrainer:
        trainers.append(make_trainer(recipe, *args))
        return trainers[0]

    def changed(file: Path) -> Recipe:
        recipe = load(file, {key: value for key, value in changes.items() if key != "distillation_weight"})
        weight = changes.get("distillation_weight", recipe.run.distillation_weight)
        return replace(recipe, run=replace(recipe.run, distillation_weight=weight))

    with (
        patch.object(training, "RunText", taught),
        patch.object(training, "make_trainer", noted),
        patch.object(training, "load", changed),
    ):
        result = training.train(row, SIZES[size], seed, files, folder)
    trainer = trainers[0]
    means = [each for each in trainer.callback_handler.callbacks if isinstance(each, Mean)]
    kept.mkdir(parents=True, exist_ok=True)
    trainer.args.output_dir = str(kept)
    with (means[0] if means else Mean(None, 0.0)).inside(trainer.model):
        trainer.export(trainer.model)
    return {key: result[key] for key in ("end", "best", "best_epoch", "train", "steps", "tokens", "seconds")}


def mean_loss(members: Sequence[Path], files: dict[str, str], folder: Path) -> dict[str, Any]:
    """What `python -m clm evaluate` says of the mean of these models."""
    output = folder / "mean.json"
    models = [word for member in members for word in ("--model", str(member))]
    text = ["--text_file", files["validation_file"], "--document_separator", "article"]
    with redirect_stdout(StringIO()):
        if clm(["evaluate", *models, *text, "--output", str(output)]):
            raise SystemExit("evaluate failed")
    return {"end": round(json.loads(output.read_text("utf-8"))["eval_loss"], 4)}


def apart(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `work` returns, done in a process of its own, forked, so that it needn't import all this again."""
    receives, sends = forks.Pipe(duplex=False)
    process = forks.Process(target=lambda: sends.send(work()))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit("a training failed")
    return receives.recv()


Job = tuple[dict[str, Any], Callable[[], dict[str, Any]], Path | None]


def jobs(row: str, size: str, args: argparse.Namespace) -> Iterator[Job]:
    """What is done for a size, in its order: its name, the work, and the model's folder where it leaves one."""
    files = training.write_texts(args.wikitext, args.folder, SIZES[size])
    made = args.folder / f"{size}-{row.replace(', ', '-').replace(' ', '_')}"
    by_seed = [made / f"member-{seed}" for seed in MEMBERS]
    by_order = [by_seed[0], *(made / f"order-{seed}" for seed in MEMBERS[1:])]
    run = partial(train, row, size, files=files, folder=args.folder)
    own = args.student or row
    student = partial(train, own, size, files=files, folder=args.folder)
    about = {"size": size, "row": row}

    for seed, kept in zip(MEMBERS, by_seed, strict=True):
        yield {**about, "what": "member", "seed": seed}, partial(run, seed=seed, kept=kept, changes={}), kept
    for count in COUNTS[1:]:
        yield {**about, "what": "mean", "members": count}, partial(mean_loss, by_seed[:count], files, args.folder), None
    for number in range(STUDENT + 1, STUDENT + 1 + args.students):
        for weight in args.weights:
            for count in args.members:
                name = {**about, "what": "student", "student": own, "members": count, "weight": weight, "seed": number}
                kept, key = made / f"student-{count}", {"distillation_weight": weight}
                work = partial(student, seed=number, kept=kept, changes=key, teachers=by_seed[:count])
                yield name, work, None
        if args.student:  # what its recipe makes of the labels alone
            alone = partial(student, seed=number, kept=made / "alone", changes={})
            yield {**about, "what": "alone", "student": own, "seed": number}, alone, None
    if args.orders:
        for seed, kept in zip(MEMBERS[1:], by_order[1:], strict=True):
            name = {**about, "what": "order", "seed": seed}
            yield name, partial(run, seed=MEMBERS[0], kept=kept, changes={"data_seed": seed}), kept
        yield {**about, "what": "mean of orders", "members": 4}, partial(mean_loss, by_order, files, args.folder), None


def table() -> None:
    """Means over the seeds, with their range."""
    rows: dict[tuple, list[dict[str, Any]]] = {}
    for each in RESULTS.known()["runs"]:
        key = tuple(each.get(name) for name in ("size", "row", "what", "student", "members", "weight"))
        rows.setdefault(key, []).append(each)
    print("| size | recipe | what | student | members | weight | loss | lowest | highest | seeds | CPU seconds a run |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for key, runs in rows.items():
        ends, seconds = [run["end"] for run in runs], [run.get("seconds", 0.0) for run in runs]
        cells = [*("" if part is None else str(part) for part in key), f"{statistics.mean(ends):.4f}"]
        cells += [f"{min(ends):.4f}", f"{max(ends):.4f}", str(len(runs)), f"{statistics.mean(seconds):.0f}"]
        print(f"| {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wikitext", type=Path)
    parser.add_argument("--size", nargs="+", choices=SIZES, default=["small", "large"])
    parser.add_argument("--row", default="base")
    parser.add_argument("--student", metavar="ROW", help="the students' recipe; by default the members'")
    parser.add_argument("--students", type=int, default=3, help="seeds of each student")
    parser.add_argument("--members", type=int, nargs="+", choices=COUNTS, default=COUNTS, help="that teach a student")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.5], help="distillation_weight")
    parser.add_argument("--orders", action="store_true", help="members that differ by the order alone, too")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path(".cache/ensembles"))
    args = parser.parse_args()
    if args.table:
        table()
        return
    if not args.wikitext:
        parser.error("--wikitext FILE is needed: WikiText's validation text, as one file")
    args.folder.mkdir(parents=True, exist_ok=True)
    for size in args.size:
        for name, work, kept in jobs(args.row, size, args):
            done = any(name == {key: run.get(key) for key in name} for run in RESULTS.known()["runs"])
            missing = kept is not None and not kept.is_dir()
            if not done:
                print(RESULTS.keep(name | apart(work)), flush=True)
            elif missing:
                apart(work)


if __name__ == "__main__":
    main()
