"""A text made by code: of more words than the largest vocabulary here has ids."""

import random
from pathlib import Path

WORDS, LINE = 50_000, 120  # different ones, and how many a line has
LETTERS = "etaoinshrdlucmfwypvbgkjqxz"


def made(folder: Path, size: int) -> tuple[Path, Path]:
    """A text of about so many bytes and a held-out one, each line a document; made once."""
    files = folder / f"text-{size}.txt", folder / "held-out.txt"
    if not all(file.exists() for file in files):
        folder.mkdir(parents=True, exist_ok=True)
        chance = random.Random(0)
        words = ["".join(chance.choices(LETTERS, k=chance.randint(2, 10))) for _ in range(WORDS)]
        rarer = [1 / (rank + 10) for rank in range(WORDS)]  # as Zipf found it

        def lines(count: int) -> str:
            drawn = chance.choices(words, rarer, k=count * LINE)
            return "".join(" ".join(drawn[at : at + LINE]) + "\n" for at in range(0, len(drawn), LINE))

        for file, count in zip(files, (max(1, size // (LINE * 6)), max(1, size // 400_000)), strict=True):
            staging = file.with_suffix(".tmp")
            staging.write_text(lines(count), "utf-8")
            staging.replace(file)
    return files
