"""What a checkpoint holds: model, optimizer, schedule, where every process stood, and the run's identity."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerState

from clm.files import write_json
from clm.training.checkpoint import manifest
from clm.training.checkpoint.identity import IDENTITY_FILE
from clm.training.checkpoint.snapshot import save, write_model

SCALER_FILE = "scaler.pt"  # of fp16's gradient scaler, where there is one; the stock Trainer's name
PROCESSES_FILE = "rng_state.pth"  # a list: for each process its random generators and the losses not logged yet


@dataclass(frozen=True)
class Contents:
    """All of a checkpoint but its tensors, as it was when the save began: nothing of it changes afterwards."""

    state: TrainerState
    identity: dict[str, Any]
    scheduler: dict[str, Any]
    processes: list[dict[str, Any]]
    model: PreTrainedModel  # for its config
    tokenizer: PreTrainedTokenizerBase
    scaler: dict[str, Any] | None = None  # fp16's

    def write(self, folder: Path, tensors: dict[str, Any]) -> dict[str, Any]:
        """Put every file into `folder`, with the model's and the optimizer's `tensors`.

        Returns:
            Size and SHA-256 of the files that are flushed and hashed already, by name.
        """
        write_json(folder / "trainer_state.json", asdict(self.state))
        write_json(folder / IDENTITY_FILE, self.identity)
        parts = {"optimizer.pt": tensors["optimizer"], "scheduler.pt": self.scheduler, PROCESSES_FILE: self.processes}
        if self.scaler is not None:
            parts[SCALER_FILE] = self.scaler
        weights = write_model(folder, self.model, self.tokenizer, tensors["model"])
        return weights | {name: save(value, folder / name) for name, value in parts.items()}

    def facts(self) -> dict[str, Any]:
        """What the manifest says besides the files: how many processes wrote it, and two fingerprints."""
        data = {key: self.identity[key] for key in ("text", "tokenizer")}
        return {
            "world_size": len(self.processes),
            "recipe": manifest.fingerprint(self.identity),
            "data": manifest.fingerprint(data),
        }
