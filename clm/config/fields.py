"""The keys that a recipe may hold, with type and default, and those that it may not hold, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ModelOptions:
    """GPT2Config's own names and defaults; how many positions there are is `block_size`."""

    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    tie_word_embeddings: bool = True


@dataclass(frozen=True)
class DataOptions:
    """Text, tokenizer and samples. Relative paths start from the current directory."""

    dataset_name: str | None = None
    dataset_config_name: str | None = None
    dataset_revision: str | None = None
    streaming: bool = False
    train_file: str | list[str] | None = None
    validation_file: str | list[str] | None = None
    text_column: str = "text"
    text_encoding: str | None = None  # of files that aren't UTF-8
    csv_delimiter: str | None = None  # none: found out
    document_separator: str | None = None
    validation_split_percentage: float | None = None
    block_size: int = 1024
    sampling: str = "blocks"
    shift_blocks: bool = True  # of sampling blocks; windows start everywhere anyway
    cache_dir: str = ".cache"
    tokenizer_path: str | None = None
    vocab_size: int | None = None  # None: 32000 where a tokenizer is trained, else the loaded tokenizer's size
    tokenizer_train_bytes: int = 1_000_000_000


DISTILLATION_WEIGHT = 0.8  # better than 0.5, 0.7 and 1 where it was measured: docs/ensembles.md


@dataclass(frozen=True)
class RunOptions:
    """What the run does, where TrainingArguments has no name for it."""

    early_stopping_patience: int | None = None  # evaluations without a better loss
    early_stopping_threshold: float = 0.0  # nats per token
    weight_decay_epochs: float | None = None  # that the weights remember, instead of weight_decay
    global_batch_size: int | None = None  # sequences in an optimizer step, over all processes
    stop_after_minutes: float | None = None  # then save and stop, as for a signal
    deterministic: bool = False  # kernels that add in one order, for equal bits on a GPU; slower
    loss_spike: str = "warn"  # warn, skip or rollback, where a step's loss is far above those before
    resume_from_checkpoint: str | None = None  # None, "true", "auto": the newest; "false": none; "hub"; a folder
    teachers: str | list[str] | None = None  # folders of runs, or names on the Hub; their mean prediction is learnt too
    distillation_weight: float = DISTILLATION_WEIGHT  # of the teachers in what is to be predicted; the rest: labels
    prompts: list[str] | None = None  # for the samples of text at every evaluation and at the end
    license: str | None = None  # of the model, as the Hub names it, for its card
    language: str | list[str] | None = None  # of the text, as ISO 639-1, for the card
    about: str | None = None  # where the recipe's values come from; the model card prints it


@dataclass(frozen=True)
class Flags:
    """What only the command line can set."""

    dry_run: bool = False
    verify_data: bool = False


# The defaults of TrainingArguments' keys where they are not transformers' own.
TRAINING_DEFAULTS: dict[str, Any] = {
    "learning_rate": 6e-4,
    "lr_scheduler_type": "cosine_with_min_lr",
    "lr_scheduler_kwargs": {"min_lr_rate": 0.1},
    "warmup_steps": 0.02,  # below 1: a share of all steps
    "weight_decay": 0.1,
    "adam_beta2": 0.95,
    "max_grad_norm": 1.0,
    "bf16": True,  # where the hardware has it
    "seed": 42,
    "eval_strategy": "steps",
    "eval_steps": 500,
    "save_strategy": "steps",
    "save_steps": 500,
    "save_total_limit": 2,
    "load_best_model_at_end": True,
    "metric_for_best_model": "eval_loss",
    "greater_is_better": False,
    "logging_steps": 10,
    "report_to": "none",
    "hub_strategy": "end",
    "logging_nan_inf_filter": False,  # true hides a loss that isn't finite
    "remove_unused_columns": False,
    "ddp_find_unused_parameters": False,
}

MUON = "muon"  # the one optimizer that transformers doesn't have


def _each(*rows: tuple[str, str]) -> dict[str, str]:
    return {name: reason for names, reason in rows for name in names.split()}


REFUSED: dict[str, str] = _each(
    # The model
    ("n_positions n_ctx max_position_embeddings", "it is block_size"),
    ("bos_token_id eos_token_id pad_token_id", "token ids come from the tokenizer"),
    ("use_cache", "training never uses the cache, and the model is saved with use_cache true"),
    ("model_name_or_path", "a model is trained from nothing here; n_layer, n_head and n_embd shape it"),
    ("hidden_size", "GPT-2's name is n_embd"),
    ("num_hidden_layers", "GPT-2's name is n_layer"),
    ("num_attention_heads", "GPT-2's name is n_head"),
    ("tokenizer_name", "it is tokenizer_path"),
    ("trust_remote_code", "nothing that is loaded may run code"),
    # Where credentials and processes are configured
    ("hub_token push_to_hub_token", "it comes from HF_TOKEN or `hf auth login` only"),
    (
        "accelerator_config parallelism_config fsdp fsdp_config deepspeed",
        "it belongs in the accelerate file",
    ),
    ("local_rank", "the launcher sets it"),
    # What this program decides for itself
    (
        "do_train do_eval do_predict",
        "the program always trains, then evaluates; eval_strategy says when else",
    ),
    ("remove_unused_columns label_names length_column_name", "batches are made here, with aligned labels"),
    ("train_sampling_strategy", "use sampling: blocks or windows"),
    (
        "dataloader_in_order",
        "samples come in the order that seed gives, or a run could not be resumed exactly",
    ),
    ("dataloader_drop_last", "nothing is dropped; the last batch may be short"),
    ("auto_find_batch_size", "it would change the run; set per_device_train_batch_size"),
    ("average_tokens_across_devices", "always: the loss is a mean over the tokens of all processes"),
    ("label_smoothing_factor", "the loss would no longer be nats per token"),
    ("neftune_noise_alpha", "it is for fine-tuning"),
    ("optim_target_modules", "only GaLore and APOLLO read it, and they are not offered"),
    ("liger_kernel_config", "of Liger Kernel only the loss is used"),
    ("fp16", "bf16 true takes it by itself on a GPU that has no bf16"),
    ("bf16_full_eval fp16_full_eval", "evaluation is in fp32"),
    (
        "prediction_loss_only eval_do_concat_batches eval_use_gather_object eval_accumulation_steps "
        "include_for_metrics batch_eval_metrics",
        "evaluation sums log-likelihoods and keeps no predictions",
    ),
    ("full_determinism", "use deterministic, which doesn't wait for every kernel"),
    ("logging_nan_inf_filter debug", "a loss that isn't finite is never hidden; it stops the run"),
    ("ddp_find_unused_parameters", "every parameter is used"),
    ("ddp_static_graph", "DDP can't do it where gradients are added up before they are sent, as here"),
    ("ignore_data_skip", "a resumed run continues at the next sample, at no cost"),
    ("save_only_model restore_callback_states_from_checkpoint", "checkpoints hold all that resuming needs"),
    ("enable_jit_checkpoint", "what it saves between optimizer steps can't be continued exactly"),
    ("save_on_each_node", "checkpoints go to one output_dir that all nodes see"),
    ("hub_always_push", "an upload that is still under way is finished at the end"),
    # Names that transformers has dropped or is dropping
    ("evaluation_strategy", "its name is eval_strategy"),
    ("gradient_checkpointing", "its name is activation_checkpointing"),
    ("gradient_checkpointing_kwargs", "its name is activation_checkpointing_kwargs"),
    ("warmup_ratio", "use warmup_steps; below 1 it is a share of all steps"),
    ("overwrite_output_dir", "a run resumes in its output_dir; for a new run give another output_dir"),
    ("no_cuda use_mps_device", "use use_cpu"),
    ("group_by_length split_batches", "all samples have one length, and batches are per device"),
    ("save_safetensors", "always: nothing else is written"),
    ("logging_dir", "set the environment variable TENSORBOARD_LOGGING_DIR"),
    ("include_tokens_per_second", "always reported, as tokens_per_second"),
    ("per_gpu_train_batch_size", "its name is per_device_train_batch_size"),
    ("per_gpu_eval_batch_size", "its name is per_device_eval_batch_size"),
)
