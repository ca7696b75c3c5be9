"""A recipe's text, prepared: its tokenizer and the token stores of its two splits, built once and then found."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clm.config.recipe import DataOptions
from clm.data import tokenizer
from clm.data.sources import splits
from clm.data.sources.documents import Notes, Source
from clm.data.sources.holdout import Side
from clm.data.store import builder, token_store
from clm.data.store.token_store import TokenStore
from clm.errors import UserError
from clm.files import read_json_object
from clm.progress import Say
from clm.rollback import Rollback

if TYPE_CHECKING:  # take seconds to import
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

TOKENIZERS = Path("tokenizer")
DEFAULT_VOCAB_SIZE = 32_000
MOST_HELD_OUT = 2  # times the share that was asked for, without a word
LATER_OPTIONS = ("text_encoding", "csv_delimiter")  # of reading files, since 0.2.0


@dataclass(frozen=True)
class Prepared:
    """What training needs of the text. `identity` names text and tokenizer: a resumed run must have the same ones."""

    tokenizer: PreTrainedTokenizerBase
    tokenizer_origin: str
    train: TokenStore
    validation: TokenStore
    identity: dict[str, Any]


def digest(fingerprint: dict) -> str:
    """A short name for a fingerprint, the same for equal ones."""
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()[:16]


def open_text(options: DataOptions, seed: int) -> splits.Splits:
    """The training and validation documents that a recipe names."""
    return splits.open_sources(
        dataset_name=options.dataset_name,
        dataset_config_name=options.dataset_config_name,
        dataset_revision=options.dataset_revision,
        streaming=options.streaming,
        train_file=options.train_file,
        validation_file=options.validation_file,
        text_column=options.text_column,
        text_encoding=options.text_encoding,
        csv_delimiter=options.csv_delimiter,
        document_separator=options.document_separator,
        validation_split_percentage=options.validation_split_percentage,
        seed=seed,
        cache_dir=options.cache_dir,
    )


def _trained_tokenizer(options: DataOptions, train: Source) -> tuple[Path, dict]:
    """Where a tokenizer trained for these documents and this size lives, and its fingerprint.

    The folder's name carries the fingerprint, so that another text or size never gets it by mistake.
    """
    vocab_size = options.vocab_size or DEFAULT_VOCAB_SIZE
    fingerprint = {
        "documents": train.fingerprint(),
        "vocab_size": vocab_size,
        "tokenizer_train_bytes": options.tokenizer_train_bytes,
        "version": tokenizer.TOKENIZER_VERSION,
    }
    return TOKENIZERS / f"{train.name}-{vocab_size}-{digest(fingerprint)[:8]}", fingerprint


def prepare_tokenizer(
    options: DataOptions, train: Source, say: Say, rollback: Rollback
) -> tuple[PreTrainedTokenizerBase, str]:
    """The recipe's tokenizer, loaded, found or trained; and where it came from. `rollback` covers one trained now.

    Raises:
        UserError: it can't be loaded or trained, or its size isn't the recipe's vocab_size.
    """
    if options.tokenizer_path:
        loaded = tokenizer.load(options.tokenizer_path, options.cache_dir)
        if options.vocab_size not in (None, len(loaded)):
            raise UserError(
                f"vocab_size is {options.vocab_size:,}, but the tokenizer at {options.tokenizer_path} has "
                f"{len(loaded):,} ids: leave vocab_size out or set it to that"
            )
        return loaded, options.tokenizer_path
    folder, fingerprint = _trained_tokenizer(options, train)
    with rollback.locked(folder):
        if tokenizer.trained_with(folder) == fingerprint:
            say(f"tokenizer: {folder}, trained before on these documents")
        else:
            say(f"tokenizer: training {fingerprint['vocab_size']:,} ids on {train.origin}")
            trained = tokenizer.train(train, fingerprint["vocab_size"], options.tokenizer_train_bytes, say)
            tokenizer.save(trained, folder, fingerprint)
            rollback.built(folder)
            say(f"tokenizer: saved as {folder}")
    return tokenizer.load(str(folder), options.cache_dir), str(folder)


def tokenizer_hash(tok: PreTrainedTokenizerBase) -> str:
    """The SHA-256 of what its tokenizer.json holds."""
    return _hash_of(tok.backend_tokenizer)


def _hash_of(tok: Tokenizer) -> str:
    return hashlib.sha256(tok.to_str().encode()).hexdigest()


def _store_of(options: DataOptions, source: Source, tok: Tokenizer, end_of_text: int, split: str) -> tuple[Path, dict]:
    """Where the token store of a split lives, and its fingerprint."""
    fingerprint = {
        "documents": source.fingerprint(),
        "tokenizer": _hash_of(tok),
        "end_of_text": end_of_text,
        "version": token_store.STORE_VERSION,
    }
    return Path(options.cache_dir) / "tokens" / f"{source.name}-{split}-{digest(fingerprint)}", fingerprint


def existing_store(options: DataOptions, train: Source) -> TokenStore | None:
    """The training split's store if an earlier run has built it; builds nothing."""
    if options.tokenizer_path:
        if not Path(options.tokenizer_path).is_dir():
            return None
        loaded = tokenizer.load(options.tokenizer_path, options.cache_dir)
        tok, end_of_text = loaded.backend_tokenizer, loaded.eos_token_id
    else:
        folder, fingerprint = _trained_tokenizer(options, train)
        if tokenizer.trained_with(folder) != fingerprint:
            return None
        tok = tokenizer.definition(folder)
        end_of_text = tok.token_to_id(tokenizer.END_OF_TEXT)
    store, fingerprint = _store_of(options, train, tok, end_of_text, "train")
    return TokenStore(store) if builder.is_built(store, fingerprint) else None


def store_of_dataset(options: DataOptions, vocab_size: int) -> TokenStore | None:
    """A training store of the recipe's Hub dataset that an earlier run has built; needs no network."""
    wanted = (options.dataset_name, options.dataset_config_name, "train")
    for path in sorted((Path(options.cache_dir) / "tokens").glob("*/store.json")):
        fingerprint = read_json_object(path).get("fingerprint", {})
        documents = fingerprint.get("documents", {})
        found = tuple(documents.get(key) for key in ("repository", "config", "split"))
        if found == wanted and fingerprint.get("version") == token_store.STORE_VERSION:
            store = TokenStore(path.parent)
            if store.vocab_size == vocab_size:
                return store
    return None


def known_identity(options: DataOptions, text: splits.Splits) -> dict[str, Any]:
    """As much of `Prepared.identity` as is known before any text is read."""
    named = {"train": text.train.fingerprint(), "validation": text.validation.fingerprint()}
    known = {"text": digest(_anywhere(named))}
    if options.vocab_size or not options.tokenizer_path:
        known["vocab_size"] = options.vocab_size or DEFAULT_VOCAB_SIZE
    return known


def _anywhere(fingerprint: Any) -> Any:
    """A fingerprint without what differs where the text may still be the same, so that its run can go on.

    That is the paths and dates of files, as of copies on two machines; and what runs of an earlier version don't know:
    later options that aren't set, and how files were read then. The ids show whether that was different (`tokens`).
    """
    if not isinstance(fingerprint, dict):
        return fingerprint
    sizes = {"files": [size for _, size, _ in fingerprint["files"]]} if "files" in fingerprint else {}
    unset = [key for key in LATER_OPTIONS if fingerprint.get(key) is None]
    kept = {key: value for key, value in fingerprint.items() if key not in ("reading", *unset)}
    return {key: _anywhere(value) for key, value in kept.items()} | sizes


def _notes(text: splits.Splits, stores: dict[str, TokenStore]) -> Notes:
    """What was noted when the text was read. Where both splits come from one text, it was read for each of them."""
    train, validation = stores["train"].notes, stores["validation"].notes
    if isinstance(text.train, Side):
        return Notes(validation.found | train.found)
    train.update(validation)
    return train


def _too_much(percentage: float, stores: dict[str, TokenStore]) -> str | None:
    """A line where the documents that were chosen for validation are far more of the text than was asked for."""
    held, rest = stores["validation"].totals.bytes, stores["train"].totals.bytes
    if held <= MOST_HELD_OUT * percentage / 100 * (held + rest):
        return None
    return (
        f"warning: the validation text is {held / (held + rest):.0%} of the text instead of {percentage:g} %, as a few "
        "documents in it are long: give validation_file, or a document_separator that cuts them up"
    )


def prepare(options: DataOptions, text: splits.Splits, verify: bool, say: Say, rollback: Rollback) -> Prepared:
    """Tokenizer and token ids of a text. What is there already is used if its fingerprint is the same.

    Raises:
        UserError: the text, the tokenizer or their settings are at fault.
    """
    for line in text.left_out:
        say(line)
    tok, origin = prepare_tokenizer(options, text.train, say, rollback)
    stores = {}
    for split in ("train", "validation"):
        source = getattr(text, split)
        folder, fingerprint = _store_of(options, source, tok.backend_tokenizer, tok.eos_token_id, split)
        stores[split] = token_store.open_or_build(folder, source, tok, fingerprint, verify, say, rollback)
    ids = {split: [part["tokens_xxh3_128"] for part in store.parts] for split, store in stores.items()}
    if ids["train"] == ids["validation"]:
        raise UserError(f"{text.validation.origin}: holds the very text of {text.train.origin}; a text can't be both")
    for line in _notes(text, stores).lines:
        say(line)
    if text.note:  # exact only now that the text was read
        say(text.note)
    if isinstance(text.validation, Side) and (line := _too_much(text.validation.holdout.percentage, stores)):
        say(line)
    identity = {
        **known_identity(options, text),
        "vocab_size": len(tok),
        "tokenizer": tokenizer_hash(tok)[:16],
        "tokens": digest(ids),
    }
    return Prepared(tok, origin, stores["train"], stores["validation"], identity)
