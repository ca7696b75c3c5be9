"""A Trainer that can be stopped at any instant: it goes on, bit for bit, from what it saved."""

import copy
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate.utils import gather_object
from torch import distributed
from transformers import EarlyStoppingCallback
from transformers.trainer_callback import ExportableState

from clm.errors import MachineError, Stopped
from clm.files import write_json
from clm.launch import processes as lifecycle
from clm.launch import signals
from clm.training.callbacks.loss_spikes import LossSpikes
from clm.training.checkpoint import find as checkpoint
from clm.training.checkpoint import manifest, rng
from clm.training.checkpoint.snapshot import save, write_model
from clm.training.checkpoint.writer import CheckpointWriter, Saved
from clm.training.sharded import WholeTrainer

_PROCESSES = "rng_state.pth"  # a list: for each process its random generators and the losses not logged yet


class ResumableTrainer(WholeTrainer):
    """Saves whole checkpoints beside training, stops where `signals` ask for it, and takes a run up exactly.

    Args:
        identity: what makes this run this run; saved with every checkpoint.
        resume_from: the checkpoint that `train` will be given.
        saved: CheckpointWriter's.
        kwargs: the Trainer's own.
    """

    def __init__(self, *, identity: dict[str, Any], resume_from: Path | None, saved: Saved, **kwargs: Any) -> None:
        self._identity, self._resume_from = identity, resume_from
        self._taken_up, self._save_due, self._steps_in_epoch = resume_from is None, False, 1
        super().__init__(**kwargs)
        self._spikes, self._loss_before = LossSpikes(), torch.zeros((), device=self.args.device)
        self.add_callback(self._spikes)  # so that checkpoints keep what it knows
        self._writer = CheckpointWriter(Path(self.args.output_dir), self.args.save_total_limit, resume_from, saved)
        # What save_pretrained would write into config.json.
        self.model.config.architectures, self.model.config.dtype = [type(self.model).__name__], self.model.dtype
        # Asking each other at every step goes past the accelerators, which would have to stop for it.
        patience = timedelta(seconds=self.args.ddp_timeout)
        self._group = distributed.new_group(timeout=patience, backend="gloo") if self.args.world_size > 1 else None
        # The writer's own: a tokenizer that encodes can't be saved by another thread meanwhile.
        self._tokenizer = copy.deepcopy(self.processing_class)

    # The loop

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As the stock one; whatever ends it, what is being saved is."""
        try:
            return super().train(*args, **kwargs)
        finally:
            self._writer.close()

    def _run_epoch(self, **kwargs: Any) -> None:
        self._steps_in_epoch = kwargs["num_update_steps_per_epoch"]
        self._take_up()
        if self._is_over():
            self.control.should_training_stop = True
            return
        super()._run_epoch(**kwargs)
        self._save_or_stop()

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        try:
            super()._maybe_log_save_evaluate(*args, **kwargs)
        except Stopped:  # in an evaluation: what is saved says that it is still to be done
            self._save_and_stop()
        self._loss_before = self._tr_loss.clone()
        if not self._ends_epoch():  # else what the epoch's end brings comes first, or a resumed run would miss it
            self._save_or_stop()

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
        self._take_up()  # where no epoch was left to run
        self._finish_saving()
        return super()._finalize_training(*args)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log; the mean loss at the end is that of the whole run, not of this start."""
        if "train_loss" in logs:
            logs["train_loss"] = self._total_loss_scalar / max(1, self.state.global_step)
        super().log(logs, start_time)

    # Stopping and saving

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        self._save_due = True  # once all else that belongs to this step is done

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
        raise signals.stopped(f" after step {self.state.global_step:,}, all saved")

    def _any_process(self, flag: bool) -> bool:
        if self._group is None:
            return flag
        flags = torch.tensor(int(flag))
        distributed.all_reduce(flags, distributed.ReduceOp.MAX, self._group)
        return bool(flags)

    def _start_saving(self) -> None:
        self._save_due = False
        self.store_flos()
        self._remember_best()
        processes = gather_object([self._process_state()])  # every process has got here, and says how it stands
        live = self.whole_tensors()
        if self.args.should_save:
            self._update_callback_states()
            model, state = self.accelerator.unwrap_model(self.model, keep_torch_compile=False), copy.copy(self.state)
            state.log_history = list(state.log_history)
            state.stateful_callbacks = copy.deepcopy(state.stateful_callbacks)
            scheduler = copy.deepcopy(self.lr_scheduler.state_dict())

            def write(folder: Path, tensors: dict[str, Any]) -> dict[str, Any]:
                state.save_to_json(str(folder / "trainer_state.json"))
                write_json(folder / checkpoint.IDENTITY_FILE, self._identity)
                parts = {"optimizer.pt": tensors["optimizer"], "scheduler.pt": scheduler, _PROCESSES: processes}
                weights = write_model(folder, model, self._tokenizer, tensors["model"])
                return weights | {name: save(value, folder / name) for name, value in parts.items()}

            keep = {self._best(), self._folder(self._spikes.saved_step)}
            self._writer.start(state.global_step, live, write, self._facts(), keep)

    def _facts(self) -> dict[str, Any]:
        data = {key: self._identity[key] for key in ("text", "tokenizer")}
        return {
            "world_size": self.args.world_size,
            "recipe": manifest.fingerprint(self._identity),
            "data": manifest.fingerprint(data),
        }

    def _finish_saving(self) -> None:
        """Wait for what is being written.

        Raises:
            MachineError: it couldn't be; on every process.
        """
        fault = lifecycle.on_main(self._writer.wait)
        if fault:
            raise MachineError(f"the last checkpoint isn't saved: {fault}: make room, then run the same command again")

    def _remember_best(self) -> None:
        if self.args.load_best_model_at_end and self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(self._folder(self.state.global_step))

    def _folder(self, step: int) -> Path:
        return Path(self.args.output_dir) / f"checkpoint-{step}"

    def _best(self) -> Path | None:
        return Path(self.state.best_model_checkpoint) if self.state.best_model_checkpoint else None

    def _update_callback_states(self) -> None:
        for callback in [*self.callback_handler.callbacks, self.control]:
            if isinstance(callback, ExportableState):
                self.state.stateful_callbacks[type(callback).__name__] = callback.state()

    def _process_state(self) -> dict[str, Any]:
        return {
            "random": rng.get(),
            "loss": self._tr_loss.item(),
            "total_loss": self._total_loss_scalar,
            "last_logged": self._globalstep_last_logged,
        }

    # Resuming

    def _take_up(self) -> None:
        """Be where the checkpoint was, once, as far as the stock Trainer doesn't see to it."""
        if self._taken_up:
            return
        self._taken_up = True
        processes = torch.load(self._resume_from / _PROCESSES, weights_only=True)
        mine = processes[self.args.process_index % len(processes)]
        if len(processes) == self.args.world_size:
            loss = mine["loss"]
        else:
            loss = sum(process["loss"] for process in processes) / len(processes)
        self._tr_loss.fill_(loss)
        self._total_loss_scalar, self._globalstep_last_logged = mine["total_loss"], mine["last_logged"]
        self._loss_before = self._tr_loss.clone()
        self._random = mine["random"]
        self._load_rng_state(None)
        self._evaluate_what_is_due()

    def _evaluate_what_is_due(self) -> None:
        """Do the evaluation in which the run was stopped, and the save that was to follow it."""
        control = self.state.stateful_callbacks.get("TrainerControl", {}).get("args", {})
        if control.get("should_evaluate"):
            self.control.should_evaluate, self.control.should_save = True, control["should_save"]
            self._maybe_log_save_evaluate(self._tr_loss, None, self.model, None, 0, None, 0.0)
            self._save_or_stop()

    def go_back_to(self, step: int) -> bool:
        """Take weights and optimizer from the checkpoint of `step`, and nothing else; False where it can't be done."""
        folder = self._folder(step)
        if lifecycle.on_main(lambda: self._writer.wait() or manifest.fault(folder)):
            return False
        self._load_from_checkpoint(str(folder))
        self._load_optimizer(folder)
        return True

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Set the generators; the stock Trainer calls it once the first batches are there, whose making draws, too."""
        rng.put(self._random)

    def _load_callback_state(self) -> None:
        """Take up the callbacks' counts (of evaluations without a better loss); their settings are the recipe's."""
        for callback in self.callback_handler.callbacks:
            saved = self.state.stateful_callbacks.get(type(callback).__name__)
            if isinstance(callback, ExportableState) and saved:
                vars(callback).update(saved["attributes"])
        best = checkpoint.best_of(self._resume_from) if self.args.load_best_model_at_end else None
        self.state.best_model_checkpoint = str(best) if best else None

    def _load_best_model(self) -> None:
        fault = lifecycle.on_main(lambda: manifest.fault(self._best()))
        if fault:
            raise MachineError(
                f"{self._best()}, the best model, can't be used: {fault}; run the same command again to make it anew"
            )
        super()._load_best_model()
