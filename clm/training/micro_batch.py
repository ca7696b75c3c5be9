"""A Trainer whose micro-batches never wait for the device, and become smaller where its memory is too small."""

from typing import Any

import numpy as np
import torch
from torch import distributed

from clm.data.blocks import IGNORED
from clm.training.callbacks import loss_scale
from clm.training.callbacks.noise_scale import GradientNoiseScale
from clm.training.checkpoint import rng, sharding
from clm.training.resumable import ResumableTrainer

FIRST_STEPS = 10  # of a start, in which a lack of memory is met by smaller micro-batches; later it has another cause


class MicroBatchTrainer(ResumableTrainer):
    """Takes micro-batches through the model, and knows how many labels a step has.

    Batches are counted while they are in main memory and copied without blocking, so that the host runs ahead of the
    GPU. A micro-batch for which the device's memory is too small is cut into halves, and so are all that follow. The
    step's earlier ones are done again, from the random state at its start, so that the step is what it would have been
    with smaller ones from the start.

    Args:
        kwargs: ResumableTrainer's, and the Trainer's own.
    """

    def __init__(self, **kwargs: Any) -> None:
        self._noise_scale = GradientNoiseScale()
        self._parts, self._batches, self._done = 1, [], 0  # parts of a micro-batch; those of the step, and done of them
        self._random_before: dict[str, Any] | None = None
        self._step_labels, self._flops_a_token = 0, None
        super().__init__(**kwargs)
        self.add_callback(self._noise_scale)  # so that checkpoints keep what it knows

    def _prepare_input(self, data: Any) -> Any:
        # From pinned memory it doesn't block; from other memory torch copies it aside first.
        if isinstance(data, torch.Tensor) and not self.is_deepspeed_enabled:
            return data.to(self.args.device, non_blocking=self.args.device.type == "cuda")
        return super()._prepare_input(data)

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, torch.Tensor]], device: torch.device) -> Any:
        self._batches, self._done = batch_samples, 0
        if not batch_samples:
            return None
        self._step_labels = sum(count_labels(batch["labels"]) for batch in batch_samples)
        if self._group is not None and self.args.average_tokens_across_devices:
            total = torch.tensor(self._step_labels)
            distributed.all_reduce(total, group=self._group)  # on the CPU
            self._step_labels = int(total)
        return torch.full((), self._step_labels, dtype=torch.float32, device=device)

    def floating_point_ops(self, inputs: dict[str, torch.Tensor]) -> int:
        """As the stock one, which counts the parameters anew for every micro-batch."""
        if self._flops_a_token is None:
            self._flops_a_token = super().floating_point_ops({"input_ids": torch.empty(1, device="meta")})
        return self._flops_a_token * inputs["input_ids"].numel()

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """As the stock one, in as many parts as fit; a step's first gradients tell the gradient noise scale."""
        early = self.state.global_step - self.first_step < FIRST_STEPS and self._can_start_over()
        if self._done == 0:
            self._random_before = rng.get() if early else None
        if early and self.args.world_size > 1 and self.accelerator.sync_gradients:
            with self.accelerator.no_sync(model):
                loss = self._in_parts_that_fit(model, inputs, num_items_in_batch)
            self._add_up_gradients(model, inputs, num_items_in_batch)
        else:
            loss = self._in_parts_that_fit(model, inputs, num_items_in_batch)
        self._done += 1
        if not self.accelerator.sync_gradients:  # others follow
            processes, scale = self.args.world_size, loss_scale.scale_of(self.accelerator.scaler, self.args.device)
            tokens = count_labels(inputs["labels"])
            self._noise_scale.after_micro_batch(model.parameters(), tokens, self._step_labels, processes, scale)
        return loss

    # Memory

    def _can_start_over(self) -> bool:
        return not (self.is_deepspeed_enabled or sharding.is_sharded(self.model))  # others wait for our part

    def _in_parts_that_fit(
        self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], num_items_in_batch: Any
    ) -> torch.Tensor:
        earlier: list[dict[str, torch.Tensor]] = []
        while True:
            try:
                for batch in earlier:
                    with self.accelerator.no_sync(model):
                        self._tr_loss += self._in_parts(model, batch, num_items_in_batch)
                return self._in_parts(model, inputs, num_items_in_batch)
            except torch.OutOfMemoryError:
                if self._random_before is None or self._parts >= len(inputs["labels"]):
                    raise
            self._halve(len(inputs["labels"]))  # here, where the exception keeps no tensors alive
            model.zero_grad()
            rng.put(self._random_before)
            self._tr_loss.copy_(self._loss_before)
            earlier = self._batches[: self._done]

    def _add_up_gradients(
        self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], num_items_in_batch: Any
    ) -> None:
        """Have DDP add up the processes' gradients in a pass of its own, whose own gradients are 0: no label counts.

        In a pass that adds them up, memory must not run out: the others would wait for sums that never come.
        """
        random, rows = rng.get(), -(-len(inputs["labels"]) // self._parts)
        blank = {key: value[:rows] for key, value in inputs.items()}
        blank["labels"] = torch.full_like(blank["labels"], IGNORED)
        super().training_step(model, blank, num_items_in_batch)
        rng.put(random)

    def _halve(self, sequences: int) -> None:
        self._parts *= 2
        smaller = -(-sequences // self._parts)
        self.state.train_batch_size = smaller  # with which a resumed run begins
        if self.args.device.type == "cuda":
            torch.cuda.empty_cache()
        who = f"process {self.args.process_index}: " if self.args.world_size > 1 else ""
        print(
            f"{who}out of memory in step {self.state.global_step + 1:,}: the run goes on with micro-batches of "
            f"{smaller} instead of {-(-sequences * 2 // self._parts)}; the batch of a step stays as it was",
            flush=True,
        )

    def _in_parts(
        self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], num_items_in_batch: Any
    ) -> torch.Tensor:
        if self._parts == 1:
            return super().training_step(model, inputs, num_items_in_batch)
        rows = -(-len(inputs["labels"]) // self._parts)
        parts = [
            {key: value[start : start + rows] for key, value in inputs.items()}
            for start in range(0, len(inputs["labels"]), rows)
        ]
        with self.accelerator.no_sync(model):
            loss = super().training_step(model, parts[0], num_items_in_batch)
            for part in parts[1:-1]:
                loss += super().training_step(model, part, num_items_in_batch)
        return loss + super().training_step(model, parts[-1], num_items_in_batch)


def count_labels(labels: torch.Tensor) -> int:
    """Labels that count, of a batch in main memory: counted there, so that no device is waited for."""
    return int(np.count_nonzero(labels.numpy() != IGNORED))
