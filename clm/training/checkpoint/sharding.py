"""Weights of which every process holds a shard (FSDP2): gathered, and sharded again.

Checkpoints, evaluation, samples and the exported model are of full weights, so that they are the same however a run
was launched, and go from one kind of launch to another.
"""

from typing import Any

import torch
from accelerate import Accelerator
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import GPT2LMHeadModel

from clm.model.gpt2 import from_config


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether this process holds only a shard of the weights."""
    return any(isinstance(weight, DTensor) for weight in model.parameters())


def keep_sums_in_fp32(accelerator: Accelerator) -> None:
    """Let FSDP2 reduce gradients, and give the loss, in fp32; accelerate would round both to bf16."""
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is not None and accelerator.mixed_precision == "bf16":
        plugin.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)


def gather(tree: Any, keep: bool) -> Any:
    """`tree`, of dicts and lists, with full tensors in host memory for shards; every process has to call this.

    Args:
        keep: whether this process wants the result; else it only gives its shards, and gets None for them.
    """
    if isinstance(tree, dict):
        return {key: gather(value, keep) for key, value in tree.items()}
    if isinstance(tree, list):
        return [gather(value, keep) for value in tree]
    if not isinstance(tree, DTensor):
        return tree
    tensor = tree.full_tensor()
    return tensor.cpu() if keep else None


def shard_like(tensor: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """This process's shard of `tensor`, which every process has in full, if `weight` of the same shape is sharded."""
    if not isinstance(weight, DTensor) or tensor.shape != weight.shape:
        return tensor
    return distribute_tensor(tensor.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None)


def shard(tensors: dict[str, torch.Tensor], model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Full weights by name, as `model` holds its own."""
    own = model.state_dict()
    return {name: shard_like(tensor, own[name]) if name in own else tensor for name, tensor in tensors.items()}


def shard_states(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's full state dict, as `optimizer` holds its own."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    sharded = {
        number: {key: shard_like(value, weights[number]) for key, value in states.items()}
        for number, states in state["state"].items()
    }
    return {**state, "state": sharded}


def unsharded(model: torch.nn.Module) -> GPT2LMHeadModel:
    """`model`, or where it is sharded a copy with all weights, in fp32, on every process; all have to call this."""
    if not is_sharded(model):
        return model
    names = {name for name, _ in model.named_parameters()}
    tensors = {name: tensor.full_tensor() for name, tensor in model.state_dict().items() if name in names}
    with torch.device("meta"):
        made = from_config(model.config)
    made.load_state_dict(tensors, strict=False, assign=True)
    made.tie_weights()
    return made.train(model.training)
