"""The byte-level BPE tokenizer: train it, save it, load it."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from clm.data.sources.documents import Source
from clm.data.sources.downloads import hub_cache, why_unreachable
from clm.errors import UserError
from clm.files import read_json
from clm.progress import ByteProgress, Say

if TYPE_CHECKING:  # takes seconds to import
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
FINGERPRINT_FILE = "fingerprint.json"
TOKENIZER_VERSION = 2  # raise it when the settings below change; then tokenizers are trained again


def train(source: Source, vocab_size: int, max_bytes: int, say: Say) -> PreTrainedTokenizerFast:
    """Learn a vocabulary of `vocab_size` ids from the documents, or from about `max_bytes` of them.

    The 256 bytes are in it from the start, so any text encodes and decodes without loss. END_OF_TEXT is bos, eos and
    unk. The same documents give the same tokenizer.

    Raises:
        UserError: the text has too few different words for so many ids.
    """
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    with ByteProgress("reading for the tokenizer", source.size_bytes) as progress:
        tokenizer.train_from_iterator(_sample(source, max_bytes, progress, say), trainer)
    if tokenizer.get_vocab_size() < vocab_size:
        raise UserError(
            f"vocab_size is {vocab_size:,}, but the training text yields only {tokenizer.get_vocab_size():,} ids: "
            "give more text or a smaller vocab_size"
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )


def _sample(source: Source, max_bytes: int, progress: ByteProgress, say: Say) -> Iterator[list[str]]:
    """Texts of about `max_bytes` in all, so that training memory has a bound.

    They are spread over a text whose size on disk is known, and are the same ones every time. Of other texts, and of
    compressed ones, they are the first.
    """
    part = min(1.0, max_bytes / source.size_bytes) if source.size_bytes else 1.0
    seen = taken = 0
    for batch in source.documents():
        texts = []
        for text in batch.texts:
            size = len(text.encode())
            if taken <= part * seen:
                texts.append(text)
                taken += size
            seen += size
        yield texts
        progress.at(source.bytes_read)
        if taken >= max_bytes:
            break
    if taken < seen or taken >= max_bytes:
        where = "spread over the text" if part < 1 else "at its beginning"
        say(f"tokenizer: learnt from {taken:,} bytes of documents {where} (tokenizer_train_bytes)")


def load(path_or_repo: str, cache_dir: str) -> PreTrainedTokenizerBase:
    """A tokenizer from a folder or the Hub, its end-of-text token in place; never runs code from there.

    Raises:
        UserError: it isn't there, doesn't load, isn't a fast tokenizer, or has no end-of-text token.
    """
    from transformers import AutoTokenizer

    unreachable = "" if Path(path_or_repo).is_dir() else why_unreachable(path_or_repo, "tokenizer_path")
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path_or_repo,
            trust_remote_code=False,
            cache_dir=hub_cache(cache_dir),
            local_files_only=bool(unreachable),
        )
    except MemoryError:
        raise
    except Exception as error:  # the packages raise all kinds for a damaged file, tokenizers Exception itself
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if unreachable:
            reason = f"the Hub can't be reached: {unreachable}; offline, give a folder or leave tokenizer_path out"
        raise UserError(
            f"tokenizer_path {path_or_repo!r}: no tokenizer could be loaded from there ({reason})"
        ) from None
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise UserError(f"tokenizer_path {path_or_repo!r}: not a fast tokenizer (no tokenizer.json)")
    if tokenizer.eos_token_id is None:
        raise UserError(f"tokenizer_path {path_or_repo!r}: it has no end-of-text token (eos_token)")
    if tokenizer.pad_token == tokenizer.eos_token:  # of a run's folder (`write`): Trainer would put it into the model's
        tokenizer.pad_token = None  # config, which that leaves it out of for a reason (gpt2.generation_config)
    return tokenizer


def definition(folder: Path) -> Tokenizer:
    """What the tokenizer.json in `folder` holds: all of a tokenizer of ours, without transformers, which loads slowly.

    Raises:
        UserError: it is damaged.
    """
    try:
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # tokenizers raises nothing more particular
        raise UserError(f"{folder}: its tokenizer.json can't be read ({error}): delete that folder") from None


def trained_with(folder: Path) -> dict | None:
    """The fingerprint that a tokenizer of ours was saved with; None if there is none at `folder`."""
    return read_json(folder / FINGERPRINT_FILE)


def write(tokenizer: PreTrainedTokenizerBase, folder: Path, context: int | None = None) -> None:
    """`save_pretrained`, with a class name that transformers 4 knows too: many tools still use that version.

    Args:
        context: the positions of the model that it is saved with, if it is. Then it can also pad a batch, on the left,
            where generation needs it. Only tokenizer_config.json says so: no text gets other ids, and tokenizer.json,
            by which a run knows its tokenizer, is the same.
    """
    try:
        tokenizer.save_pretrained(folder)
    except Exception as error:
        if found := re.search(r"os error (\d+)", str(error)):  # tokenizers has no OSError of its own
            raise OSError(int(found[1]), os.strerror(int(found[1])), str(folder)) from None
        raise
    path = folder / "tokenizer_config.json"
    settings = read_json(path)
    if settings.get("tokenizer_class") == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    if context is not None:
        settings |= {"model_max_length": context, "padding_side": "left"}
        settings.setdefault("pad_token", tokenizer.eos_token)
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", "utf-8")


def save(tokenizer: PreTrainedTokenizerBase, folder: Path, fingerprint: dict) -> None:
    """Save a trained tokenizer as `folder`, whole or not at all: it is written to a staging folder and renamed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        write(tokenizer, staging)
        (staging / FINGERPRINT_FILE).write_text(json.dumps(fingerprint, indent=2) + "\n", "utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
