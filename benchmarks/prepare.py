"""Raw text to blocks ready to train: this project beside the standard procedure, in the same run.

    python -m benchmarks.prepare [--text FILE] [--rounds N] [--big]

Prints a table and writes benchmarks/results/prepare.json. Every measurement is a process of its own that imports
first and then starts its clock, with the text's pages in memory and nothing cached by an earlier one. The two ways take
turns.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks import prepare_texts
from benchmarks.machine import machine

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".cache" / "benchmarks"
RESULT = ROOT / "benchmarks" / "results" / "prepare.json"
BLOCK_SIZE = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, help="any English text; without it, Python's documentation over and over")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each way")
    parser.add_argument("--big", action="store_true", help="also the text ten times over")
    args = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    text = args.text.resolve() if args.text else prepare_texts.python_documentation(WORK)
    tokenizer = prepare_texts.tokenizer_for(text, WORK)
    texts = {"small": text}
    try:
        if args.big:
            texts["big"] = WORK / "ten-times.txt"
            prepare_texts.many_times(text, texts["big"])
        measured = measure(texts, tokenizer, args.rounds)
    finally:
        (WORK / "ten-times.txt").unlink(missing_ok=True)
    about = (
        text.name if args.text else "Python's documentation over and over, paragraphs numbered (no --text was given)"
    )
    report = {"text": about, **measured, "machine": machine()}
    print(table(report))
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print(f"\nwritten: {RESULT.relative_to(ROOT)}")


def measure(texts: dict[str, Path], tokenizer: Path, rounds: int) -> dict:
    """All measurements: the rounds of each way, in turn; then opening the store, and the check of its ids.

    The standard procedure is run as most do, and with `num_proc=2`, which its authors advise for two cores.
    """
    standard: dict[int, list[dict]] = {0: [], 2: []}
    ours: dict[str, list[dict]] = {size: [] for size in texts}
    for _ in range(rounds):
        for num_proc, results in standard.items():
            results.append(run("standard", texts["small"], tokenizer, "standard", num_proc))
            shutil.rmtree(WORK / "standard")
        for size, text in texts.items():
            shutil.rmtree(WORK / size, ignore_errors=True)
            ours[size].append(run("ours", text, tokenizer, size, part="build"))
    opened = {
        size: [run("ours", text, tokenizer, size, part="open") for _ in range(rounds)] for size, text in texts.items()
    }
    checked = run("ours", texts["small"], tokenizer, "small", part="check")
    for size in texts:
        shutil.rmtree(WORK / size)
    return {
        "bytes": {size: text.stat().st_size for size, text in texts.items()},
        "standard": {f"num_proc={num_proc or None}": results for num_proc, results in standard.items()},
        "ours": ours,
        "opened": opened,
        "checked": checked,
    }


def run(way: str, text: Path, tokenizer: Path, folder: str, num_proc: int | None = None, part: str = "") -> dict:
    """One measurement in a new process, with the text in the page cache and nothing left to be written."""
    prepare_texts.read_once(text)
    os.sync()
    words = [part, text, tokenizer, WORK / folder, BLOCK_SIZE, num_proc]
    command = [
        sys.executable,
        "-m",
        f"benchmarks.prepare_{way}",
        *[str(word) for word in words if word not in ("", None)],
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(WORK / "hf")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    *said, result = done.stdout.splitlines()
    for line in said:  # such as that the fast encoder isn't there
        print(f"{way}: {line}")
    result = json.loads(result)
    note = f" {text.stat().st_size / 1e6 / result['seconds']:8.1f} MB/s" if "seconds" in result else ""
    print(f"{way:8} {part or f'num_proc={num_proc or None}':14} {text.name}{note}", flush=True)
    return result


def table(report: dict) -> str:
    """What was measured beside what was to be reached, as Markdown."""
    small = report["bytes"]["small"] / 1e6
    standard_rates = {
        how: [small / result["seconds"] for result in results] for how, results in report["standard"].items()
    }
    checked, where = report["checked"], report["machine"]
    standard = report["standard"]["num_proc=None"]
    lines = [
        f"text: {report['text']}, {small:.1f} MB; machine: {where['cpu']}, {where['cores']} cores",
        "",
        "| | median | min to max | target | |",
        "|---|---|---|---|---|",
        *(row(f"standard, {how}: MB/s", rates) for how, rates in standard_rates.items()),
    ]
    peaks = {}
    for size, factor in (("small", 40), ("big", 100)):
        if size not in report["ours"]:
            continue
        megabytes = report["bytes"][size] / 1e6
        name, results = f"{megabytes:.0f} MB", report["ours"][size]
        rates = [megabytes / result["seconds"] for result in results]
        peaks[size] = statistics.median(result["peak_rss"] for result in results)
        per_token = [result["bytes_on_disk"] / result["tokens"] for result in results]
        opened = report["opened"][size]
        lines += [
            row(f"{name}: MB/s", rates),
            *(
                row(f"{name}: times it, {how}", [rate / statistics.median(of) for rate in rates], at_least=factor)
                for how, of in standard_rates.items()
            ),
            row(f"{name}: peak memory, MB", [result["peak_rss"] / 1e6 for result in results]),
            row(f"{name}: of it after imports, MB", [result["rss_after_imports"] / 1e6 for result in results]),
            row(f"{name}: bytes on disk a token", per_token, at_most=2.1),
            row(f"{name}: open, first batch, ms", [1e3 * result["first_batch"] for result in opened], at_most=50),
            row(f"{name}: random batch, ms", [1e3 * result["random_batch"] for result in opened], at_most=1),
        ]
    if "big" in peaks:
        lines.append(row("peak memory, big to small", [peaks["big"] / peaks["small"]], at_most=1.3))
    lost = standard[0]["tokens"] - standard[0]["kept"]
    lines += [
        row("standard: peak memory, MB", [result["peak_rss"] / 1e6 for result in standard]),
        row("standard: bytes on disk a kept token", [standard[0]["bytes_on_disk"] / standard[0]["kept"]]),
        "",
        f"lost tokens: {checked['lost']:,} of the {checked['tokens']:,} that `tokenizers` gives for the "
        f"{checked['documents']:,} documents, one end-of-text each; ids that differ: {checked['differing']:,}",
        f"lost by the standard procedure: {lost:,} of {standard[0]['tokens']:,} ({lost / standard[0]['tokens']:.1%})",
    ]
    return "\n".join(lines)


def row(name: str, values: list[float], at_least: float | None = None, at_most: float | None = None) -> str:
    """One line of the table; `values` are one a round."""
    median = statistics.median(values)
    target, verdict = "", ""
    if at_least is not None:
        target, verdict = f"≥ {at_least:g}", "yes" if median >= at_least else "NO"
    if at_most is not None:
        target, verdict = f"≤ {at_most:g}", "yes" if median <= at_most else "NO"
    spread = f"{min(values):.4g} to {max(values):.4g}" if len(values) > 1 else ""
    return f"| {name} | {median:.4g} | {spread} | {target} | {verdict} |"


if __name__ == "__main__":
    main()
