"""The Trainer's subclass: what the stock one gets wrong for this job, and nothing else."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.utils.data import DataLoader

from clm.config.fields import MUON
from clm.data.blocks import Blocks
from clm.data.order import EpochOrder
from clm.files import sync
from clm.training import optim, schedule
from clm.training.callbacks import loss_scale
from clm.training.checkpoint.folders import EXPORT_STAGING
from clm.training.checkpoint.snapshot import distinct, write_model
from clm.training.micro_batch import MicroBatchTrainer
from clm.training.step import Step, read, refuse_not_finite


class ClmTrainer(MicroBatchTrainer):
    """Trains on `Blocks` in `EpochOrder`, evaluates by `evaluate_fn`, exports what other tools load.

    What it and its base classes override of the stock Trainer is listed in `hooks.py`.

    Args:
        evaluate_fn: model -> metrics with "eval_loss"; called on every process, returns the same on all.
        loss_spike: what becomes of a step whose loss is far above those before: "warn", "skip" or "rollback".
        kwargs: MicroBatchTrainer's, and the Trainer's own.
    """

    def __init__(
        self,
        *,
        train_dataset: Blocks,
        evaluate_fn: Callable[[torch.nn.Module], dict[str, float]],
        loss_spike: str,
        **kwargs: Any,
    ) -> None:
        self._evaluate_fn, self._loss_spike = evaluate_fn, loss_spike
        super().__init__(train_dataset=train_dataset, **kwargs)
        self.add_callback(loss_scale.LossScale())
        # The stock Trainer turns the cache off in the config, and would save it so: generation would crawl.
        self.model.config.use_cache = True

    def get_train_dataloader(self) -> DataLoader:
        """Batches in `EpochOrder`: only this process's shard, so accelerate has nothing to split."""
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
        if self.optimizer is None and self.args.optim == MUON:
            self.optimizer = optim.MuonAndAdamW(self.model if model is None else model, self.args)
        return super().create_optimizer(model)

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """The recipe's schedule, by the function that plan, explain and forecast ask."""
        if self.lr_scheduler is None:
            optimizer = self.optimizer if optimizer is None else optimizer
            self.lr_scheduler = schedule.scheduler(optimizer, vars(self.args), num_training_steps)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log: the loss with the speed since the last time and, where it is known, the noise scale in tokens.

        The mean loss at the end is made that of the whole run: the stock one is of this start only.
        """
        if "train_loss" in logs:
            logs["train_loss"] = self._total_loss_scalar / max(1, self.state.global_step)
        with self.throughput.waiting_for("logging"):
            if "loss" in logs:
                logs = {**logs, **self.throughput.read(self.state.global_step)}
                if (tokens := self._noise_scale.tokens()) is not None:
                    logs["gradient_noise_scale"] = round(tokens)
                if self.accelerator.scaler is not None:
                    logs["loss_scale"] = self.accelerator.scaler.get_scale()
            super().log(logs, start_time)

    def num_examples(self, dataloader: DataLoader) -> int:
        """Samples in an epoch."""
        return len(self.train_dataset)

    # An optimizer step, before it is taken

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> float | None:
        of_step = self._tr_loss - self._loss_before
        norm = super()._get_grad_norm(model, grad_norm)
        norm, loss, self._known_loss, small_norm = read(norm, of_step, self._tr_loss, self._noise_scale.first_norm)
        step = self._step_to_take(norm, self._mean_of_processes(loss))
        overflows = loss_scale.overflows(self.accelerator.scaler, step)
        if not overflows:
            refuse_not_finite(step)
        self._noise_scale.full_step(step.gradient_norm, step.labels, small_norm)
        self._check_for_spike(model, step)
        return None if overflows else norm  # it is logged

    def _step_to_take(self, gradient_norm: float, loss: float) -> Step:
        epoch, step = divmod(self.state.global_step, self._steps_in_epoch)
        return Step(
            number=self.state.global_step + 1,
            epoch=epoch + 1,
            number_in_epoch=step + 1,
            learning_rate=self._get_learning_rate(),
            loss=loss,
            gradient_norm=gradient_norm,
            labels=self._step_labels,
        )

    def _mean_of_processes(self, loss: float) -> float:
        """The loss over all processes, of each one's own, in nats a token."""
        if self._group is None:
            return loss
        total = torch.tensor(loss, dtype=torch.float64)
        distributed.all_reduce(total, group=self._group)
        return total.item() / self.args.world_size

    def _check_for_spike(self, model: torch.nn.Module, step: Step) -> None:
        mean = self._spikes.mean
        if self._spikes.is_one(step.loss):
            done = self._answer_spike(model)
            if self.args.should_save:
                print(f"warning: the loss of {step} is {step.loss:.4f}, after a mean of {mean:.4f}: {done}", flush=True)

    def _answer_spike(self, model: torch.nn.Module) -> str:
        """Do what `loss_spike` asks for, and say what that was."""
        if self._loss_spike == "warn":
            return "loss_spike skip or rollback would leave it out"
        model.zero_grad()  # an optimizer leaves a weight without a gradient alone
        if self._loss_spike == "rollback" and self.go_back_to(self._spikes.saved_step):
            return f"back to the weights of step {self._spikes.saved_step:,}, and on with the next batch"
        return "the weights stay as they were"

    # Evaluation and export

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score the whole validation text, log it, and tell the callbacks."""
        before = self.throughput.seconds["evaluation"]
        with self.throughput.waiting_for("evaluation"):
            model = self.full_model()
            metrics = self._evaluate_fn(model)
        metrics["eval_runtime"] = round(self.throughput.seconds["evaluation"] - before, 4)
        self.log(dict(metrics))
        with self.throughput.waiting_for("evaluation"):  # samples are drawn
            trained, self.callback_handler.model = self.callback_handler.model, model
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            self.callback_handler.model = trained
        return metrics

    def export(self, model: torch.nn.Module) -> None:
        """Put a full `model` and the tokenizer into output_dir for other tools, each file complete or not at all.

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
