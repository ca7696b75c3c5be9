"""torch's Muon on stacks of matrices: the same updates by a tenth of the kernels, shared out among processes."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import distributed
from torch.distributed.tensor import DTensor
from torch.nn import functional as F
from torch.optim import Muon
from torch.optim._muon import _adjust_lr

from clm.launch.hardware import has_bf16

DTYPE = torch.bfloat16  # of the iterations, as in torch's Muon
# A stack holds no more, which bounds what a step needs beside its states: 8 bytes an element at most, 0.5 GB, freed
# with the step, which comes when the activations are gone. 24 matrices of 768 x 3,072 are 5.7e7 elements.
STACK_ELEMENTS = 2**26


@dataclass(frozen=True)
class _Matrix:
    """A weight, its gradient and its momentum, each (rows, columns), and the settings of its group."""

    weight: torch.Tensor
    grad: torch.Tensor
    momentum: torch.Tensor
    group: dict[str, Any]

    @property
    def shape(self) -> torch.Size:
        """Of a piece."""
        return torch.Size([self.weight.shape[0], self.weight.shape[1] // self.group["pieces"]])

    @property
    def layout(self) -> tuple:
        """Equal for matrices whose updates lie alike in their weights."""
        return *self.shape, self.group["pieces"], id(self.group)

    @property
    def stacked_with(self) -> tuple:
        """Equal for matrices whose pieces can be orthogonalised together."""
        keys = ("momentum", "nesterov", "ns_coefficients", "ns_steps", "eps")
        return *sorted(self.shape), *(self.group[key] for key in keys)

    def pieces(self, of: torch.Tensor) -> list[torch.Tensor]:
        """Views of the gradient's pieces, or of the momentum's, no taller than wide."""
        return [piece.t() if self.shape[0] > self.shape[1] else piece for piece in of.chunk(self.group["pieces"], 1)]


class PiecewiseMuon(Muon):
    """torch's Muon, a group's matrices each taken as so many `pieces` side by side.

    Matrices of one shape are orthogonalised as a stack: on a GPU a few kernels instead of many. Under DDP, where every
    process has all gradients, each does a part of a stack and gets the others' parts from them. Under FSDP2 it is
    torch's own loop, over matrices that are spread over the processes.
    """

    def _init_group(self, group: dict[str, Any], *of_step: list[torch.Tensor]) -> bool:
        is_complex = super()._init_group(group, *of_step)
        for tensors in of_step:  # weights, gradients, momentum
            tensors[:] = [piece for tensor in tensors for piece in tensor.chunk(group["pieces"], dim=1)]
        return is_complex

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step."""
        if any(isinstance(weight, DTensor) for group in self.param_groups for weight in group["params"]):
            return super().step(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for stack in _stacks([matrix for group in self.param_groups for matrix in self._averaged(group)]):
            _move(stack, _orthogonalised(stack))
        return loss

    def _averaged(self, group: dict[str, Any]) -> list[_Matrix]:
        """A group's matrices, their gradients taken into the momentum; their weights have decayed."""
        weights, grads, momenta = [], [], []
        super()._init_group(group, weights, grads, momenta)
        if weights:
            torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        return [_Matrix(*tensors, group) for tensors in zip(weights, grads, momenta, strict=True)]


def _stacks(matrices: list[_Matrix]) -> Iterator[list[_Matrix]]:
    """Matrices to be orthogonalised together, those of one layout side by side."""
    in_order = sorted(matrices, key=lambda matrix: (matrix.stacked_with, matrix.layout))
    for _, alike in groupby(in_order, key=lambda matrix: matrix.stacked_with):
        stack: list[_Matrix] = []
        room = STACK_ELEMENTS
        for matrix in alike:
            if stack and matrix.weight.numel() > room:
                yield stack
                stack, room = [], STACK_ELEMENTS
            stack.append(matrix)
            room -= matrix.weight.numel()
        yield stack


def _orthogonalised(stack: list[_Matrix]) -> torch.Tensor:
    """The steps of all pieces of a stack, (pieces, rows, columns), no taller than wide."""
    group, count = stack[0].group, sum(matrix.group["pieces"] for matrix in stack)
    processes = distributed.get_world_size() if distributed.is_initialized() else 1
    share = math.ceil(count / processes)
    mine = slice(share * distributed.get_rank(), share * (distributed.get_rank() + 1)) if processes > 1 else slice(None)
    grads = [piece for matrix in stack for piece in matrix.pieces(matrix.grad)][mine]
    momenta = [piece for matrix in stack for piece in matrix.pieces(matrix.momentum)][mine]
    dtype = dtype_on(stack[0].weight.device)
    if grads:
        averages = torch.stack(momenta)
        if group["nesterov"]:
            averages = torch.stack(grads).lerp_(averages, group["momentum"])
        if dtype == torch.float16:  # which has nothing below 6e-8, where gradients are
            averages.div_(torch.linalg.vector_norm(averages, dim=(1, 2), keepdim=True).clamp(min=group["eps"]))
        part = newton_schulz(averages.to(dtype), group["ns_coefficients"], group["ns_steps"], group["eps"])
    else:  # more processes than matrices
        part = stack[0].weight.new_empty((0, *sorted(stack[0].shape)), dtype=dtype)
    if processes == 1:
        return part
    steps = part.new_empty((share * processes, *part.shape[1:]))
    distributed.all_gather_single(steps, F.pad(part, (0, 0, 0, 0, 0, share - len(part))))
    return steps[:count]


def dtype_on(device: torch.device) -> torch.dtype:
    """DTYPE, or what is faster where bf16 is an emulation: fp16 on such a GPU, fp32 on such a CPU.

    On a CPU of AVX-512 without bf16 the iterations take a quarter of the time in fp32 (docs/training-speed.md).
    """
    if torch.bfloat16 != DTYPE or device.type not in ("cuda", "cpu") or has_bf16(device.type):
        return DTYPE
    return torch.float16 if device.type == "cuda" else torch.float32


def newton_schulz(
    matrices: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> torch.Tensor:
    """Near to U V^T of each matrix U S V^T, by the iterations of torch's Muon (Jordan 2024).

    Args:
        matrices: (matrices, rows, columns), no taller than wide; overwritten.
        coefficients: of the first, third and fifth power.
        steps: iterations.
        eps: the least norm that is divided by.
    """
    a, b, c = coefficients
    matrices = matrices.div_(torch.linalg.vector_norm(matrices, dim=(1, 2), keepdim=True).clamp(min=eps))
    for _ in range(steps):
        gram = matrices @ matrices.mT
        gram = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        matrices = torch.baddbmm(matrices, gram, matrices, beta=a)
    return matrices


def _move(stack: list[_Matrix], steps: torch.Tensor) -> None:
    """Take the steps of a stack's pieces, in the pieces' order."""
    done = 0
    for _, alike in groupby(stack, key=lambda matrix: matrix.layout):
        matrices = list(alike)
        group, shape = matrices[0].group, matrices[0].shape
        ours = steps[done : done + len(matrices) * group["pieces"]]
        done += len(ours)
        if shape[0] > shape[1]:
            ours = ours.mT
        # (matrices, pieces, rows, columns) become (matrices, rows, pieces x columns), in the memory order of weights.
        ours = ours.unflatten(0, (len(matrices), group["pieces"])).transpose(1, 2)
        ours = ours.to(matrices[0].weight.dtype, memory_format=torch.contiguous_format).flatten(2)
        rate = _adjust_lr(group["lr"], group["adjust_lr_fn"], shape)
        torch._foreach_add_([matrix.weight for matrix in matrices], list(ours), alpha=-rate)
