"""A run's tokenizer and its packed text, as repositories of their own."""

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import CommitOperationAdd, DatasetCardData, HfApi

from clm.config.recipe import Recipe, load
from clm.data.prepare import open_text, prepare
from clm.data.store.token_store import TokenStore
from clm.errors import UserError
from clm.hub.access import Target, open_repository
from clm.progress import Say, StepProgress
from clm.rollback import Rollback

SHARD_TOKENS = 100_000_000
_GROUP_TOKENS = 1_000_000  # of a row group, which is what a reader holds in memory


def push_tokenizer(api: HfApi, run_dir: Path, target: Target) -> str:
    """Push a run's tokenizer so that AutoTokenizer loads it; the commit's address.

    Raises:
        UserError: the folder has none, or the Hub refuses.
    """
    files = sorted(run_dir.glob("tokenizer*.json"))
    if not files:
        raise UserError(f"{run_dir}: it has no tokenizer.json: the run isn't finished, or this isn't a run's folder")
    name = open_repository(api, target)
    card = (
        f"---\nlibrary_name: transformers\n---\n\n# {name}\n\nA tokenizer: `AutoTokenizer.from_pretrained({name!r})`.\n"
    )
    additions = [CommitOperationAdd(path.name, path) for path in files]
    additions.append(CommitOperationAdd("README.md", card.encode()))
    return api.create_commit(name, additions, commit_message="The tokenizer", revision=target.branch).commit_url


def push_dataset(api: HfApi, run_dir: Path, target: Target, say: Say) -> str:
    """Push both splits of a run's text, packed as it was trained on; the commit's address.

    They are made from the run's token stores, one shard at a time, which is on the disk until it is uploaded.

    Raises:
        UserError: the text is gone, or the Hub refuses.
    """
    recipe = load(run_dir / "recipe.json")
    with Rollback() as rollback:
        data = prepare(recipe.data, open_text(recipe.data, recipe.training["seed"]), False, say, rollback)
    name = open_repository(api, target, "dataset")
    additions = [CommitOperationAdd("README.md", _card(name, recipe, len(data.tokenizer)).encode())]
    with tempfile.TemporaryDirectory(dir=recipe.data.cache_dir) as folder:
        for split, store in (("train", data.train), ("validation", data.validation)):
            for shard in _shards(store, recipe.data.block_size, split, Path(folder)):
                addition = CommitOperationAdd(f"data/{shard.name}", shard)
                api.preupload_lfs_files(name, [addition], repo_type="dataset", revision=target.branch)
                shard.unlink()
                additions.append(addition)
    commit = api.create_commit(
        name, additions, commit_message="The packed text", repo_type="dataset", revision=target.branch
    )
    return commit.commit_url


def _shards(store: TokenStore, block_size: int, split: str, folder: Path) -> Iterator[Path]:
    """Parquet files with a column `input_ids`, a list of block_size ids in each row; the short last row is left out."""
    rows = store.tokens // block_size
    if rows == 0:
        raise UserError(f"the {split} text has {store.tokens:,} tokens, too few for one block of {block_size:,}")
    rows_per_shard, rows_per_group = (max(1, size // block_size) for size in (SHARD_TOKENS, _GROUP_TOKENS))
    count = math.ceil(rows / rows_per_shard)
    schema = pa.schema({"input_ids": pa.list_(pa.int32())})
    with StepProgress(f"packing {split}", count) as progress:
        for number in range(count):
            path = folder / f"{split}-{number:05d}-of-{count:05d}.parquet"
            last = min(rows, (number + 1) * rows_per_shard)
            with pq.ParquetWriter(path, schema, compression="zstd") as writer:
                for start in range(number * rows_per_shard, last, rows_per_group):
                    stop = min(last, start + rows_per_group)
                    ids = store.span(start * block_size, stop * block_size).astype(np.int32)
                    offsets = np.arange(stop - start + 1, dtype=np.int32) * block_size
                    writer.write_table(pa.table({"input_ids": pa.ListArray.from_arrays(offsets, ids)}, schema=schema))
            progress.step()
            yield path


def _card(name: str, recipe: Recipe, vocab_size: int) -> str:
    data = DatasetCardData(
        license=recipe.run.license or "unknown",
        language=recipe.run.language,
        task_categories=["text-generation"],
        pretty_name=name,
    )
    source, size = recipe.data.dataset_name or "the author's own text", recipe.data.block_size
    tokenizer = recipe.data.tokenizer_path or "one trained on the training split"
    return f"""---
{data.to_yaml()}
---

# {name}

Token ids of {source}, packed end to end: each row's `input_ids` are {size:,} ids, documents are followed by
`<|endoftext|>`, and nothing is dropped but a short last row of each split. The tokenizer, of {vocab_size:,} ids, is
{tokenizer}.

```python
from datasets import load_dataset

load_dataset("{name}", split="train", streaming=True)
```
"""
