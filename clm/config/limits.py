"""What the value of a key may be besides its type: one of some words, or in a range."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable
from typing import Any

from clm.config.fields import MUON
from clm.config.training_keys import SCHEDULES


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Values that work with the pinned packages. Trackers need a package that the user installs.
_LEVELS = ("detail", "debug", "info", "warning", "error", "critical", "passive")
CHOICES: dict[str, tuple[str, ...]] = {
    "sampling": ("blocks", "windows"),
    "loss_spike": ("warn", "skip", "rollback"),
    "lr_scheduler_type": tuple(SCHEDULES),
    "logging_strategy": ("no", "steps", "epoch"),
    "eval_strategy": ("no", "steps", "epoch"),
    "save_strategy": ("no", "steps", "epoch", "best"),
    "hub_strategy": ("end", "every_save", "checkpoint", "all_checkpoints"),
    "activation_function": _words(
        "gelu_new gelu gelu_fast gelu_pytorch_tanh quick_gelu relu relu2 relu6 leaky_relu silu swish mish tanh"
    ),
    "optim": ("adamw_torch_fused", MUON, "adamw_torch", "adafactor", "sgd", "adagrad", "rmsprop"),
    "report_to": _words(
        "none all tensorboard wandb trackio mlflow comet_ml azure_ml clearml codecarbon dagshub dvclive "
        "flyte neptune swanlab"
    ),
    "log_level": _LEVELS,
    "log_level_replica": _LEVELS,
    "include_num_input_tokens_seen": ("no", "all"),
    "metric_for_best_model": ("eval_loss", "loss"),
    "torch_compile_backend": ("inductor", "aot_eager", "eager", "cudagraphs"),
    "torch_compile_mode": ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
    "ddp_backend": ("nccl", "gloo", "mpi"),
    "dataloader_multiprocessing_context": ("fork", "spawn", "forkserver"),
}


Range = tuple[Callable[[Any], bool], str]  # a test of a value that isn't none, and what is allowed, in words


def _range(names: str, fits: Callable[[Any], bool], allowed: str) -> Iterable[tuple[str, Range]]:
    return ((name, (fits, allowed)) for name in names.split())


def _stays_inside(name: str) -> bool:
    return ".." not in name and not name.startswith("/")


def _is_encoding(name: str) -> bool:
    """Whether Python can read text in it piece by piece: not one that changes what a text says, as unicode_escape."""
    try:
        found = codecs.lookup(name)
    except (LookupError, ValueError):
        return False
    names_text = found._is_text_encoding and found.incrementaldecoder is not None
    return names_text and found.name not in ("idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape")


def _is_delimiter(text: str) -> bool:
    return text in ("tab", "\\t") or (len(text) == 1 and text not in '"\r\n')


RANGES: dict[str, Range] = dict(
    [
        *_range("block_size", lambda v: v >= 2, "2 or more"),
        *_range("vocab_size", lambda v: v >= 257, "257 or more: 256 bytes and <|endoftext|>"),
        *_range(
            "n_layer n_head n_embd n_inner tokenizer_train_bytes global_batch_size early_stopping_patience "
            "per_device_train_batch_size per_device_eval_batch_size gradient_accumulation_steps "
            "save_total_limit torch_empty_cache_steps dataloader_prefetch_factor ddp_timeout "
            "ddp_bucket_cap_mb",
            lambda v: v >= 1,
            "1 or more",
        ),
        *_range(
            "warmup_steps weight_decay max_grad_norm eval_delay early_stopping_threshold dataloader_num_workers",
            lambda v: v >= 0,
            "0 or more",
        ),
        *_range(
            "learning_rate adam_epsilon layer_norm_epsilon initializer_range num_train_epochs stop_after_minutes "
            "weight_decay_epochs",
            lambda v: v > 0,
            "above 0",
        ),
        *_range("resid_pdrop embd_pdrop attn_pdrop", lambda v: 0 <= v < 1, "at least 0 and below 1"),
        *_range("adam_beta1 adam_beta2", lambda v: 0 <= v < 1, "at least 0 and below 1"),
        *_range("validation_split_percentage", lambda v: 0 < v < 100, "above 0 and below 100"),
        *_range("text_encoding", _is_encoding, "an encoding of text that Python knows, such as cp1252 or gb18030"),
        *_range("csv_delimiter", _is_delimiter, "one character, or tab"),
        *_range("max_steps", lambda v: v == -1 or v >= 1, "1 or more, or -1 to go by num_train_epochs"),
        *_range(
            "eval_steps save_steps logging_steps",
            lambda v: v > 0 and (v < 1 or v == int(v)),
            "a whole number of steps, or a share of all steps above 0 and below 1",
        ),
        *_range("seed", lambda v: 0 <= v < 2**32, "at least 0 and below 2^32"),
        *_range("greater_is_better", lambda v: v is False, "false: the lowest loss is the best"),
        *_range("reorder_and_upcast_attn", lambda v: v is False, "false: the fused attention never reads it"),
        *_range("teachers", lambda v: v != [], "a run's folder, a name on the Hub, or a list of them"),
        *_range("distillation_weight", lambda v: 0 < v <= 1, "above 0 and at most 1"),
        *_range("train_file validation_file", lambda v: v != [], "a path, a folder, a glob, or a list of them"),
        *_range(
            "activation_checkpointing_kwargs",
            lambda v: set(v) <= {"use_reentrant"} and all(isinstance(value, bool) for value in v.values()),
            '{"use_reentrant": true or false}',
        ),
        *_range(
            "run_name hub_model_id hub_revision dataset_config_name dataset_revision",
            _stays_inside,
            "a name without `..` that doesn't start with /",
        ),
    ]
)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# The same of the settings in lr_scheduler_kwargs. Beyond these limits transformers fails, or rates are below 0 or rise.
SCHEDULE_RANGES: dict[str, Range] = dict(
    [
        *_range("lr_end", lambda v: _is_number(v) and v >= 0, "a number of 0 or more"),
        *_range("power", lambda v: _is_number(v) and v > 0, "a number above 0"),
        *_range("num_cycles min_lr", lambda v: v >= 0, "0 or more"),
        *_range("min_lr_rate min_lr_ratio warmup_lr_rate", lambda v: 0 <= v <= 1, "from 0 to 1"),
        *_range("num_decay_steps num_stable_steps", lambda v: v >= 0, "0 or more"),
        *_range("timescale", lambda v: v >= 1, "1 or more"),
        *_range("warmup_type decay_type", lambda v: v in ("linear", "cosine", "1-sqrt"), "linear, cosine or 1-sqrt"),
    ]
)
