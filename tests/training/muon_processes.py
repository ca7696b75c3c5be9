"""What each process of test_muon.py does: three layers of a block's four matrices, moved by Muon.

As a program of its own it is run_clm.py, with Muon's iterations in fp32.
"""

import sys
from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from clm.training import muon

STEPS = 3


class Layers(torch.nn.Module):
    """Matrices as GPT-2's, of width 8: 12 pieces of 8 x 8 and 6 of 8 x 32."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        shapes = [(8, 24), (8, 8), (8, 32), (32, 8)] * 3
        self.weights = torch.nn.ParameterList(torch.randn(shape) for shape in shapes)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """A loss that pulls at every weight; `values` are (samples, 32)."""
        return sum((values[:, : len(weight)] @ weight).tanh().square().mean() for weight in self.weights)


def optimizer(layers: Layers) -> muon.PiecewiseMuon:
    """Muon, the first of each layer's matrices in three pieces."""
    weights = list(layers.weights)
    groups = [
        {"params": [weight for at, weight in enumerate(weights) if at % 4], "pieces": 1},
        {"params": weights[::4], "pieces": 3},
    ]
    return muon.PiecewiseMuon(groups, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")


def from_given_gradients() -> list[torch.Tensor]:
    """The weights after steps by gradients that are the same everywhere."""
    layers = Layers()
    muons = optimizer(layers)
    for _ in range(STEPS):
        for weight in layers.weights:
            weight.grad = torch.randn_like(weight)
        muons.step()
    return list(layers.weights)


def from_a_batch(rank: int, processes: int) -> list[torch.Tensor]:
    """The weights after steps on 8 samples, of which each process has its share; iterations are in fp32."""
    layers, muon.DTYPE = Layers(), torch.float32
    muons = optimizer(layers)
    model = DistributedDataParallel(layers) if processes > 1 else layers
    for step in range(STEPS):
        samples = torch.randn(8, 32, generator=torch.Generator().manual_seed(step))
        model(samples[rank::processes]).backward()
        muons.step()
        muons.zero_grad()
    muon.DTYPE = torch.bfloat16
    return list(layers.weights)


def run(rank: int, processes: int, folder: str) -> None:
    """One of so many processes; weights go to rank-N.pt."""
    if processes > 1:
        place = f"file://{folder}/store-{processes}"
        distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=processes)
    weights = from_given_gradients(), from_a_batch(rank, processes)
    torch.save([[weight.detach() for weight in each] for each in weights], Path(folder, f"rank-{rank}.pt"))
    if processes > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    import run_clm

    muon.DTYPE = torch.float32
    sys.exit(run_clm.main())
