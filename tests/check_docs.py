"""The documents' form: how wide lines are, and that links and anchors lead somewhere. `make lint` runs it.

`python -m tests.check_docs` says what is wrong, and ends with 1 if anything is. With --wrap it first wraps each
paragraph and list item that has too long a line. A row of a table can not be wrapped in Markdown, so it may be longer.
"""

import re
import sys
from collections import Counter
from itertools import groupby
from pathlib import Path
from textwrap import wrap

ROOT = Path(__file__).resolve().parents[1]
WIDTH, README_LINES = 120, 150
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")})

LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"\s]+)\"")
HEADING = re.compile(r"#{1,6} +(.*?)\s*$")
ITEM = re.compile(r"( *)((?:[-*]|\d+\.) +|> ?)?(.*)")
CODE = re.compile(r"`[^`\n]+`")


def prose(text: str) -> list[tuple[int, str, bool]]:
    """(number, line, whether it is prose) of each line: fenced code, tables and headings aren't prose."""
    rows, fenced = [], False
    for number, line in enumerate(text.splitlines(), 1):
        fence = line.lstrip().startswith("```")
        is_prose = not (fenced or fence or line.startswith(("|", "#", "<")) or not line.strip())
        rows.append((number, line, is_prose))
        fenced ^= fence
    return rows


def anchors(text: str) -> set[str]:
    """GitHub's names of the headings: lower case, no punctuation, hyphens for spaces; -1, -2 … for a repeated one."""
    seen: Counter[str] = Counter()
    found = set()
    fenced = False
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        if fenced or not (heading := HEADING.match(line)):
            continue
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
        name = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        found.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return found


def complaints(page: Path) -> list[str]:
    """What is wrong with a page, a line each."""
    text, where = page.read_text("utf-8"), page.relative_to(ROOT)
    lines = text.splitlines()
    found = [
        f"{where}:{number}: {len(line)} columns, more than {WIDTH}"
        for number, line in enumerate(lines, 1)
        if len(line) > WIDTH and not line.startswith("|")
    ]
    if where == Path("README.md") and len(lines) > README_LINES:
        found.append(f"{where}: {len(lines)} lines, more than {README_LINES}")
    for number, line in enumerate(lines, 1):
        for match in LINK.finditer(CODE.sub("", line)):
            target, _, anchor = (match[1] or match[2]).partition("#")
            if re.match(r"(https?|mailto):", match[1] or match[2]):
                continue
            file = page.parent / target if target else page
            if not file.exists():
                found.append(f"{where}:{number}: {target} isn't there")
            elif anchor and anchor not in anchors(file.read_text("utf-8")):
                found.append(f"{where}:{number}: {target or where} has no heading #{anchor}")
    return found


def wrapped(text: str) -> str:
    """The text with each paragraph and list item that has too long a line wrapped; nothing else changed."""
    done: list[str] = []
    for is_prose, rows in groupby(prose(text), key=lambda row: row[2]):
        lines = [line for _, line, _ in rows]
        if not is_prose:
            done += lines
            continue
        for block in _blocks(lines):
            done += _wrap(block) if any(len(line) > WIDTH for line in block) else block
    return "\n".join(done) + "\n"


def _blocks(lines: list[str]) -> list[list[str]]:
    blocks: list[list[str]] = []
    for line in lines:
        starts = ITEM.fullmatch(line)[2] is not None
        if starts or not blocks:
            blocks.append([line])
        else:
            blocks[-1].append(line)
    return blocks


def _wrap(block: list[str]) -> list[str]:
    indent, mark, first = ITEM.fullmatch(block[0]).groups("")
    rest = indent + " " * len(mark)
    # Spaces inside code stay with it: a break there would show.
    words = CODE.sub(lambda code: code[0].replace(" ", "\0"), " ".join([first, *map(str.strip, block[1:])]))
    lines = wrap(words, WIDTH, initial_indent=indent + mark, subsequent_indent=rest, break_long_words=False,
                 break_on_hyphens=False)  # fmt: skip
    return [line.replace("\0", " ") for line in lines]


def main() -> int:
    if "--wrap" in sys.argv[1:]:
        for page in PAGES:
            text = page.read_text("utf-8")
            if (new := wrapped(text)) != text:
                page.write_text(new, "utf-8")
    found = [complaint for page in PAGES for complaint in complaints(page)]
    print("\n".join(found) or f"{len(PAGES)} documents: lines, links and anchors are right")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
