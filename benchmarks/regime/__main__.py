"""Many epochs over little text, at sizes from 14 k to 0.9 M weights: which recipe learns most.

    python -m benchmarks.regime --wikitext FILE [--size SIZE ...] [--seeds N] [ROW ...]
    python -m benchmarks.regime --table

A row is the base, which is recipes/wt103.json of before these tests but for its size, with the changes that its name
says (`cosine to 0, wd 1.6`; benchmarks/regime/rows.py has the words). Without names: all rows of the tables. A run that
is in benchmarks/results/regime.json already is passed over; one with AMX or in fp32 (benchmarks/regime/results.py) is
another run. A seed is that of the weights and the order; text and validation text (whole articles) are the same for
all. The threads are as many as the cores that the process may use.
"""

import argparse
import multiprocessing
from pathlib import Path

from benchmarks.regime.results import Results, arithmetic, arithmetic_of
from benchmarks.regime.rows import SIZES
from benchmarks.regime.tables import TABLES, print_tables
from benchmarks.regime.training import train, write_texts

RESULTS = Results(Path(__file__).resolve().parent.parent / "results" / "regime.json")
forks = multiprocessing.get_context("fork")


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
    RESULTS.keep({"row": name, "size": size, "seed": seed} | result)
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
        print_tables(RESULTS.known()["runs"])
        return
    if not args.wikitext:
        parser.error("--wikitext FILE is needed: WikiText's validation text, as one file")
    args.folder.mkdir(parents=True, exist_ok=True)
    done = {(each["row"], each["size"], each["seed"], arithmetic_of(each)) for each in RESULTS.known()["runs"]}
    for size in args.size:
        for seed in range(1, args.seeds + 1):
            for name in args.rows or rows_of(size):
                if (name, size, seed, arithmetic()) not in done:
                    run(name, size, seed, args.wikitext, args.folder)
                    done.add((name, size, seed, arithmetic()))


if __name__ == "__main__":
    main()
