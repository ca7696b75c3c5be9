"""`python -m clm evaluate`: a model's numbers on a text, or those of several models' mean, and how sure they are."""

import argparse
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import PreTrainedModel
from transformers.utils import logging

from clm.config.keys import is_allowed
from clm.config.limits import RANGES
from clm.data.sources.files import FileSource, Reading, find_files
from clm.data.sources.splits import Source, open_split, own_separator
from clm.errors import MachineError, UserError
from clm.evaluation import published
from clm.evaluation.display import UNITS, result_page
from clm.evaluation.forward import mean_of, positions_of, probe
from clm.evaluation.intervals import bootstrap
from clm.evaluation.members import load_members
from clm.evaluation.scoring import Documents, Score, document_nats, precision
from clm.evaluation.text import EncodedText, encode
from clm.files import read_json_object, write_json
from clm.launch import hardware, preflight
from clm.launch.writable import check_output
from clm.model.loading import first_token
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
    recipes = [recipe_of(name) for name in args.model]
    recipe = recipes[0]
    decision = hardware.fit({"bf16": args.bf16, "tf32": False}, trains=False)
    state = PartialState(cpu=hardware.device_type({}) == "cpu")
    preflight.check_processes()
    say: Say = partial(print, flush=True) if state.is_main_process else lambda _: None
    source, separator = open_source(args, recipe, say)
    for line in decision.lines:
        say(line)
    models, tokenizer = load_members(args.model)
    block_size, stride = windows_asked_for(args, models, recipe)
    first_id, first_name = first_token(tokenizer, args.model[0])
    text = encode(source, tokenizer, state.is_main_process, say)
    for line in source.notes.lines:
        say(line)
    if not text.tokens.any():
        raise UserError(f"{source.origin}: its tokenizer makes no token of it")
    bf16 = bool(decision.training["bf16"])
    with _enough_memory():
        for model in models:
            model.to(state.device)
        nats = score(models, args, text, first_id, block_size, stride, bf16)
    sums = (text.tokens, text.words, text.bytes)
    metrics = Score(float(nats.sum()), *(int(counts.sum()) for counts in sums)).metrics()
    parameters, alone = sum(model.num_parameters() for model in models), trained_alone(recipes)
    compared = published.rows(metrics, which_text(args, metrics), parameters, alone=alone)
    result = {
        **metrics,
        "eval_documents": len(nats),
        "intervals_95": bootstrap(nats, *sums),
        "divided_by": {key: what.format(**metrics) for key, (_, what) in UNITS.items() if key in metrics},
        "model": args.model[0] if len(models) == 1 else f"mean of {', '.join(args.model)}",
        **({"members": args.model} if len(models) > 1 else {}),
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


def recipe_of(name: str) -> dict[str, Any]:
    """The keys of the recipe in a run's folder; none where there is no recipe, or a file of that name is another's."""
    recipe = read_json_object(Path(name) / "recipe.json")
    return {key: value for key, value in recipe.items() if is_allowed(key, value)}


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


def windows_asked_for(
    args: argparse.Namespace, models: Sequence[PreTrainedModel], recipe: dict[str, Any]
) -> tuple[int, int]:
    """Block size and stride: as asked for, else the models' positions (the run's block_size) in disjoint blocks."""
    known = [(positions_of(model) or math.inf, name) for model, name in zip(models, args.model, strict=True)]
    positions, shortest = min(known)
    block_size = args.block_size or recipe.get("block_size") or min(positions, DEFAULT_BLOCK_SIZE)
    if block_size > positions:
        raise UserError(f"--block_size {block_size:,}: {shortest} has only {positions:,} positions")
    stride = args.stride or block_size
    if stride > block_size:
        raise UserError(f"--stride {stride:,} is more than block_size {block_size:,}: tokens would be left out")
    return block_size, stride


def score(
    models: Sequence[PreTrainedModel],
    args: argparse.Namespace,
    text: EncodedText,
    first_id: int,
    block_size: int,
    stride: int,
    bf16: bool,
) -> Any:
    """Nats of each document, (documents,) float64."""
    documents, device = Documents(text, text.starts, text.tokens, first_id), models[0].device
    with precision(device):
        losses = mean_of([probe(model, name) for model, name in zip(models, args.model, strict=True)])
    with precision(device, bf16):
        return document_nats(losses, documents, block_size, stride, args.per_device_eval_batch_size, device)


@contextmanager
def _enough_memory() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise MachineError(
            "out of memory: lower --per_device_eval_batch_size or --block_size, or set ACCELERATE_USE_CPU=true"
        ) from None


def which_text(args: argparse.Namespace, metrics: dict[str, Any]) -> published.Wikitext103 | None:
    """What the text is of WikiText-103, if it is of it."""
    if args.text_file:
        return published.text_with(metrics["eval_words"], metrics["eval_bytes"])
    return published.which_text(args.dataset_name, args.dataset_config_name, args.split)


def trained_alone(recipes: Sequence[dict[str, Any]]) -> bool | None:
    """Whether the models trained on WikiText-103 alone; None where the recipes don't tell."""
    if not all(recipes):
        return None
    trained_on = [(recipe.get("dataset_name"), recipe.get("dataset_config_name")) for recipe in recipes]
    return all(published.which_text(*names, "test") is not None for names in trained_on)
