"""What a training step needs of a device's memory, and what to turn on where that isn't there. Estimates, in bytes."""

from dataclasses import dataclass, replace

from clm.model.chunks import buffer_bytes

# What a block keeps for its backward pass, bytes a token and unit of width. bf16: its two LayerNorms' fp32 inputs and
# bf16 outputs (4 + 2 each), query, key and value (6), what attention gives, before and after it is laid out anew (4),
# the MLP before and after GELU (8 + 8); fp32: the same in fp32, but one copy less of attention's. Each dropout keeps a
# mask of the same dtype (on a CPU; less on a GPU). With AMX it is 2 bytes less. tests/plan/test_memory.py counts them.
BLOCK_BYTES = {True: 38, False: 64}
DROPOUT_BYTES = {True: 2, False: 4}  # of each of a block's two
EMBEDDING_BYTES = 8  # the same for what is around the blocks: the last LayerNorm's input, the gradient of its output
PROCESS_BYTES = 0.5e9  # Python and its packages, or CUDA's context and kernels: about as much
USABLE = 0.92  # of a device's memory; the rest is lost between allocations: assumed
# Bytes a parameter of each optimizer's state (`muon`: of the blocks' matrices; the rest has AdamW's).
_ADAMW = 8
STATE_BYTES = {"adamw_torch_fused": _ADAMW, "adamw_torch": _ADAMW, "muon": 4, "adagrad": 4, "rmsprop": 4}  # others: 0


@dataclass(frozen=True)
class Shape:
    """What of a recipe decides its memory; `batch` is the sequences of a micro-batch of one device."""

    parameters: int
    blocks: int  # parameters in the blocks
    matrices: int  # of these, those in two-dimensional weights
    n_layer: int
    n_embd: int
    vocab_size: int
    block_size: int
    batch: int
    accumulation: int
    optim: str
    bf16: bool
    dropout: bool
    activation_checkpointing: bool
    gpu_memory: float = 0.0  # bytes of the card that it trains on, by which the loss is cut; 0 for a CPU

    @property
    def tokens(self) -> int:
        """Of a micro-batch of one device."""
        return self.batch * self.block_size


@dataclass(frozen=True)
class Memory:
    """Bytes on each device when it needs most; `total` includes the process itself."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    loss: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.loss + PROCESS_BYTES


def _state(shape: Shape) -> int:
    of_matrices = STATE_BYTES.get(shape.optim, 0)
    of_others = _ADAMW if shape.optim == "muon" else of_matrices
    return shape.matrices * of_matrices + (shape.parameters - shape.matrices) * of_others


def _activations(shape: Shape) -> float:
    block = BLOCK_BYTES[shape.bf16] + 2 * DROPOUT_BYTES[shape.bf16] * shape.dropout
    # With checkpointing every block's fp32 input, and one block that is computed anew.
    of_blocks = 4 * shape.n_layer + block if shape.activation_checkpointing else block * shape.n_layer
    return shape.tokens * shape.n_embd * (of_blocks + EMBEDDING_BYTES)


def _loss(shape: Shape) -> float:
    """Logits of a chunk, their gradients of a group of chunks, the head's gradient, and that and the head in bf16."""
    head = shape.vocab_size * shape.n_embd
    device = "cuda" if shape.gpu_memory else "cpu"
    buffers = buffer_bytes(device, shape.tokens, shape.vocab_size, shape.bf16, int(shape.gpu_memory))
    return buffers + (4 + 4 * shape.bf16) * head


def one_process(shape: Shape) -> Memory:
    """Everything on one device: fp32 weights, gradients and optimizer states; bf16 keeps a copy of the matrices."""
    p = shape.parameters
    copies = 2 * shape.matrices * shape.bf16
    return Memory(4 * p + copies, 4 * p, _state(shape), _activations(shape), _loss(shape))


def ddp(shape: Shape, devices: int) -> Memory:
    """The same on every device, and DDP's buckets, in which the gradients are once more."""
    one = one_process(shape)
    return one if devices == 1 else replace(one, gradients=2 * one.gradients)


def fsdp2(shape: Shape, devices: int) -> Memory:
    """An equal share of everything on each device, and whole what is at work: two blocks, and what is around them.

    Gradients that are accumulated over micro-batches wait whole, in fp32, for the last one.
    """
    one, size = one_process(shape), 2 if shape.bf16 else 4
    at_work = shape.parameters - shape.blocks + 2 * shape.blocks / shape.n_layer
    whole = 4 * shape.parameters if shape.accumulation > 1 else size * at_work
    return replace(
        one,
        weights=4 * shape.parameters / devices + size * at_work,
        gradients=4 * shape.parameters / devices + whole,
        optimizer=one.optimizer / devices,
    )


def zero2(shape: Shape, devices: int) -> Memory:
    """DeepSpeed's ZeRO-2 in bf16: whole bf16 weights; shares of bf16 gradients, fp32 weights and optimizer states."""
    one, size = one_process(shape), 2 if shape.bf16 else 4
    masters = 4 * shape.parameters / devices * shape.bf16
    return replace(
        one,
        weights=size * shape.parameters,
        gradients=size * shape.parameters / devices,
        optimizer=masters + one.optimizer / devices,
    )


def fits(memory: Memory, device_memory: float) -> bool:
    """Whether a device with so many bytes has room for it."""
    return memory.total <= USABLE * device_memory


def remedy(shape: Shape, devices: int, device_memory: float) -> list[str] | None:
    """The least costly settings with which a run fits that doesn't; None where none of them is enough.

    In this order: a smaller batch a device, which costs least; activations computed anew, a third more arithmetic;
    weights shared among the devices, more communication.
    """
    ways = [("", ddp)]
    if devices > 1:
        ways.append(("launch with recipes/accelerate/fsdp2.yaml", fsdp2))
    for launch, memory in ways:
        for checkpointing in (shape.activation_checkpointing, True):
            for batch in (shape.batch >> halvings for halvings in range(shape.batch.bit_length())):
                accumulation = shape.accumulation * shape.batch // batch
                tried = replace(shape, batch=batch, accumulation=accumulation, activation_checkpointing=checkpointing)
                if fits(memory(tried, devices), device_memory):
                    smaller = f"per_device_train_batch_size {batch}" if batch != shape.batch else ""
                    again = "activation_checkpointing true" if checkpointing != shape.activation_checkpointing else ""
                    return [setting for setting in (smaller, again, launch) if setting]
    return None
