"""WikiText, made up: rows in the form of the Hub's, and the dataset with all its files for the test Hub."""

import functools
import io
import itertools
import random

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tests.hub_repo import Repo
from tests.hub_server import HubServer


@functools.cache
def lexicon() -> tuple[list[str], list[float]]:
    """50,000 made-up English words, the frequent ones short, and their cumulative Zipf weights."""
    rng = random.Random(0)
    starts = [*"bcdfghlmnprstw", "br", "ch", "cl", "fl", "gr", "pl", "pr", "sh", "st", "th", "tr"]
    ends = [*"aeiouy", "an", "ar", "el", "en", "er", "ing", "ion", "ist", "it", "on", "or", "ous", "ow"]
    words: dict[str, None] = {}
    while len(words) < 50_000:
        syllables = 1 + (len(words) >= 100) + (len(words) >= 15_000)
        words["".join(rng.choice(starts) + rng.choice(ends) for _ in range(syllables))] = None
    return list(words), list(itertools.accumulate(1 / (rank + 2.7) for rank in range(len(words))))


def sentence(rng: random.Random) -> str:
    vocabulary, weights = lexicon()
    words = rng.choices(vocabulary, cum_weights=weights, k=rng.randint(6, 30))
    words[0] = words[0].capitalize()
    place = rng.randrange(1, len(words) - 1)
    words[place] += rng.choice([" ,", " , and", " @-@ made", f" {rng.randint(1, 99)} @,@ 000", "", ""])
    return " ".join(words) + " ."


def wikitext_rows(articles: int, seed: int) -> list[str]:
    """Rows in the form of the Hub's WikiText: a line with its newline, or "" for a blank line.

    An article is some 700 words: ` = Title = ` and ` = = Section = = ` with blank lines on both sides. Every
    third one also has a text line that looks like a title but has no blank lines around it.
    """
    rng = random.Random(seed)
    vocabulary, weights = lexicon()

    def heading(marks: str) -> list[str]:
        words = rng.choices(vocabulary, cum_weights=weights, k=rng.randint(1, 4))
        return ["", f" {marks} {' '.join(words).title()} {marks} \n", ""]

    rows = []
    for article in range(articles):
        rows += heading("=")
        for section in range(rng.randint(1, 5)):
            if section:
                rows += heading("= =")
            for _ in range(rng.randint(1, 4)):
                rows.append(f" {' '.join(sentence(rng) for _ in range(rng.randint(2, 7)))} \n")
        if article % 3 == 2:
            rows += [" = Not A Title = \n", f" {sentence(rng)} \n"]
    return rows


def add_wikitext(hub: HubServer, train_rows: list[str], validation_rows: list[str], test_rows: list[str]) -> Repo:
    """Put Salesforce/wikitext with its config wikitext-103-raw-v1 on the server, laid out as the real one."""
    config, files, sizes, patterns = "wikitext-103-raw-v1", {}, [], []
    for split, rows in {"test": test_rows, "train": train_rows, "validation": validation_rows}.items():
        shards = 2 if split == "train" else 1
        for shard in range(shards):
            part = rows[len(rows) * shard // shards : len(rows) * (shard + 1) // shards]
            buffer = io.BytesIO()
            pq.write_table(pa.table({"text": pa.array(part, pa.string())}), buffer)
            files[f"{config}/{split}-{shard:05d}-of-{shards:05d}.parquet"] = buffer.getvalue()
        size = sum(len(row.encode()) for row in rows)
        sizes.append({"name": split, "num_bytes": size, "num_examples": len(rows)})
        patterns.append({"split": split, "path": f"{config}/{split}-*"})
    features = [{"name": "text", "dtype": "string"}]
    card = {
        "dataset_info": [{"config_name": config, "features": features, "splits": sizes}],
        "configs": [{"config_name": config, "data_files": patterns}],
    }
    files["README.md"] = f"---\n{yaml.safe_dump(card)}---\n\n# WikiText, made up\n".encode()
    return hub.add_repo("dataset", "Salesforce/wikitext", files)
