"""What a part is given: sizes, a folder to work in, and how long it may take."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu import texts

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Sizes:
    """How large everything is: on a GPU as in `FULL`; in a rehearsal as in `TOY`, where figures mean nothing."""

    shape: dict[str, int]  # of the model that speeds are measured with
    small_shape: dict[str, int]  # of the one whose bits are compared
    text_bytes: int
    micro_batches: tuple[int, ...]  # eager
    compiled: tuple[int, ...]  # micro-batches that are compiled, too; a minute each
    steps: int  # timed ones, of a speed
    loss_tokens: tuple[int, int]  # of the loss alone: timed, and whose launches are counted
    chunk_elements: tuple[int, ...]  # logits at a time
    rounds: int  # of what is timed over and over
    compared: tuple[int, int]  # steps of runs whose bits are compared, and the one in their middle
    save_tokens: int  # of a step, beside a save
    evaluated: tuple[int, int]  # documents, tokens of each
    quickstart: dict[str, Any]  # keys that replace those of recipes/quickstart.json


FULL = Sizes(
    shape={"n_layer": 12, "n_head": 12, "n_embd": 768, "vocab_size": 32_000, "block_size": 1024},
    small_shape={"n_layer": 4, "n_head": 6, "n_embd": 384, "vocab_size": 8_000, "block_size": 512},
    text_bytes=8_000_000,
    micro_batches=(4, 8, 16, 32, 64),
    compiled=(8, 32),
    steps=8,
    loss_tokens=(16_384, 4_096),
    chunk_elements=tuple(2**power for power in range(22, 30)),
    rounds=20,
    compared=(20, 10),
    save_tokens=8_192,
    evaluated=(16, 1023),
    quickstart={},
)
TOY = Sizes(
    shape={"n_layer": 2, "n_head": 2, "n_embd": 16, "vocab_size": 300, "block_size": 16},
    small_shape={"n_layer": 1, "n_head": 2, "n_embd": 16, "vocab_size": 300, "block_size": 16},
    text_bytes=20_000,
    micro_batches=(2, 4),
    compiled=(),
    steps=2,
    loss_tokens=(64, 32),
    chunk_elements=(2**12, 2**14),
    rounds=2,
    compared=(4, 2),
    save_tokens=16,
    evaluated=(3, 10),
    quickstart={"n_layer": 1, "n_head": 2, "n_embd": 16, "vocab_size": 300, "block_size": 16, "max_steps": 4},
)


@dataclass(frozen=True)
class Setting:
    """One part's.

    Attributes:
        folder: for all that parts write; they share it, so that the text is prepared once.
        seconds: that the part may take, from now on.
        rehearsal: on a CPU, at toy size.
        in_process: whether a command is run in this process where it would be started as another: a test in seconds.
    """

    folder: Path
    seconds: float = 600.0
    rehearsal: bool = False
    in_process: bool = False
    began: float = field(default_factory=time.monotonic)

    @property
    def sizes(self) -> Sizes:
        """How large everything is."""
        return TOY if self.rehearsal else FULL

    @property
    def device(self) -> str:
        """Where the part measures: `cuda`, or `cpu` in a rehearsal."""
        return "cpu" if self.rehearsal else "cuda"

    def left(self) -> float:
        """Seconds until the part is ended."""
        return self.seconds - (time.monotonic() - self.began)

    def recipe(self, shape: dict[str, int], **keys: Any) -> dict[str, Any]:
        """A recipe of this shape on a text made by code, without dropout, saves and evaluations; `keys` win."""
        text, held_out = texts.made(self.folder, self.sizes.text_bytes)
        return {
            **shape,
            **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
            "train_file": str(text),
            "validation_file": str(held_out),
            "document_separator": "line",
            "cache_dir": str(self.folder / "cache"),
            "eval_strategy": "no",
            "save_strategy": "no",
            "load_best_model_at_end": False,
            "optim": "muon",
            "learning_rate": 1e-3,
            "warmup_steps": 2,
            "logging_steps": 1,
            "torch_compile": False,
            "use_liger_kernel": False,
            "prompts": ["a"],
            **({"use_cpu": True, "bf16": False} if self.rehearsal else {}),
            **keys,
        }
