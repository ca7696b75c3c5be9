"""Where text comes from: a dataset of the Hub, files, or Python's own documentation; and its two splits."""

from dataclasses import dataclass, field
from pathlib import Path

from clm.data.sources.documents import Source
from clm.data.sources.files import FileSource, Found, Reading, find_files
from clm.data.sources.holdout import HoldOut, Side
from clm.data.sources.hub_rows import HubSource, load_splits
from clm.data.sources.packed import Batch
from clm.data.sources.python_docs import PythonDocs
from clm.errors import UserError

__all__ = ["Batch", "Source", "Splits", "open_sources"]

DEFAULT_PERCENTAGE = 5.0


@dataclass
class Splits:
    """The text to train on and the text to validate on."""

    train: Source
    validation: Source
    reason: str = ""  # how the validation text was chosen, where it isn't a part of the training text
    left_out: list[str] = field(default_factory=list)  # of the folders that were named, a line each

    @property
    def note(self) -> str:
        """One line on how the validation text was chosen; exact for a part once it was read."""
        return self.validation.holdout.note if isinstance(self.validation, Side) else self.reason


def open_sources(
    *,
    dataset_name: str | None,
    dataset_config_name: str | None,
    train_file: str | list[str] | None,
    validation_file: str | list[str] | None,
    text_column: str = "text",
    document_separator: str | None = None,
    text_encoding: str | None = None,
    csv_delimiter: str | None = None,
    streaming: bool = False,
    validation_split_percentage: float | None = None,
    seed: int = 42,
    cache_dir: str,
    dataset_revision: str | None = None,
) -> Splits:
    """The training and the validation text that a recipe names; reads none of it yet.

    The values are those of a checked recipe: either dataset_name or train_file is given.

    Validation is validation_file, else the dataset's own `validation` split, else validation_split_percentage
    (5 if not given) of the training documents. `streaming` leaves a Hub dataset on the Hub, and chooses the
    percentage without a first pass over the text. Raises UserError for what can't be found or opened.
    """
    how = Reading(text_column, document_separator, text_encoding, csv_delimiter)
    own_validation = None
    found = Found([], [])
    if train_file:
        found = find_files(train_file, "train_file")
        train: Source = FileSource(found.paths, how, Path(cache_dir))
    elif dataset_name == PythonDocs.name:
        train = PythonDocs(document_separator)
    else:
        train, own_validation = _open_hub(
            dataset_name,
            dataset_config_name,
            dataset_revision,
            streaming,
            Path(cache_dir),
            text_column,
            document_separator,
        )
    if validation_file:
        paths, notes = find_files(validation_file, "validation_file")
        trained_on = {path.resolve() for path in found.paths}
        if both := [path for path in paths if path.resolve() in trained_on]:
            raise UserError(f"validation_file: {both[0]} is in train_file too; a text can't be both")
        validation = FileSource(paths, how, Path(cache_dir))
        return Splits(train, validation, f"validation text: {validation.origin}", [*found.notes, *notes])
    if own_validation is not None:
        reason = f"validation text: {own_validation.origin}"
        if validation_split_percentage is not None:
            reason = f"{reason}; validation_split_percentage isn't used"
        return Splits(train, own_validation, reason)
    holdout = HoldOut(train, validation_split_percentage or DEFAULT_PERCENTAGE, seed, survey=not streaming)
    return Splits(Side(holdout, validation=False), Side(holdout, validation=True), left_out=found.notes)


def _open_hub(
    name: str,
    config: str | None,
    revision: str | None,
    streaming: bool,
    cache_dir: Path,
    text_column: str,
    separator: str | None,
) -> tuple[HubSource, HubSource | None]:
    separator = separator or own_separator(name)
    splits, identity = load_splits(name, config, revision, streaming, cache_dir)
    if "train" not in splits:
        raise UserError(f"dataset_name: {name} has no split `train`, only {', '.join(splits)}")
    sources = [
        HubSource(splits[split], {**identity, "split": split}, text_column, separator)
        for split in ("train", "validation")
        if split in splits
    ]
    return sources[0], sources[1] if len(sources) > 1 else None


def own_separator(dataset_name: str) -> str | None:
    """What ends a document in a dataset whose rows aren't documents: WikiText's are lines of articles."""
    return "article" if dataset_name.split("/")[-1].lower() == "wikitext" else None


def open_split(
    name: str, config: str | None, split: str, text_column: str, separator: str | None, cache_dir: Path
) -> HubSource:
    """One split of a dataset of the Hub. Raises UserError for what isn't there."""
    splits, identity = load_splits(name, config, None, False, cache_dir)
    if split not in splits:
        raise UserError(f"--split: {name} has no split {split!r}, only {', '.join(splits)}")
    return HubSource(splits[split], {**identity, "split": split}, text_column, separator)
