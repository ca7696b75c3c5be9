"""A Trainer that gives and takes full weights and optimizer states, though a process may hold only a shard of them."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import Trainer

from clm.errors import MachineError
from clm.training.checkpoint import sharding
from clm.training.checkpoint.snapshot import distinct


class ShardedTrainer(Trainer):
    """Gives full tensors out, and takes them in; under FSDP2 every process has to call each of these."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        sharding.keep_sums_in_fp32(self.accelerator)

    def full_model(self) -> torch.nn.Module:
        """The model itself, or where it is sharded a copy with all weights."""
        return sharding.unsharded(self._unwrapped())

    def full_tensors(self) -> dict[str, Any]:
        """All that an optimizer step changes, as dicts and lists: on the main process; nothing on the others.

        Raises:
            MachineError: DeepSpeed has it.
        """
        if self.is_deepspeed_enabled:
            raise MachineError(
                f"step {self.state.global_step:,} can't be saved: DeepSpeed keeps its optimizer states to itself; to "
                "save, launch with --config_file recipes/accelerate/fsdp2.yaml"
            )
        sharded = sharding.is_sharded(self.model)
        if not sharded and not self.args.should_save:
            return {}
        live = {"model": distinct(self._unwrapped()), "optimizer": self.optimizer.state_dict()}
        return sharding.gather(live, keep=self.args.should_save) if sharded else live

    def _unwrapped(self) -> torch.nn.Module:
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        if not sharding.is_sharded(self.model):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        tensors = load_file(Path(resume_from_checkpoint, "model.safetensors"))
        own = self._unwrapped()  # not the compiled one, which has other names
        result = own.load_state_dict(sharding.shard(tensors, own), strict=False)
        self._issue_warnings_after_load(result)

    def _load_optimizer(self, folder: Path) -> None:
        state = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
        self.optimizer.load_state_dict(sharding.shard_states(state, self.optimizer))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not sharding.is_sharded(self.model):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        self._load_optimizer(Path(checkpoint))
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint, "scheduler.pt"), weights_only=True))

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """A tied head isn't in the file, and needn't be; anything else missing is not to be passed over."""
        tied = set(getattr(self.accelerator.unwrap_model(self.model), "_tied_weights_keys", None) or ())
        if missing := set(load_result.missing_keys) - tied:
            raise MachineError(f"the checkpoint lacks weights: {', '.join(sorted(missing))}")
        if load_result.unexpected_keys:
            raise MachineError(f"the checkpoint has weights of another model: {', '.join(load_result.unexpected_keys)}")
