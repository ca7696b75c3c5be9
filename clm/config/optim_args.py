"""What `optim_args` says, as the recipe's checks let it pass."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clm.config.fields import MUON

MOMENTUM, NS_STEPS = 0.95, 5  # Muon's, torch's defaults


@dataclass(frozen=True)
class MuonSettings:
    """Muon's momentum and iterations (Newton-Schulz), and the shares of the learning rate of what AdamW trains beside
    it: embeddings, among them those of positions, and vectors (biases and LayerNorms).
    """

    momentum: float
    ns_steps: int
    embeddings: float
    positions: float
    vectors: float


def muon_settings(optim_args: str | None) -> MuonSettings:
    """From what is given; positions learn as the other embeddings do where nothing is said of them."""
    pairs = (pair.split("=") for pair in (optim_args or "").replace(" ", "").split(",") if pair)
    given = {name: float(value) for name, value in pairs}
    embeddings = given.get("embeddings", 1.0)
    positions, vectors = given.get("positions", embeddings), given.get("vectors", 1.0)
    iterations = int(given.get("ns_steps", NS_STEPS))
    return MuonSettings(given.get("momentum", MOMENTUM), iterations, embeddings, positions, vectors)


def embeddings_rate(training: Mapping[str, Any]) -> float:
    """The embeddings' learning rate in that of the matrices, from a recipe's training arguments."""
    return muon_settings(training.get("optim_args")).embeddings if training.get("optim") == MUON else 1.0
