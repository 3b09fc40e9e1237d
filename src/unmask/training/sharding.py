"""Sharded training (FSDP2, ``torch.distributed.fsdp.fully_shard``): every process holds a part of each weight.

    shard_blocks     split the weights of each transformer block, and those outside the blocks, along their first axis
    local_part       the part of a tensor that this process holds
    whole_weights    gather all weights for a while, so that one process can use the network alone

Parameters become ``DTensor``. A block's weights are gathered before the block runs and released after it; gradients are averaged
over the processes and split again, as are the moments of the optimiser, which follow the parameters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

_BLOCK = re.compile(r"(.*\.)?(blocks|layers?|h)\.\d+")  # blocks of ours; layers of transformers, "h" in GPT-2


def shard_blocks(module: nn.Module, mesh: DeviceMesh, steps: tuple[str, ...]) -> None:
    """Split the weights of a module over the processes of a mesh, in place.

    All processes must hold the same weights. A module that is split already stays as it is.

    Args:
        module: the module, whose transformer blocks are in numbered lists.
        mesh: a mesh of one dimension.
        steps: names of the methods that run the network, such as ``("training_step",)``: gradients are taken of their results.
    """
    if isinstance(module, FSDPModule):
        return
    for name, part in module.named_modules():
        if _BLOCK.fullmatch(name) and not any(isinstance(child, FSDPModule) for child in part.modules()):
            fully_shard(part, mesh=mesh)
    fully_shard(module, mesh=mesh)
    for step in steps:
        register_fsdp_forward_method(module, step)


def local_part(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process holds: a view of a ``DTensor``, and any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole_tensor(tensor: Tensor) -> Tensor:
    """Return the whole of a tensor; all processes must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def release_gathered(module: nn.Module) -> None:
    """Release gathered weights, so that the parameters of the module are the parts that this process holds."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


@contextmanager
def whole_weights(module: nn.Module) -> Iterator[None]:
    """Gather all weights of a split module, which can then run on any one process without the others.

    All processes must enter and leave together. Memory: all weights, on each process.
    """
    parts = [part for part in module.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(part is not module, recurse=False)
