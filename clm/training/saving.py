"""A Trainer whose checkpoints are written in the background, each complete or not there."""

import copy
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers.trainer_callback import ExportableState

from clm.errors import MachineError
from clm.launch import processes as lifecycle
from clm.training.callbacks.loss_spikes import LossSpikes
from clm.training.checkpoint import manifest, rng, sharding
from clm.training.checkpoint.contents import Contents
from clm.training.checkpoint.writer import CheckpointWriter, Saved
from clm.training.sharded import ShardedTrainer
from clm.training.throughput import Throughput


class SavingTrainer(ShardedTrainer):
    """Saves checkpoints while training goes on, and loads the best one, or the one of a rollback.

    Args:
        identity: what makes this run this run; saved with every checkpoint.
        resume_from: the checkpoint that `train` will be given.
        saved: CheckpointWriter's.
        throughput: the run's clock.
        kwargs: the Trainer's own.
    """

    def __init__(
        self,
        *,
        identity: dict[str, Any],
        resume_from: Path | None,
        saved: Saved,
        throughput: Throughput,
        **kwargs: Any,
    ) -> None:
        self._identity, self._resume_from, self.throughput = identity, resume_from, throughput
        self._save_due = False
        super().__init__(**kwargs)
        self._spikes = LossSpikes()
        self.add_callback(self._spikes)  # so that checkpoints keep what it knows
        self._writer = CheckpointWriter(Path(self.args.output_dir), self.args.save_total_limit, resume_from, saved)
        # What save_pretrained would write into config.json.
        self.model.config.architectures, self.model.config.dtype = [type(self.model).__name__], self.model.dtype
        # The writer's own: a tokenizer that encodes can't be saved by another thread meanwhile.
        self._tokenizer = copy.deepcopy(self.processing_class)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As the stock one; whatever ends it, what is being saved is."""
        try:
            return super().train(*args, **kwargs)
        finally:
            self._writer.close()

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        self._save_due = True  # once all else that belongs to this step is done

    def _start_saving(self) -> None:
        with self.throughput.waiting_for("saving"):
            self._hand_over_to_writer()

    def _hand_over_to_writer(self) -> None:
        self._save_due = False
        self.store_flos()
        self._remember_best()
        processes = gather_object([self._process_state()])  # every process has got here, and says how it stands
        live = self.full_tensors()
        if self.args.should_save:
            self._update_callback_states()
            state = copy.copy(self.state)
            state.log_history = list(state.log_history)
            state.stateful_callbacks = copy.deepcopy(state.stateful_callbacks)
            scheduler = copy.deepcopy(self.lr_scheduler.state_dict())
            scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler else None
            contents = Contents(state, self._identity, scheduler, processes, self._unwrapped(), self._tokenizer, scaler)
            keep = {self._best(), self._folder(self._spikes.saved_step)}
            self._writer.start(state.global_step, live, contents.write, contents.facts(), keep)

    def _finish_saving(self) -> None:
        """Wait for what is being written.

        Raises:
            MachineError: it couldn't be; on every process.
        """
        with self.throughput.waiting_for("saving"):
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

    def go_back_to(self, step: int) -> bool:
        """Take weights and optimizer from the checkpoint of `step`, and nothing else; False where it can't be done."""
        folder = self._folder(step)
        if lifecycle.on_main(lambda: self._writer.wait() or manifest.fault(folder)):
            return False
        self._load_from_checkpoint(str(folder))
        self._load_optimizer(folder)
        return True

    def _load_scaler(self, checkpoint: str | None) -> None:
        if self.accelerator.scaler is not None:
            super()._load_scaler(checkpoint)

    def _load_best_model(self) -> None:
        fault = lifecycle.on_main(lambda: manifest.fault(self._best()))
        if fault:
            raise MachineError(
                f"{self._best()}, the best model, can't be used: {fault}; run the same command again to make it anew"
            )
        if sharding.is_sharded(self.model):
            self._load_from_checkpoint(self.state.best_model_checkpoint)
        else:
            super()._load_best_model()
