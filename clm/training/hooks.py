"""What this project overrides of transformers' Trainer, and why: read it first when a new transformers breaks a run.

`ClmTrainer` and its bases down to `ShardedTrainer` override these methods and no others, each in one class only.
tests/training/test_hooks.py holds the table against the classes and against the installed Trainer, and names the hook
that differs. Public methods are made to be overridden; a name with an underscore may change with any version.
"""

from typing import NamedTuple


class Hook(NamedTuple):
    """A method of the stock Trainer: which of its methods calls it, and why it is overridden."""

    called_by: str
    why: str


HOOKS = {
    # Public
    "train": Hook("", "whatever ends training, the checkpoint that is being written is finished"),
    "get_train_dataloader": Hook("_inner_training_loop", "batches come in EpochOrder, whose order needs no memory"),
    "num_examples": Hook("set_initial_training_values", "an epoch has the samples of its data set, not its batches"),
    "create_optimizer": Hook("_prepare_for_training", "muon is unknown to the stock Trainer"),
    "create_scheduler": Hook("_prepare_for_training", "learning rates come from schedule.py, for plan and explain too"),
    "get_batch_samples": Hook("_run_epoch", "waiting for data is timed, and a resumed run's generators are restored"),
    "training_step": Hook("_run_epoch", "what doesn't fit is done in parts; gradients tell the gradient noise scale"),
    "floating_point_ops": Hook("_run_epoch", "the parameters are counted once, not for every micro-batch"),
    "evaluate": Hook("_evaluate", "the validation text is scored by this project's own code"),
    "log": Hook("_maybe_log_save_evaluate", "speed is logged, and the mean loss at the end is the whole run's"),
    # Private
    "_run_epoch": Hook("_inner_training_loop", "a resumed epoch starts in the middle without drawing what is done"),
    "_prepare_input": Hook("_prepare_inputs", "batches are copied to a GPU without waiting for it"),
    "_get_num_items_in_batch": Hook("get_batch_samples", "labels are counted where they are, in main memory"),
    "_get_grad_norm": Hook("_run_epoch", "a step is checked before it is taken: finite, no spike"),
    "_maybe_log_save_evaluate": Hook("_run_epoch", "after each step: save the best, save what is due, stop if asked"),
    "_save_checkpoint": Hook("_maybe_log_save_evaluate", "checkpoints are written in the background, with a manifest"),
    "_finalize_training": Hook("_inner_training_loop", "the last save is finished before the best model is loaded"),
    "_load_callback_state": Hook("_init_training_state", "counts come from the checkpoint, settings from the recipe"),
    "_load_best_model": Hook("_finalize_training", "a damaged checkpoint is an error, and weights may be sharded"),
    "_load_from_checkpoint": Hook("train", "a checkpoint has full weights, which FSDP2 shards anew"),
    "_load_optimizer_and_scheduler": Hook("_prepare_for_training", "the same for the optimizer's states"),
    "_load_scaler": Hook("_prepare_for_training", "a run in bf16 or fp32 has no use for the scale that fp16 had"),
    "_issue_warnings_after_load": Hook("_load_from_checkpoint", "weights that lack are an error, not a warning"),
}

# Attributes of the stock Trainer that are no part of its documentation, and what they are read or set for.
ATTRIBUTES = {
    "_tr_loss": "the sum of losses since the last log, on the device: a step's own loss is a difference of it",
    "_total_loss_scalar": "the sum of all losses that were logged",
    "_globalstep_last_logged": "the step of the last log",
    "_initial_global_step": "the step at which this process began",
    "_train_batch_size": "sequences of a micro-batch",
    "_created_lr_scheduler": "whether the schedule is made anew when train is called again",
    "_get_learning_rate": "the rate of the step under way",
}
