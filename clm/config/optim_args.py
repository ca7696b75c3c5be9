"""What `optim_args` says, as the recipe's checks let it pass."""

from collections.abc import Mapping
from typing import Any

from clm.config.fields import MUON

MOMENTUM = 0.95  # Muon's, torch's default


def muon_settings(optim_args: str | None) -> tuple[float, float, float]:
    """Muon's momentum, and the shares of the rate of embeddings and positions."""
    pairs = (pair.split("=") for pair in (optim_args or "").replace(" ", "").split(",") if pair)
    given = {name: float(value) for name, value in pairs}
    embeddings = given.get("embeddings", 1.0)
    return given.get("momentum", MOMENTUM), embeddings, given.get("positions", embeddings)


def embeddings_rate(training: Mapping[str, Any]) -> float:
    """The embeddings' learning rate in that of the matrices, from a recipe's training arguments."""
    return muon_settings(training.get("optim_args"))[1] if training.get("optim") == MUON else 1.0
