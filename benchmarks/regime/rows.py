"""What a run is, by its name: changes to the base, `cosine to 0, wd 1.6, dropout 0.1`."""

from dataclasses import dataclass, field
from typing import Any

BLOCK, WARMUP = 64, 0.02


@dataclass(frozen=True)
class Size:
    """A model, its text, its batch, and the rate of a run whose name has none.

    From small to large to larger, tokens and weights grow alike, and the batch as their root; scant is large with a
    quarter of its text. Ample has six times as much text for each weight as small: as much as wt103.json. Half is half
    as wide as that, with a quarter of the text; wide is twice as wide, with four times as much; deep has wide's text
    and batch, and is four times as deep as ample.
    """

    width: int
    tokens: int
    batch: int
    rate: float
    layers: int = 2


SIZES = {
    "small": Size(48, 12_000, 8, 1e-2),
    "large": Size(96, 48_000, 16, 5e-3),
    "larger": Size(192, 192_000, 32, 5e-3),
    "scant": Size(96, 12_000, 16, 5e-3),
    "ample": Size(48, 76_000, 16, 1e-2),
    "half": Size(24, 19_000, 8, 1e-2),
    "wide": Size(96, 304_000, 32, 5e-3),
    "deep": Size(48, 304_000, 32, 1e-2, layers=8),
}

# recipes/wt103.json as it was before these tests (dropout 0.2, decay 0.1), but for the size and what goes with it.
BASE = {
    "document_separator": "article",
    "vocab_size": 512,
    "block_size": BLOCK,
    "resid_pdrop": 0.2,
    "embd_pdrop": 0.2,
    "attn_pdrop": 0.0,
    "per_device_eval_batch_size": 32,
    "num_train_epochs": 25,
    "optim": "muon",
    "lr_scheduler_type": "cosine_with_min_lr",
    "lr_scheduler_kwargs": {"min_lr_rate": 0.1},
    "warmup_steps": WARMUP,
    "weight_decay": 0.1,
    "adam_beta2": 0.95,
    "max_grad_norm": 1.0,
    "bf16": True,
    "use_cpu": True,
    "eval_strategy": "steps",
    "eval_steps": 1 / 8,
    "logging_steps": 1 / 8,
    "save_strategy": "no",
    "load_best_model_at_end": False,
}
SCHEDULES = {
    "linear to 0": {"lr_scheduler_type": "linear", "lr_scheduler_kwargs": None},
    "cosine to 0": {"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": None},
    "constant": {"lr_scheduler_type": "constant_with_warmup", "lr_scheduler_kwargs": None},
}
KEYS = {
    "rate": ("learning_rate",),
    "wd": ("weight_decay",),
    "remembers": ("weight_decay_epochs",),
    "epochs": ("num_train_epochs",),
    "dropout": ("resid_pdrop", "embd_pdrop"),
    "attention dropout": ("attn_pdrop",),
    "residual dropout": ("resid_pdrop",),
    "embedding dropout": ("embd_pdrop",),
    "warmup": ("warmup_steps",),
    "beta2": ("adam_beta2",),
    "clip": ("max_grad_norm",),
}
# Patches, each with the number that stands behind its name, or none: see parts.py.
PARTS = (
    "decay",  # cautious, constant (not scheduled with the rate), squared (scheduled twice)
    "embedding rate",  # times the rate
    "embedding wd",  # times the decay
    "1-d rate",  # of biases and LayerNorms, which do not decay
    "1-d wd",  # times the decay of the matrices
    "mean of last",  # share of the steps
    "ema",  # its decay
    "rows balanced",
    "normuon",
    "depth drop",
    "documents shuffled",
)


@dataclass
class Row:
    """A run's recipe keys and its patches."""

    keys: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)


def read(name: str, size: Size) -> Row:
    """The run of that name: changes apart by commas; `base` is none. `wsd 0.3` is linear to 0 over that share."""
    row = Row(dict(BASE), {})
    row.keys |= {"n_layer": size.layers, "n_embd": size.width, "n_head": size.width // 24, "learning_rate": size.rate}
    row.keys |= {"per_device_train_batch_size": size.batch, "gradient_accumulation_steps": 1}
    for change in name.split(", "):
        what, _, value = change.rpartition(" ")
        if change == "base":
            continue
        if change in SCHEDULES:
            row.keys |= SCHEDULES[change]
        elif change == "blocks not shifted":
            row.keys["shift_blocks"] = False
        elif change == "adamw":
            row.keys["optim"] = "adamw_torch_fused"
        elif change in PARTS:
            row.parts[change] = True
        elif what in KEYS:
            number = int(value) if what == "epochs" else float(value)
            row.keys |= dict.fromkeys(KEYS[what], number)
            if what == "remembers":
                del row.keys["weight_decay"]
        elif what == "batch":
            row.keys["per_device_train_batch_size"] = int(value)
        elif what == "wsd":
            row.keys |= SCHEDULES["constant"]
            row.parts["wsd"] = float(value)
        elif what in PARTS:
            row.parts[what] = value if what == "decay" else float(value)
        else:
            raise SystemExit(f"{name}: no change is called {change!r}")
    return row
