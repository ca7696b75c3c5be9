"""Many epochs over little text, at two sizes a factor of 4 apart: which recipe learns most.

    python -m benchmarks.regime --wikitext FILE [--size small|large|half|ample|wide ...] [--seeds N] [ROW ...]
    python -m benchmarks.regime --table

A row is the base, which is recipes/wt103.json of before these tests but for its size, with the changes that its name
says (`cosine to 0, wd 1.6`; benchmarks/regime/rows.py has the words). Without names: all rows of the tables. A run that
is in benchmarks/results/regime.json already is passed over. A seed is that of the weights and the order; text and
validation text (whole articles) are the same for all. The threads are as many as the cores that the process may use.
"""

import argparse
import json
import multiprocessing
from pathlib import Path

from benchmarks.machine import machine
from benchmarks.regime.rows import SIZES
from benchmarks.regime.tables import TABLES, print_tables
from benchmarks.regime.training import train, write_texts
from clm.files import write_text

RESULT = Path(__file__).resolve().parent.parent / "results" / "regime.json"
forks = multiprocessing.get_context("fork")


def known() -> dict:
    return json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {"machine": machine(), "runs": []}


def keep(run: dict) -> None:
    """Add a run to the file, which has one a line."""
    report = known()
    runs = ",\n".join(json.dumps(each) for each in [*report["runs"], run])
    write_text(RESULT, f'{{"machine": {json.dumps(report["machine"])},\n"runs": [\n{runs}\n]}}\n')


def rows_of(size: str) -> list[str]:
    """The tables' rows of a size, each once."""
    return list(dict.fromkeys(row for table in TABLES.values() if size in table.sizes for row in table.rows))


def run(name: str, size: str, seed: int, wikitext: Path, folder: Path) -> None:
    """One training in a process of its own, forked, so that it needn't import all this again."""
    receives, sends = forks.Pipe(duplex=False)
    files = write_texts(wikitext, folder, SIZES[size])
    process = forks.Process(target=lambda: sends.send(train(name, SIZES[size], seed, files, folder)))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{name}, {size}, seed {seed} failed")
    result = receives.recv()
    keep({"row": name, "size": size, "seed": seed} | result)
    shown = {key: result[key] for key in ("end", "best", "best_epoch", "train", "seconds")}
    print(f"{size} {seed} {name}: {shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW")
    parser.add_argument("--wikitext", type=Path)
    parser.add_argument("--size", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path(".cache/regime"))
    args = parser.parse_args()
    if args.table:
        print_tables(known()["runs"])
        return
    if not args.wikitext:
        parser.error("--wikitext FILE is needed: WikiText's validation text, as one file")
    args.folder.mkdir(parents=True, exist_ok=True)
    done = {(each["row"], each["size"], each["seed"]) for each in known()["runs"]}
    for size in args.size:
        for seed in range(1, args.seeds + 1):
            for name in args.rows or rows_of(size):
                if (name, size, seed) not in done:
                    run(name, size, seed, args.wikitext, args.folder)
                    done.add((name, size, seed))


if __name__ == "__main__":
    main()
