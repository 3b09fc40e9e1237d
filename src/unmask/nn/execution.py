"""Training-time execution of transformer blocks: eager or ``torch.compile``, with optional activation checkpointing.

One compiled program serves all blocks. On a CPU, rows and documents of any length are symbolic. On an accelerator, whose
batches mostly have one shape, a shape is a constant until it changes, and symbolic from then on; the numbers of positions
to read and of documents are symbolic from the start. A program is recompiled a few times at most (a single document length, another
precision, another mode), never per batch. Without gradients blocks always run eagerly: decoding uses too many shapes for
compilation to pay off.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from unmask.nn.attention import AttentionPlan, supports_partial_queries
from unmask.nn.clean_prefix import CleanPrefixPlan
from unmask.nn.packed_attention import PackedPlan
from unmask.nn.rotary import Angles

Block = Callable[..., Tensor]  # (x, angles, plan, read) -> x, such as an EncoderBlock


def run_block(block: Block, x: Tensor, angles: Angles, plan: AttentionPlan, read: Tensor | None) -> Tensor:
    """Run one block eagerly."""
    return block(x, angles, plan, read)


@cache
def _compiled(device_type: str) -> Callable[..., Tensor]:
    if device_type == "cpu":
        return torch.compile(run_block, fullgraph=True, dynamic=True)
    program = torch.compile(run_block, fullgraph=True)

    def run(block: Block, x: Tensor, angles: Angles, plan: AttentionPlan, read: Tensor | None) -> Tensor:
        for symbolic in (read, plan.offsets if isinstance(plan, PackedPlan) else None):
            if symbolic is not None:
                torch._dynamo.maybe_mark_dynamic(symbolic, 0)
        with torch._dynamo.config.patch(recompile_limit=64):
            return program(block, x, angles, plan, read)

    return run


@dataclass(frozen=True)
class BlockRunner:
    """Execution of one block.

    Attributes:
        compiled: use ``torch.compile``.
        checkpoint_activations: store only the input of a block, and recompute its activations in the backward pass
            (Chen et al. 2016, 1604.06174): memory of one block instead of all, for one more forward pass.
    """

    compiled: bool = False
    checkpoint_activations: bool = False

    def __call__(
        self,
        block: Block,
        x: Float[Tensor, "tokens width"],
        angles: Angles,
        plan: AttentionPlan,
        read: Int[Tensor, " read"] | None = None,
    ) -> Float[Tensor, "outs width"]:
        """Return the block's output at all tokens, or at those of ``read``."""
        if not torch.is_grad_enabled():
            return block(x, angles, plan, read)
        # Partial queries and clean prefixes read lengths on the host, which compiled code cannot.
        on_host = isinstance(plan, CleanPrefixPlan) or (read is not None and supports_partial_queries(plan))
        run = _compiled(x.device.type) if self.compiled and not on_host else run_block
        if self.checkpoint_activations:
            out: Tensor = checkpoint(run, block, x, angles, plan, read, use_reentrant=False)
            return out
        return run(block, x, angles, plan, read)


def runs_compiled(model: object) -> bool:
    """Return whether the blocks of a model run compiled in training."""
    runner = getattr(model, "run_block", None)
    return isinstance(runner, BlockRunner) and runner.compiled


def can_compile(device_type: str) -> bool:
    """Return whether ``torch.compile`` can run: on a CPU it needs a C++ compiler (``CXX``, or g++)."""
    return device_type != "cpu" or shutil.which(os.environ.get("CXX", "g++")) is not None
