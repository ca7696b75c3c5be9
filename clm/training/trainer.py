"""The Trainer's subclass: what the stock one gets wrong for this job, and nothing else."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import distributed
from torch.utils.data import DataLoader

from clm.data.blocks import Blocks
from clm.data.order import EpochOrder
from clm.errors import MachineError
from clm.files import sync
from clm.model.loss import IGNORED
from clm.training import optim
from clm.training.callbacks.noise_scale import GradientNoiseScale
from clm.training.checkpoint.find import EXPORT_STAGING
from clm.training.checkpoint.snapshot import distinct, write_model
from clm.training.resumable import ResumableTrainer
from clm.training.throughput import Throughput


class ClmTrainer(ResumableTrainer):
    """Trains on `Blocks` in `EpochOrder`, evaluates by `evaluate_fn`, exports what other tools load.

    Args:
        evaluate_fn: model -> metrics with "eval_loss"; called on every process, returns the same on all.
        throughput: the run's clock.
        loss_spike: what becomes of a step whose loss is far above those before: "warn", "skip" or "rollback".
        kwargs: ResumableTrainer's, and the Trainer's own.
    """

    def __init__(
        self,
        *,
        train_dataset: Blocks,
        evaluate_fn: Callable[[torch.nn.Module], dict[str, float]],
        throughput: Throughput,
        loss_spike: str,
        **kwargs: Any,
    ) -> None:
        self._evaluate_fn, self._loss_spike, self.throughput = evaluate_fn, loss_spike, throughput
        self._noise_scale, self._micro_batch = GradientNoiseScale(), 0
        super().__init__(train_dataset=train_dataset, **kwargs)
        self.add_callback(self._noise_scale)  # so that checkpoints keep what it knows
        # The stock Trainer turns the cache off in the config, and would save it so: generation would crawl.
        self.model.config.use_cache = True

    @property
    def first_step(self) -> int:
        """The optimizer step at which this process took the run up."""
        return self._initial_global_step

    def get_train_dataloader(self) -> DataLoader:
        """Batches in `EpochOrder`, this process's share only, so accelerate has nothing to split."""
        order = EpochOrder(
            len(self.train_dataset),
            self._train_batch_size,
            self.args.seed if self.args.data_seed is None else self.args.data_seed,
            self.args.process_index,
            self.args.world_size,
            self.train_dataset.shifts,
        )
        return DataLoader(
            self.train_dataset,
            batch_sampler=order,
            collate_fn=_as_it_is,
            num_workers=self.args.dataloader_num_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            persistent_workers=self.args.dataloader_persistent_workers,
            multiprocessing_context=self.args.dataloader_multiprocessing_context,
            timeout=self.args.ddp_timeout if self.args.dataloader_num_workers else 0,  # seconds; else 0 is for ever
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type == "cuda",
        )

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """The recipe's optimizer; of `muon` the stock Trainer knows nothing."""
        if self.optimizer is None and self.args.optim == optim.MUON:
            self.optimizer = optim.MuonAndAdamW(self.model if model is None else model, self.args)
        return super().create_optimizer(model)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """The next optimizer step's batches; the time until they are there is counted."""
        with self.throughput.waiting_for("data"):
            return super().get_batch_samples(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, the loss with the speed since the last time and the gradient noise scale in tokens, where known."""
        with self.throughput.waiting_for("logging"):
            if "loss" in logs:
                logs = {**logs, **self.throughput.read(self.state.global_step)}
                if (tokens := self._noise_scale.tokens()) is not None:
                    logs["gradient_noise_scale"] = round(tokens)
            super().log(logs, start_time)

    def _start_saving(self) -> None:
        with self.throughput.waiting_for("saving"):
            super()._start_saving()

    def _finish_saving(self) -> None:
        with self.throughput.waiting_for("saving"):
            super()._finish_saving()

    def num_examples(self, dataloader: DataLoader) -> int:
        """Samples in an epoch."""
        return len(self.train_dataset)

    def _run_epoch(self, **kwargs: Any) -> None:
        if self.state.global_step == self.first_step:
            logged = [entry["elapsed_seconds"] for entry in self.state.log_history if "elapsed_seconds" in entry]
            self.throughput.start(self.first_step, max(logged, default=0.0))
        epoch, resumed = kwargs["epoch"], kwargs["epoch"] == kwargs["epochs_trained"]
        first_batch = kwargs["steps_trained_in_current_epoch"] if resumed else 0
        kwargs["train_dataloader"].batch_sampler.start_at(epoch, first_batch)
        # The stock Trainer would walk past every batch that was trained on; the order starts where it is told to.
        with patch("transformers.trainer.skip_first_batches", lambda dataloader, _: dataloader):
            super()._run_epoch(**kwargs)

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """As the stock one; the gradients of a step's first micro-batch tell the gradient noise scale."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self._micro_batch == 0 and not self.accelerator.sync_gradients:
            labels = int((inputs["labels"] != IGNORED).sum())
            if labels:
                share = labels * self.args.world_size / float(num_items_in_batch)
                self._noise_scale.first_micro_batch(model.parameters(), labels, share)
        self._micro_batch += 1
        self._step_labels = num_items_in_batch
        return loss

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)  # called before every optimizer step, clipping or not
        loss, (epoch, batch) = self._step_loss(), divmod(self.state.global_step, self._steps_in_epoch)
        rate = self._get_learning_rate()
        step = (
            f"step {self.state.global_step + 1:,} (learning rate {rate:.3g}, batch {batch + 1:,} of epoch {epoch + 1})"
        )
        for name, value in (("gradient", norm), ("loss", loss)):
            if not math.isfinite(value):
                raise MachineError(
                    f"the {name} isn't finite at {step}: lower learning_rate or warm up for longer; "
                    "the last checkpoint is whole"
                )
        self._noise_scale.whole_step(float(norm), int(self._step_labels))
        self._micro_batch = 0
        before = self._spikes.mean
        if self._spikes.is_one(loss):
            done = self._meet_spike(model)
            if self.args.should_save:
                print(f"warning: the loss of {step} is {loss:.4f}, after a mean of {before:.4f}: {done}", flush=True)
        return norm

    def _step_loss(self) -> float:
        """The loss of the step under way, in nats a token, over all processes."""
        loss = (self._tr_loss - self._loss_before).double().cpu()
        if self._group is not None:
            distributed.all_reduce(loss, group=self._group)
        return loss.item() / self.args.world_size

    def _meet_spike(self, model: torch.nn.Module) -> str:
        """Do what `loss_spike` asks for, and say what that was."""
        if self._loss_spike == "warn":
            return "loss_spike skip or rollback would leave it out"
        model.zero_grad()  # what has no gradient, the optimizer leaves alone
        if self._loss_spike == "rollback" and self.go_back_to(self._spikes.saved_step):
            return f"back to the weights of step {self._spikes.saved_step:,}, and on with the next batch"
        return "the weights stay as they were"

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score the whole validation text, log it, and tell the callbacks."""
        before = self.throughput.seconds["evaluation"]
        with self.throughput.waiting_for("evaluation"):
            model = self.whole_model()
            metrics = self._evaluate_fn(model)
        metrics["eval_runtime"] = round(self.throughput.seconds["evaluation"] - before, 4)
        self.log(dict(metrics))
        with self.throughput.waiting_for("evaluation"):  # samples are drawn
            trained, self.callback_handler.model = self.callback_handler.model, model
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            self.callback_handler.model = trained
        return metrics

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> dict[str, float]:
        if skip_scheduler and self.state.global_step:  # eval_on_start, which only a run's first start does
            return {}
        return super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        is_best = super()._determine_best_metric(metrics, trial)
        if is_best and self.args.load_best_model_at_end:
            self.control.should_save = True  # the stock Trainer forgets a best evaluation between two saves
        return is_best

    def export(self, model: torch.nn.Module) -> None:
        """Put a whole `model` and the tokenizer into output_dir for other tools, each file whole or not at all.

        Byte for byte as in a checkpoint of them, so that the Hub takes each but once.
        """
        output_dir = Path(self.args.output_dir)
        staging = output_dir / EXPORT_STAGING
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
            tensors = {name: tensor.detach().cpu() for name, tensor in distinct(model).items()}
            write_model(staging, model, self.processing_class, tensors)
            for file in staging.iterdir():
                sync(file)
                file.replace(output_dir / file.name)
            staging.rmdir()
            sync(output_dir)


def _as_it_is(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return batch
