"""`python -m clm evaluate`: a model's numbers on a text, with what they divide by and how sure they are."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import PreTrainedModel
from transformers.utils import logging

from clm.config.fields import RANGES
from clm.data.sources.files import FileSource, Reading, find_files
from clm.data.sources.splits import Source, open_split, own_separator
from clm.errors import MachineError, UserError
from clm.evaluation import published
from clm.evaluation.display import UNITS, result_page
from clm.evaluation.forward import positions_of, probe
from clm.evaluation.intervals import bootstrap
from clm.evaluation.loading import check_weights, first_token, load_model
from clm.evaluation.scoring import Documents, Score, document_nats, precision
from clm.evaluation.text import EncodedText, encode
from clm.files import read_json, write_json
from clm.launch import hardware, preflight
from clm.launch.writable import check_output
from clm.progress import Say

DEFAULT_BLOCK_SIZE = 1024


def run(args: argparse.Namespace) -> None:
    """Score, print, write.

    Raises:
        UserError: the model, the text or an option is at fault.
        MachineError: memory ran out.
    """
    if args.output is not None:
        check_output(args.output)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    recipe = read_json(Path(args.model) / "recipe.json")
    recipe = recipe if isinstance(recipe, dict) else {}
    decision = hardware.fit({"bf16": args.bf16, "tf32": False}, trains=False)
    state = PartialState(cpu=hardware.device_type({}) == "cpu")
    preflight.check_processes()
    say: Say = partial(print, flush=True) if state.is_main_process else lambda _: None
    source, separator = open_source(args, recipe, say)
    for line in decision.lines:
        say(line)
    model, tokenizer = load_model(args.model)
    check_weights(model, tokenizer, args.model)
    block_size, stride = windows_asked_for(args, model, recipe)
    first_id, first_name = first_token(tokenizer, args.model)
    text = encode(source, tokenizer, state.is_main_process, say)
    for line in source.notes.lines:
        say(line)
    if not text.tokens.any():
        raise UserError(f"{source.origin}: its tokenizer makes no token of it")
    bf16 = bool(decision.training["bf16"])
    nats = score(model.to(state.device), args, text, first_id, block_size, stride, bf16)
    sums = (text.tokens, text.words, text.bytes)
    metrics = Score(float(nats.sum()), *(int(counts.sum()) for counts in sums)).metrics()
    compared = published.rows(metrics, which_text(args, metrics), model.num_parameters(), alone=trained_alone(recipe))
    result = {
        **metrics,
        "eval_documents": len(nats),
        "intervals_95": bootstrap(nats, *sums),
        "divided_by": {key: what.format(**metrics) for key, (_, what) in UNITS.items() if key in metrics},
        "model": args.model,
        "text": source.origin,
        "text_form": getattr(which_text(args, metrics), "form", None),
        "document_separator": separator,
        "document_starts_from": first_name,
        "block_size": block_size,
        "stride": stride,
        "precision": "bf16" if bf16 else "fp32",
    }
    say(result_page(result))
    if compared:
        say(f"\n{published.table(compared)}")
    if args.output is not None and state.is_main_process:
        write_json(args.output, {**result, "published": compared})


def open_source(args: argparse.Namespace, recipe: dict[str, Any], say: Say) -> tuple[Source, str | None]:
    """The text, unread, and what ends a document in it: as asked for, else as in the model's own run."""
    separator = args.document_separator or recipe.get("document_separator") or own_separator(
        args.dataset_name or recipe.get("dataset_name") or ""
    )  # fmt: skip
    separator = None if args.document_separator == "none" else separator
    if args.text_file:
        how = Reading(args.text_column, separator, args.text_encoding, args.csv_delimiter)
        for key in ("text_encoding", "csv_delimiter"):
            value = getattr(args, key)
            if value is not None and not RANGES[key][0](value):
                raise UserError(f"--{key} {value}: it must be {RANGES[key][1]}")
        paths, left_out = find_files(args.text_file, "--text_file")
        for line in left_out:
            say(line)
        return FileSource(paths, how, Path(args.cache_dir)), separator
    with PartialState().local_main_process_first():
        split = open_split(
            args.dataset_name, args.dataset_config_name, args.split, args.text_column, separator, Path(args.cache_dir)
        )
    return split, separator


def windows_asked_for(args: argparse.Namespace, model: PreTrainedModel, recipe: dict[str, Any]) -> tuple[int, int]:
    """Block size and stride: as asked for, else the model's positions (the run's block_size) in disjoint blocks."""
    positions = positions_of(model)
    block_size = args.block_size or recipe.get("block_size") or min(positions or DEFAULT_BLOCK_SIZE, DEFAULT_BLOCK_SIZE)
    if positions and block_size > positions:
        raise UserError(f"--block_size {block_size:,}: {args.model} has only {positions:,} positions")
    stride = args.stride or block_size
    if stride > block_size:
        raise UserError(f"--stride {stride:,} is more than block_size {block_size:,}: tokens would be left out")
    return block_size, stride


def score(
    model: PreTrainedModel,
    args: argparse.Namespace,
    text: EncodedText,
    first_id: int,
    block_size: int,
    stride: int,
    bf16: bool,
) -> Any:
    """Nats of each document, (documents,) float64."""
    documents = Documents(text, text.starts, text.tokens, first_id)
    try:
        with precision(model.device):
            losses = probe(model, args.model)
        with precision(model.device, bf16):
            return document_nats(losses, documents, block_size, stride, args.per_device_eval_batch_size, model.device)
    except torch.OutOfMemoryError:
        raise MachineError("out of memory: lower --per_device_eval_batch_size or --block_size") from None


def which_text(args: argparse.Namespace, metrics: dict[str, Any]) -> published.Wikitext103 | None:
    """What the text is of WikiText-103, if it is of it."""
    if args.text_file:
        return published.text_with(metrics["eval_words"], metrics["eval_bytes"])
    return published.which_text(args.dataset_name, args.dataset_config_name, args.split)


def trained_alone(recipe: dict[str, Any]) -> bool | None:
    """Whether the model trained on WikiText-103 alone; None where no recipe tells."""
    if not recipe:
        return None
    return published.which_text(recipe.get("dataset_name"), recipe.get("dataset_config_name"), "test") is not None
