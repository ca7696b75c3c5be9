"""What a recipe will need, before it runs: parameters, steps, memory, time. Trains nothing, writes nothing."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from transformers import GPT2LMHeadModel

from clm.data.blocks import EpochSteps, count_samples, count_steps, tokens_trained
from clm.data.prepare import DEFAULT_VOCAB_SIZE, existing_store, open_text, store_of_dataset
from clm.data.token_store import TokenStore
from clm.errors import UserError
from clm.recipe import Recipe
from clm.training import hardware
from clm.training.flops import flops_per_token, measured_matmul_rate
from clm.training.loss import CHUNK_ELEMENTS
from clm.training.model import model_config

# Tokens of well-known training splits: (dataset, configuration, vocabulary) -> (tokens, where the count is from).
KNOWN_TOKENS = {
    ("Salesforce/wikitext", "wikitext-103-raw-v1", 32_000): (
        116_944_985,
        "known of a 32,000-id byte-level BPE trained on that split; another one differs by some tenths of a percent",
    ),
}
BYTES_PER_TOKEN = 4.2  # English under a BPE of tens of thousands of ids: an assumption, said where it is used
# Activations of a training step in bytes per token, width and layer: measured as the growth of the process in a
# forward pass of the 12 x 768 model on a CPU (4 x 1024 tokens, torch 2.13, no attention dropout), in bf16 and fp32.
ACTIVATION_BYTES = {True: 78, False: 133}
ASSUMED_UTILISATION = 0.4  # of the measured matmul rate: an assumption, said where it is used


@dataclass(frozen=True)
class Plan:
    """A recipe's needs. Sizes in bytes, time in seconds; `notes` say what is an estimate, and from what."""

    parameters: int
    non_embedding_parameters: int
    tokens_per_step: int
    sequences_per_step: int
    dataset_tokens: int
    samples_per_epoch: int
    full_steps_per_epoch: int
    short_last_step: bool
    steps: int
    training_tokens: int
    epochs: float
    flops: float
    memory_bytes: int
    seconds: float
    notes: dict[str, str]


def total_steps(epoch: EpochSteps, max_steps: int, num_train_epochs: float) -> int:
    """Optimizer steps of a whole run, as the Trainer counts them: max_steps, else the epochs' steps rounded up."""
    return max_steps if max_steps > 0 else math.ceil(num_train_epochs * max(epoch.total, 1))


def make(recipe: Recipe, dataset_tokens: int | None = None, processes: int = 1) -> Plan:
    """Work out a recipe's plan on this machine.

    Args:
        dataset_tokens: tokens of the training split; by default the store's, a known dataset's, or an estimate.
        processes: how many would train together.

    Raises:
        UserError: the recipe is at fault, or nothing tells how long the text is.
    """
    data, vocab_size = recipe.data, recipe.data.vocab_size or DEFAULT_VOCAB_SIZE
    tokens, tokens_from = (dataset_tokens, "given") if dataset_tokens else tokens_of_text(recipe, vocab_size)
    parameters = count_parameters(recipe, vocab_size)
    in_matmuls = parameters - data.block_size * recipe.model.n_embd
    batch = recipe.training.get("per_device_train_batch_size", 8)
    sequences = batch * recipe.accumulation(processes) * processes
    samples = count_samples(tokens, data.block_size, data.sampling)
    if samples == 0:
        raise UserError(f"{tokens:,} tokens are too few for one block of {data.block_size:,} and the token after it")
    epoch = count_steps(samples, sequences)
    steps = total_steps(epoch, recipe.training.get("max_steps", -1), recipe.training.get("num_train_epochs", 3.0))
    training_tokens = tokens_trained(steps, samples, sequences, data.block_size)
    flops = training_tokens * flops_per_token(in_matmuls, recipe.model.n_layer, recipe.model.n_embd, data.block_size)
    decision = hardware.fit(recipe.training).training
    seconds, rate_note = _time(flops / processes, hardware.device_type(decision), bool(decision["bf16"]))
    return Plan(
        parameters=parameters,
        non_embedding_parameters=parameters - embedding_parameters(recipe, vocab_size),
        tokens_per_step=sequences * data.block_size,
        sequences_per_step=sequences,
        dataset_tokens=tokens,
        samples_per_epoch=samples,
        full_steps_per_epoch=epoch.full,
        short_last_step=epoch.short,
        steps=steps,
        training_tokens=training_tokens,
        epochs=steps / epoch.total,
        flops=flops,
        memory_bytes=_memory(recipe, parameters, batch, vocab_size, bool(decision["bf16"])),
        seconds=seconds,
        notes={
            "dataset_tokens": tokens_from,
            "memory_bytes": "estimate: 16 bytes a parameter (weights, gradients, AdamW's two states in fp32) and "
            "activations in proportion to those measured for the 12 x 768 model on a CPU",
            "seconds": rate_note,
        },
    )


def count_parameters(recipe: Recipe, vocab_size: int) -> int:
    """All parameters of the recipe's model, a tied head counted once."""
    with torch.device("meta"):
        return GPT2LMHeadModel(model_config(recipe.model, recipe.data.block_size, vocab_size, 0)).num_parameters()


def embedding_parameters(recipe: Recipe, vocab_size: int) -> int:
    """Those of the token and position tables."""
    return (vocab_size + recipe.data.block_size) * recipe.model.n_embd


def find_store(recipe: Recipe, vocab_size: int) -> TokenStore | None:
    """The store of the recipe's training text, if an earlier run has built it; downloads nothing."""
    data = recipe.data
    if data.dataset_name not in (None, "python-docs"):
        return store_of_dataset(data, vocab_size)
    return existing_store(data, open_text(data, recipe.training["seed"]).train)


def tokens_of_text(recipe: Recipe, vocab_size: int) -> tuple[int, str]:
    """Tokens of the training text, and where that number is from: a store, a known dataset, or an estimate.

    Raises:
        UserError: nothing tells.
    """
    data, store = recipe.data, find_store(recipe, vocab_size)
    if store is not None:
        return store.tokens, f"the token store at {store.folder}"
    if data.dataset_name not in (None, "python-docs"):
        known = KNOWN_TOKENS.get((data.dataset_name, data.dataset_config_name, vocab_size))
        if known is None:
            raise UserError(f"{recipe.path}: how long {data.dataset_name} is isn't known; say it: --dataset_tokens N")
        return known
    train = open_text(data, recipe.training["seed"]).train
    size = train.size_bytes or sum(len(text.encode()) for batch in train.documents() for text in batch.texts)
    return int(size / BYTES_PER_TOKEN), f"estimate: {size:,} bytes at {BYTES_PER_TOKEN} bytes a token (assumed)"


def _memory(recipe: Recipe, parameters: int, batch: int, vocab_size: int, bf16: bool) -> int:
    model, tokens = recipe.model, batch * recipe.data.block_size
    activations = tokens * model.n_embd * model.n_layer * ACTIVATION_BYTES[bf16]
    loss = 3 * 4 * min(CHUNK_ELEMENTS, tokens * vocab_size)
    return 16 * parameters + activations + loss


def _time(flops: float, device: str, bf16: bool) -> tuple[float, str]:
    rate = measured_matmul_rate(device, torch.bfloat16 if bf16 else torch.float32)
    return flops / (rate * ASSUMED_UTILISATION), (
        f"estimate: {ASSUMED_UTILISATION:.0%} (assumed) of the {rate / 1e9:,.0f} GFLOP/s of a "
        f"{'bf16' if bf16 else 'fp32'} matmul measured here just now"
    )


def describe(plan: Plan) -> str:
    """The plan as a page for the terminal: what is an estimate has a ~, and its assumption below."""
    hours = plan.seconds / 3600
    about = "~" if plan.notes["dataset_tokens"].startswith("estimate") else ""
    rows = [
        ("parameters", f"{plan.parameters:,}", f"{plan.non_embedding_parameters:,} without embeddings"),
        ("tokens a step", f"{plan.tokens_per_step:,}", f"{plan.sequences_per_step:,} sequences"),
        ("training text", f"{about}{plan.dataset_tokens:,}", "tokens"),
        (
            "steps an epoch",
            f"{about}{plan.full_steps_per_epoch:,}",
            f"full ones{' and a short one' if plan.short_last_step else ''}, {plan.samples_per_epoch:,} samples",
        ),
        ("steps", f"{plan.steps:,}", f"{plan.epochs:.2f} epochs, {plan.training_tokens:,} tokens"),
        ("memory", f"~{plan.memory_bytes / 1e9:.1f} GB", "in each process"),
        ("time", f"~{hours:,.1f} h" if hours >= 1 else f"~{plan.seconds / 60:.1f} min", f"{plan.flops:.2e} FLOPs"),
    ]
    left, middle = (max(len(row[column]) for row in rows) for column in (0, 1))
    table = [f"{name:<{left}}  {value:>{middle}}  {what}" for name, value, what in rows]
    names = {"dataset_tokens": "training text", "memory_bytes": "memory", "seconds": "time"}
    return "\n".join([*table, "", *(f"{names[key]}: {note}" for key, note in plan.notes.items())])


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan's numbers under their names."""
    return asdict(plan)
