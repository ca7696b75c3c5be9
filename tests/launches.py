"""Counts what a GPU would be asked to do, without one: kernels launched, and numbers that the host waits for.

    with Launches() as asked:
        ...
    asked.launches, asked.host_reads, asked.by_op

It sees the operations that reach torch's dispatcher, on tensors of any device, also meta and FakeTensor's, and forward
and backward alike. How many kernels CUDA starts for one is from reading its source (torch 2.13), and rather too high:
most start one; `_HEAVY` has those that start more; views and empty tensors start none.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Of aten's operations that aren't views, those that start nothing.
_FREE = {
    "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view", "detach", "lift_fresh",
    "alias", "resize_", "set_", "_local_scalar_dense", "is_same_size", "scalar_tensor",
}  # fmt: skip
# Those that start more than one, by reading ATen/native/cuda: index_put_ and embedding's backward sort their indices.
_HEAVY = {
    "nonzero": 4,
    "masked_select": 5,
    "index_put": 5,
    "index_put_": 4,
    "embedding_dense_backward": 6,
    "multinomial": 6,
}
_READS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "unique_dim", "_unique2"}
# aten/src/ATen/native/cuda/MultiTensorApply.cuh: one kernel takes so many lists of so many tensors, in chunks.
_CHUNK, _BLOCKS, _TENSORS = 65_536, 320, (110, 64, 48, 36, 30)
_CAT = 128  # tensors that one kernel joins: CAT_ARRAY_BATCH_SIZE of Shape.cu


class Launches(TorchDispatchMode):
    """Counts while it is entered.

    Attributes:
        by_op: kernels by the operation's name.
        reads_by_op: the same of host reads.
    """

    def __init__(self) -> None:
        super().__init__()
        self.by_op: Counter[str] = Counter()
        self.reads_by_op: Counter[str] = Counter()

    @property
    def launches(self) -> int:
        """Kernels in all."""
        return self.by_op.total()

    @property
    def host_reads(self) -> int:
        """Times that the host waits for the device, to know a number or how many there are."""
        return self.reads_by_op.total()

    def __torch_dispatch__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation, and count it; first its reads, for a FakeTensor has no number to give."""
        kwargs, name = kwargs or {}, func._schema.name.removeprefix("aten::")
        if name.startswith(("prim::", "profiler::")):  # about tensors, not on them
            return func(*args, **kwargs)
        if name in _READS or _indexed_by_mask(name, args) or _copies_to_host(name, args, kwargs):
            self.reads_by_op[name] += 1
        result = func(*args, **kwargs)
        self.by_op[name] += _launches(func, name, args, result)
        return result


def _launches(func: Callable, name: str, args: tuple, result: Any) -> int:
    views = [value.alias_info is not None and not value.alias_info.is_write for value in func._schema.returns]
    if name in _FREE or (views and all(views)):
        return 0
    if name.startswith(("_foreach_", "_fused_")):
        return _of_lists(name, args, result)
    if name in ("cat", "stack"):
        return math.ceil(len(args[0]) / _CAT)
    if name in ("addmm", "baddbmm") and args[0].shape == result.shape:
        return 2  # the summand is copied into the result first
    return 1 if _fills(name, args) else _HEAVY.get(name, 1)


def _of_lists(name: str, args: tuple, result: Any) -> int:
    """Kernels for lists of tensors: few where they go together, else one each."""
    lists = [value for value in args if isinstance(value, (list, tuple)) and value and torch.is_tensor(value[0])]
    if isinstance(result, (list, tuple)) and not name.startswith("_fused_"):
        lists.append(result)
    first = lists[0]
    if name.startswith("_fused_"):
        lists = [tensors for tensors in lists if tensors[0].shape == first[0].shape]  # not the steps, a number each
    copies = name == "_foreach_copy_"
    together = all(
        tensor.stride() == head.stride() and _is_dense(tensor) and (copies or tensor.dtype == head.dtype)
        for tensors in lists
        for tensor, head in zip(tensors, first, strict=True)
    )
    if not together:
        return len(first)
    chunks = sum(math.ceil(tensor.numel() / _CHUNK) for tensor in first)
    depth = min(len(lists), len(_TENSORS))
    return max(math.ceil(chunks / _BLOCKS), math.ceil(len(first) / _TENSORS[depth - 1]))


def _is_dense(tensor: torch.Tensor) -> bool:
    return torch.ops.aten.is_non_overlapping_and_dense(tensor)


def _indexed_by_mask(name: str, args: tuple) -> bool:
    """Whether rows are chosen by booleans, which have to be counted first."""
    if name not in ("index", "index_put", "index_put_"):
        return False
    of_masks = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
    return of_masks and not _fills(name, args)


def _fills(name: str, args: tuple) -> bool:
    """Whether one value goes to all places of a mask, which takes one kernel and no counting."""
    return name.startswith("index_put") and args[2].numel() == 1 and len(args[1]) == 1


def _copies_to_host(name: str, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether a tensor is brought from a device to the host, which waits for it."""
    if name == "_to_copy":
        device = kwargs.get("device")
        leaves = args[0].device.type not in ("cpu", "meta") and device is not None and device.type == "cpu"
        return leaves and not kwargs.get("non_blocking", False)
    if name == "copy_":
        non_blocking = (len(args) > 2 and args[2]) or kwargs.get("non_blocking", False)
        return args[0].device.type == "cpu" and args[1].device.type not in ("cpu", "meta") and not non_blocking
    return False
