"""A Trainer that can be stopped at any instant: it goes on, bit for bit, from what it saved."""

from datetime import timedelta
from typing import Any, NoReturn

import torch
from torch import distributed
from transformers import EarlyStoppingCallback
from transformers.trainer_callback import ExportableState

from clm.errors import Stopped
from clm.launch import signals
from clm.training.checkpoint import rng
from clm.training.checkpoint.contents import PROCESSES_FILE
from clm.training.checkpoint.folders import best_of
from clm.training.saving import SavingTrainer


class ResumableTrainer(SavingTrainer):
    """Stops where `signals` ask for it, after the step under way, and goes on from a checkpoint exactly.

    Args:
        kwargs: SavingTrainer's, and the Trainer's own.
    """

    def __init__(self, **kwargs: Any) -> None:
        self._steps_in_epoch, self._batches_in_epoch = 1, None  # of this process; known once an epoch begins
        self._random: dict[str, Any] | None = None  # where the generators have to stand at the next batch
        super().__init__(**kwargs)
        self._resumed = self._resume_from is None
        if not self._resumed:
            self.args.eval_on_start = False  # the first start has done it
        self._loss_before = torch.zeros((), device=self.args.device)
        self._known_loss: float | None = None  # what `_tr_loss` was when the step's numbers were read
        # Processes ask each other at every step whether to stop. They ask on the CPU, so that no GPU waits for it.
        patience = timedelta(seconds=self.args.ddp_timeout)
        self._group = distributed.new_group(timeout=patience, backend="gloo") if self.args.world_size > 1 else None

    # The loop

    @property
    def first_step(self) -> int:
        """The optimizer step at which this process began."""
        return self._initial_global_step

    def _run_epoch(self, **kwargs: Any) -> None:
        """Train an epoch, or what a resumed run has left of it.

        The stock Trainer would draw every batch that was trained on, to skip it. Here the order starts where it is told
        to, and the stock Trainer is given an epoch that has only the rest.
        """
        steps, batches = kwargs["num_update_steps_per_epoch"], kwargs["steps_in_epoch"]
        self._steps_in_epoch, self._batches_in_epoch = steps, batches
        if self.state.global_step == self.first_step:
            logged = [entry["elapsed_seconds"] for entry in self.state.log_history if "elapsed_seconds" in entry]
            self.throughput.start(self.first_step, max(logged, default=0.0))
        self._resume()
        if self._is_over():
            self.control.should_training_stop = True
            return
        steps_done = self.state.global_step % steps
        batches_done = steps_done * self.args.gradient_accumulation_steps
        kwargs["train_dataloader"].batch_sampler.start_at(kwargs["epoch"], batches_done)
        if steps_done == 0:
            self._restore_generators()  # an epoch's start draws from them
        rest = {"num_update_steps_per_epoch": steps - steps_done, "steps_in_epoch": batches - batches_done}
        super()._run_epoch(**kwargs | rest | {"steps_trained_in_current_epoch": 0, "resume_from_checkpoint": None})
        self._save_or_stop()

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """The next optimizer step's batches; the time until they are there is counted."""
        with self.throughput.waiting_for("data"):
            batches = super().get_batch_samples(*args, **kwargs)
        self._restore_generators()  # making the first batches of a resumed epoch drew from them
        return batches

    def _maybe_log_save_evaluate(self, tr_loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        self._count_epochs()
        known, self._known_loss = self._known_loss, None
        if known is not None and self._group is None:
            tr_loss = torch.tensor(known)  # to be logged without waiting for the device again
        try:
            super()._maybe_log_save_evaluate(tr_loss, *args, **kwargs)
        except Stopped:  # in an evaluation: what is saved says that it is still to be done
            self._forget_logged_loss(tr_loss)
            self._save_and_stop()
        self._forget_logged_loss(tr_loss)
        if self.args.load_best_model_at_end and self.state.best_global_step == self.state.global_step:
            self._save_due = True  # the stock Trainer forgets a best evaluation between two saves
        self._loss_before = self._tr_loss.clone()
        if not self._ends_epoch():  # else what the epoch's end brings comes first, or a resumed run would miss it
            self._save_or_stop()

    def _forget_logged_loss(self, tr_loss: torch.Tensor) -> None:
        if tr_loss is not self._tr_loss and self._globalstep_last_logged == self.state.global_step:
            self._tr_loss.zero_()

    def _count_epochs(self) -> None:
        """Set `state.epoch`: of a resumed epoch the stock Trainer counts only the rest."""
        if self._batches_in_epoch is not None:
            epochs, steps = divmod(self.state.global_step, self._steps_in_epoch)
            self.state.epoch = epochs + steps * self.args.gradient_accumulation_steps / self._batches_in_epoch

    def _ends_epoch(self) -> bool:
        return self.control.should_training_stop or self.state.global_step % self._steps_in_epoch == 0

    def _is_over(self) -> bool:
        stoppers = (
            callback for callback in self.callback_handler.callbacks if isinstance(callback, EarlyStoppingCallback)
        )
        return self.state.global_step >= self.state.max_steps or any(
            stopper.early_stopping_patience_counter >= stopper.early_stopping_patience for stopper in stoppers
        )

    def _finalize_training(self, *args: Any) -> Any:
        self._resume()  # where no epoch was left to run
        self._finish_saving()
        return super()._finalize_training(*args)

    # Stopping and saving

    def _save_or_stop(self) -> None:
        if self._save_due:
            self._spikes.saved_step = self.state.global_step
        if self._any_process(signals.reason() is not None):
            self._save_and_stop()
        elif self._save_due:
            self._start_saving()

    def _save_and_stop(self) -> NoReturn:
        self._start_saving()
        self._finish_saving()
        self.accelerator.wait_for_everyone()  # one that left early could take the others with it
        raise signals.stopped(f" after step {self.state.global_step:,}, all saved", agreed=True)

    def _any_process(self, flag: bool) -> bool:
        if self._group is None:
            return flag
        flags = torch.tensor(int(flag))
        distributed.all_reduce(flags, distributed.ReduceOp.MAX, self._group)
        return bool(flags)

    # Resuming

    def _resume(self) -> None:
        """Be where the checkpoint was, once, as far as the stock Trainer doesn't see to it."""
        if self._resumed:
            return
        self._resumed = True
        self.state.train_batch_size = self._train_batch_size  # the checkpoint's may have been another
        processes = torch.load(self._resume_from / PROCESSES_FILE, weights_only=True)
        mine = processes[self.args.process_index % len(processes)]
        if len(processes) == self.args.world_size:
            loss = mine["loss"]
        else:
            loss = sum(process["loss"] for process in processes) / len(processes)
        self._tr_loss.fill_(loss)
        self._total_loss_scalar, self._globalstep_last_logged = mine["total_loss"], mine["last_logged"]
        self._loss_before = self._tr_loss.clone()
        self._random = mine["random"]
        rng.put(self._random)
        self._evaluate_what_is_due()

    def _restore_generators(self) -> None:
        """Let the random generators of a resumed run stand where they stood; once."""
        if self._random is not None:
            rng.put(self._random)
            self._random = None

    def _evaluate_what_is_due(self) -> None:
        """Do the evaluation in which the run was stopped, and the save that was to follow it."""
        control = self.state.stateful_callbacks.get("TrainerControl", {}).get("args", {})
        if control.get("should_evaluate"):
            self.control.should_evaluate, self.control.should_save = True, control["should_save"]
            self._maybe_log_save_evaluate(self._tr_loss, None, self.model, None, 0, None, 0.0)
            self._save_or_stop()

    def _load_callback_state(self) -> None:
        """Give the callbacks their counts (of evaluations without a better loss); the recipe has their settings."""
        for callback in self.callback_handler.callbacks:
            saved = self.state.stateful_callbacks.get(type(callback).__name__)
            if isinstance(callback, ExportableState) and saved:
                vars(callback).update(saved["attributes"])
        best = best_of(self._resume_from) if self.args.load_best_model_at_end else None
        self.state.best_model_checkpoint = str(best) if best else None
