"""What a recipe will need, before it runs: parameters, steps, memory, time, money. Trains nothing, writes nothing."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from clm.config.recipe import Recipe
from clm.data.prepare import DEFAULT_VOCAB_SIZE
from clm.data.steps import count_samples, count_steps, tokens_trained, total_steps
from clm.data.text_size import tokens_of_text
from clm.errors import UserError
from clm.model.flops import flops_per_token
from clm.model.size import Parameters, parameters_of
from clm.plan import devices, memory
from clm.plan.devices import Device
from clm.plan.launches import Launch, launches
from clm.plan.memory import Shape
from clm.plan.teachers import forward_flops
from clm.plan.this_machine import this_device


@dataclass(frozen=True)
class Plan:
    """A recipe's needs. Sizes in bytes, time in seconds; `notes` say what is an estimate, and from what.

    `memory_bytes` of a device, `seconds` and `dollars` are those of the first of `launches`, the plain one. `remedy`
    is what makes that one fit, where it doesn't; None where nothing does.
    """

    device: str
    device_memory: float
    processes: int
    parameters: int
    non_embedding_parameters: int
    tokens_per_step: int
    sequences_per_step: int
    micro_batch: int
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
    dollars: float
    launches: dict[str, Launch]
    remedy: list[str] | None
    notes: dict[str, str]


def make(recipe: Recipe, dataset_tokens: int | None = None, processes: int = 1, device: Device | None = None) -> Plan:
    """Work out a recipe's plan.

    Args:
        dataset_tokens: tokens of the training split; by default the store's, a known dataset's, or an estimate.
        processes: how many would train together, each on a device of its own.
        device: what they would train on; by default what this machine has.

    Raises:
        UserError: the recipe is at fault, or nothing tells how long the text is.
    """
    data, vocab_size = recipe.data, recipe.data.vocab_size or DEFAULT_VOCAB_SIZE
    tokens, tokens_from = (dataset_tokens, "given") if dataset_tokens else tokens_of_text(recipe, vocab_size)
    device, bf16 = (device, bool(recipe.training["bf16"])) if device else this_device(recipe, processes)
    parameters = parameters_of(recipe, vocab_size)
    shape = _shape(recipe, parameters, vocab_size, processes, bf16)
    if device.cuda:
        shape = replace(shape, gpu_memory=device.memory)
    sequences = recipe.sequences_per_step(processes)
    samples = count_samples(tokens, data.block_size, data.sampling)
    if samples == 0:
        raise UserError(f"{tokens:,} tokens are too few for one block of {data.block_size:,} and the token after it")
    epoch = count_steps(samples, sequences)
    steps = total_steps(epoch, recipe.training.get("max_steps", -1), recipe.training.get("num_train_epochs", 3.0))
    training_tokens = tokens_trained(steps, samples, sequences, data.block_size)
    in_matmuls = shape.parameters - data.block_size * shape.n_embd
    own = flops_per_token(in_matmuls, shape.n_layer, shape.n_embd, data.block_size)
    of_teachers, note = forward_flops(recipe)
    flops = training_tokens * (own + of_teachers)
    ways = launches(shape, device, processes, flops / steps, steps)
    plain = next(iter(ways.values()))
    return Plan(
        device=device.name,
        device_memory=device.memory,
        processes=processes,
        parameters=shape.parameters,
        non_embedding_parameters=parameters.non_embedding,
        tokens_per_step=sequences * data.block_size,
        sequences_per_step=sequences,
        micro_batch=shape.batch,
        dataset_tokens=tokens,
        samples_per_epoch=samples,
        full_steps_per_epoch=epoch.full,
        short_last_step=epoch.short,
        steps=steps,
        training_tokens=training_tokens,
        epochs=steps / epoch.total,
        flops=flops,
        memory_bytes=round(plain.memory.total),
        seconds=plain.seconds,
        dollars=plain.dollars,
        launches=ways,
        remedy=[] if plain.fits else memory.remedy(shape, processes, device.memory),
        notes={
            "dataset_tokens": tokens_from,
            **_open_micro_batch(recipe, processes),
            **devices.assumptions(device, processes),
            **note,
        },
    )


def _open_micro_batch(recipe: Recipe, processes: int) -> dict[str, str]:
    if not recipe.is_micro_batch_open:
        return {}
    return {
        "micro_batch": f"the recipe leaves it open: a CPU takes {recipe.micro_batch(processes):,}; on a GPU the run "
        "tries more at its start, takes the most that fits, and needs more memory than is said here"
    }


def _shape(recipe: Recipe, parameters: Parameters, vocab_size: int, processes: int, bf16: bool) -> Shape:
    options = recipe.model
    return Shape(
        parameters=parameters.total,
        blocks=parameters.blocks,
        matrices=parameters.matrices,
        n_layer=options.n_layer,
        n_embd=options.n_embd,
        vocab_size=vocab_size,
        block_size=recipe.data.block_size,
        batch=recipe.micro_batch(processes),
        accumulation=recipe.accumulation(processes),
        optim=recipe.training.get("optim", "adamw_torch_fused"),
        bf16=bf16,
        dropout=options.resid_pdrop > 0,
        activation_checkpointing=bool(recipe.training.get("activation_checkpointing")),
    )


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan's numbers under their names."""
    return asdict(plan)
