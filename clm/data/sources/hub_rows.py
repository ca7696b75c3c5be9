"""A dataset of the Hugging Face Hub, or a copy of it in the cache, as sources of documents."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from clm.data.sources.documents import DOCUMENTS_VERSION, NAMED_SEPARATORS, Notes, NoText, split_rows
from clm.data.sources.downloads import hub_cache
from clm.data.sources.files import safe_name
from clm.data.sources.packed import Batch, gather
from clm.data.sources.readers.columns import no_column
from clm.data.sources.readers.parquet import path_to, rows_at_once, texts_of
from clm.errors import MachineError, UserError


class HubSource:
    """The documents of one split. Its rows are documents unless a separator says otherwise."""

    def __init__(self, dataset: Any, identity: dict, text_column: str, separator: str | None) -> None:
        """Take a `datasets` Dataset or IterableDataset and what it is: repository, config, split, commit."""
        self.dataset = dataset
        self.identity = identity
        self.text_column = text_column
        self.separator = separator
        repository, config, split = identity["repository"], identity["config"], identity["split"]
        self.name = safe_name(config if config and config != "default" else repository.split("/")[-1])
        self.origin = ", ".join(part for part in (repository, config, split) if part)
        self.size_bytes = None
        self.bytes_read = 0
        self.notes = Notes()
        self.batch_size = 1000
        columns = dataset.column_names
        if columns is not None and not {text_column, text_column.split(".")[0]} & set(columns):
            raise no_column(self.origin, text_column, [(name, "") for name in columns])
        if hasattr(dataset, "data"):  # on disk, not streamed
            outer = text_column if text_column in columns else text_column.split(".")[0]
            self.dataset = dataset.select_columns([outer])
            self.size_bytes = self.dataset.data.nbytes
            row_bytes = self.size_bytes // max(1, len(dataset))
            self.batch_size = rows_at_once(row_bytes)

    def fingerprint(self) -> dict:
        """Repository, config, split and commit, and how the rows are read."""
        return {
            **self.identity,
            "text_column": self.text_column,
            "separator": self.separator,
            "documents": DOCUMENTS_VERSION,
        }

    def documents(self) -> Iterator[Batch]:
        """All documents, in order. Raises UserError for rows that aren't texts, or no text at all."""
        self.bytes_read, self.notes = 0, Notes()
        empty = True
        try:
            for batch in gather(split_rows(self._rows(), self.separator)):
                empty = False
                yield batch
        except (OSError, HTTPError) as error:
            raise MachineError(
                f"{self.origin}: reading it failed ({_line(error)}); run the same command again"
            ) from None
        if empty:
            raise NoText(f"{self.origin}: holds no text")

    def parts(self) -> list["HubSource"]:
        """A streamed dataset's shards, unless documents may go on from one shard to the next."""
        if not hasattr(self.dataset, "num_shards") or self.separator in NAMED_SEPARATORS:
            return [self]
        shards = self.dataset.num_shards
        return [
            HubSource(self.dataset.shard(shards, number), self.identity, self.text_column, self.separator)
            for number in range(shards)
        ]

    def _rows(self) -> Iterator[list[str]]:
        number = 0
        for table in self.dataset.with_format("arrow").iter(self.batch_size):
            names = path_to(self.text_column, table.schema, self.origin)
            column = table.column(names[0])
            yield texts_of(column, names, f"{self.origin}, row", number, self.notes)
            number += table.num_rows
            self.bytes_read += column.nbytes


def load_splits(
    name: str, config: str | None, revision: str | None, streaming: bool, cache_dir: Path
) -> tuple[dict[str, Any], dict]:
    """A dataset's splits by name, and what identifies it: repository, config and commit.

    Raises UserError for what the Hub doesn't have or doesn't let us have, and where neither the Hub can be
    reached nor a copy is in the cache.
    """
    import datasets  # a second to import, and only Hub data needs it

    if Path(name).exists():
        raise UserError(f"dataset_name: {name} is a file or folder here; give it as train_file")
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    constants.HF_HUB_CACHE = hub_cache(cache_dir)  # `datasets` has no argument for it
    commit, unreachable = _newest_commit(name, revision)
    wanted = f"{name}, {config}" if config else name
    try:
        with _offline(datasets.config, bool(unreachable)):
            splits = datasets.load_dataset(
                name,
                config,
                revision=commit,
                streaming=streaming and not unreachable,  # a copy in the cache needs no streaming
                cache_dir=str(cache_dir / "datasets"),
            )
    except (datasets.exceptions.DatasetsError, ValueError, RuntimeError, OSError, HTTPError) as error:
        if unreachable:
            raise UserError(
                f"dataset_name: the Hub can't be reached ({unreachable}) and cache_dir {cache_dir} has no "
                f"copy of {wanted}; offline, use train_file with your own files, or dataset_name python-docs"
            ) from None
        fault = f"dataset_name: {wanted} can't be loaded: {_line(error)}"
        raise UserError(f"{fault}; see `hf auth login`" if "gated" in str(error) else fault) from None
    found = _cached_commit(splits) or commit
    if unreachable and re.fullmatch("[0-9a-f]{40}", revision or "") and found != revision:
        raise UserError(f"dataset_revision: the Hub can't be reached ({unreachable}) and the cached copy is {found}")
    return dict(splits), {"repository": name, "config": config, "commit": found}


def _newest_commit(name: str, revision: str | None) -> tuple[str | None, str]:
    """The commit that the Hub has, or why the Hub can't be reached."""
    try:
        return HfApi().dataset_info(name, revision=revision, timeout=10).sha, ""
    except GatedRepoError:
        raise UserError(f"dataset_name: {name} is gated; ask for access on its page, then `hf auth login`") from None
    except RepositoryNotFoundError:
        raise UserError(
            f"dataset_name: there is no dataset {name}, or it is private; check the name, or `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise UserError(f"dataset_revision: {name} has no revision {revision}") from None
    except HFValidationError as error:
        raise UserError(f"dataset_name: {_line(error)}") from None
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise UserError(f"dataset_name: the Hub refuses {name} ({_line(error)}); `hf auth login`") from None
        return None, _line(error)
    except (OSError, HTTPError) as error:  # offline mode, no route, a timeout
        return None, _line(error)


@contextmanager
def _offline(settings: Any, offline: bool) -> Iterator[None]:
    """Make `datasets` use its cache at once. Without a network it would try the Hub for half a minute first."""
    before = settings.HF_HUB_OFFLINE
    settings.HF_HUB_OFFLINE = before or offline
    try:
        yield
    finally:
        settings.HF_HUB_OFFLINE = before


def _cached_commit(splits: dict[str, Any]) -> str | None:
    """The commit that the data came from: `datasets` keeps them in a folder of its name."""
    names = [file["filename"] for split in splits.values() for file in getattr(split, "cache_files", [])]
    commits = re.findall(r"[/\\]([0-9a-f]{40})[/\\]", names[0]) if names else []
    return commits[-1] if commits else None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
