"""The keys of transformers' TrainingArguments that a recipe may have, with their types, and the settings of schedules.

They are written out, since transformers takes seconds to import and a recipe is checked before anything needs it.
`tests/test_recipe.py` holds these tables to the installed version: one with other keys fails there.
"""

from typing import Any, Literal

SWITCH = bool | None  # None: transformers decides

TRAINING: dict[str, Any] = {
    "output_dir": str | None,
    "per_device_train_batch_size": int,
    "num_train_epochs": float,
    "max_steps": int,
    "learning_rate": float,
    "lr_scheduler_type": str,
    "lr_scheduler_kwargs": dict | None,
    "warmup_steps": float,
    "optim": str,
    "optim_args": str | None,
    "weight_decay": float,
    "adam_beta1": float,
    "adam_beta2": float,
    "adam_epsilon": float,
    "gradient_accumulation_steps": int,
    "max_grad_norm": float,
    "bf16": bool,
    "tf32": SWITCH,
    "activation_checkpointing": SWITCH,
    "activation_checkpointing_kwargs": dict[str, Any] | None,
    "torch_compile": bool,
    "torch_compile_backend": str | None,
    "torch_compile_mode": str | None,
    "use_liger_kernel": bool,
    "torch_empty_cache_steps": int | None,
    "logging_strategy": str,
    "logging_steps": float,
    "logging_first_step": bool,
    "log_on_each_node": bool,
    "include_num_input_tokens_seen": str,
    "log_level": str,
    "log_level_replica": str,
    "disable_tqdm": SWITCH,
    "report_to": str | list[str],
    "run_name": str | None,
    "project": str,
    "trackio_space_id": str | None,
    "trackio_bucket_id": str | None,
    "trackio_static_space_id": str | Literal[False] | None,
    "eval_strategy": str,
    "eval_steps": float,
    "eval_delay": float,
    "per_device_eval_batch_size": int,
    "eval_on_start": bool,
    "save_strategy": str,
    "save_steps": float,
    "save_total_limit": int | None,
    "push_to_hub": bool,
    "hub_private_repo": SWITCH,
    "hub_model_id": str | None,
    "hub_strategy": str,
    "hub_revision": str | None,
    "load_best_model_at_end": bool,
    "metric_for_best_model": str | None,
    "greater_is_better": SWITCH,
    "seed": int,
    "data_seed": int | None,
    "use_cpu": bool,
    "dataloader_num_workers": int,
    "dataloader_pin_memory": bool,
    "dataloader_persistent_workers": bool,
    "dataloader_prefetch_factor": int | None,
    "dataloader_multiprocessing_context": str | None,
    "ddp_bucket_cap_mb": int | None,
    "ddp_broadcast_buffers": SWITCH,
    "ddp_backend": str | None,
    "ddp_timeout": int,
    "skip_memory_metrics": bool,
}

PER_DEVICE_TRAIN_BATCH_SIZE = 8  # where a recipe says nothing of the batch
DEFAULT_OPTIMIZER = "adamw_torch_fused"  # where it says nothing of that

# What optim_args may hold for each optimizer that reads any. Its weight_decay would go unread, and is a key of its own.
OPTIMIZER_SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": float, "dampening": float, "nesterov": bool},
    "adagrad": {"lr_decay": float, "eps": float},
    "rmsprop": {"momentum": float, "alpha": float, "eps": float, "centered": bool},
    "muon": {"momentum": float, "ns_steps": int, "embeddings": float, "positions": float, "vectors": float},
}

# What lr_scheduler_kwargs may hold for each schedule.
SCHEDULES: dict[str, dict[str, Any]] = {
    "linear": {},
    "cosine": {"num_cycles": float},
    "cosine_with_restarts": {"num_cycles": int},
    "polynomial": {"lr_end": Any, "power": Any},
    "constant": {},
    "constant_with_warmup": {},
    "inverse_sqrt": {"timescale": int | None},
    "reduce_lr_on_plateau": {},
    "cosine_with_min_lr": {"num_cycles": float, "min_lr": float | None, "min_lr_rate": float | None},
    "cosine_warmup_with_min_lr": {
        "num_cycles": float,
        "min_lr": float | None,
        "min_lr_rate": float | None,
        "warmup_lr_rate": float | None,
    },
    "warmup_stable_decay": {
        "num_decay_steps": int,
        "num_stable_steps": int | None,
        "warmup_type": str,
        "decay_type": str,
        "min_lr_ratio": float,
        "num_cycles": float,
    },
    "greedy": {},
}
NEEDED_SETTINGS = {"warmup_stable_decay": ("num_decay_steps",)}  # those without a default
