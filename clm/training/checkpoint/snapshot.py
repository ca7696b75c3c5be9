"""Tensors, from a model that trains on to a file, without holding the training up."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from clm.data.tokenizer import write as write_tokenizer
from clm.training.checkpoint.hashed_file import HashedFile

_SAFETENSORS_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}


class Snapshot:
    """Copies in host memory, kept, and filled anew at the next save: fresh memory would cost as much as the copy."""

    def __init__(self) -> None:
        self._buffers: dict[tuple, torch.Tensor] = {}

    def take(self, tree: Any) -> Any:
        """`tree`, of dicts and lists, with a copy in the place of every tensor."""
        copied = self._copy(tree, ())
        if torch.cuda.is_initialized():
            torch.cuda.current_stream().synchronize()
        return copied

    def _copy(self, tree: Any, path: tuple) -> Any:
        if isinstance(tree, Mapping):
            return {key: self._copy(value, (*path, key)) for key, value in tree.items()}
        if isinstance(tree, (list, tuple)):
            return [self._copy(value, (*path, index)) for index, value in enumerate(tree)]
        if not isinstance(tree, torch.Tensor):
            return tree
        buffer = self._buffers.get(path)
        if buffer is None or buffer.shape != tree.shape or buffer.dtype != tree.dtype:
            buffer = torch.empty(tree.shape, dtype=tree.dtype, pin_memory=tree.is_cuda)
            self._buffers[path] = buffer
        return buffer.copy_(tree.detach(), non_blocking=True)


def tensor_bytes(tree: Any) -> int:
    """Bytes of all tensors in `tree`."""
    if isinstance(tree, torch.Tensor):
        return tree.nbytes
    values = tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, (list, tuple)) else ()
    return sum(map(tensor_bytes, values))


def distinct(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A model's state dict with a tied weight under its first name only, as a safetensors file wants it."""
    again = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    again -= {name for name, _ in model.named_parameters()}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in again}


def write_safetensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Write a safetensors file of contiguous tensors in host memory; its size and SHA-256.

    The package's own function never lets go of the interpreter, so training would stand still for as long as it
    writes. The format is eight bytes of the header's length, the header in JSON, and the tensors' bytes.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        dtype = _SAFETENSORS_NAMES[tensor.dtype]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with HashedFile(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(tensor.reshape(-1).view(torch.uint8).numpy())
    return file.facts


def write_model(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tensors: Mapping[str, torch.Tensor]
) -> dict[str, Any]:
    """Write what other tools load: the model's settings, its tokenizer, and `tensors` as its weights.

    Returns:
        The weights' file name with its size and SHA-256.
    """
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    write_tokenizer(tokenizer, folder, model.config.n_positions)
    return {"model.safetensors": write_safetensors(folder / "model.safetensors", tensors)}


def save(value: Any, path: Path) -> dict[str, Any]:
    """`torch.save`, without its own checksum, which costs several times what SHA-256 does; the size and SHA-256."""
    torch.serialization.set_crc32_options(False)
    with HashedFile(path) as file:
        torch.save(value, file)
    return file.facts
