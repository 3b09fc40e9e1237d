"""How blocks are run while gradients are wanted: eager or compiled, their activations kept or made anew.

Compiled, one program serves all blocks, and rows and documents of any length: lengths are its symbols. It is recompiled a few
times at the most (a single document length, another precision, another mode), never per batch. Without gradients blocks always
run eagerly: decoding asks in too many shapes to be worth it.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from unmask.nn.attention import AttentionPlan, supports_partial_queries
from unmask.nn.rotary import Angles


def run_block(block: Any, x: Tensor, angles: Angles, plan: AttentionPlan, read: Tensor | None) -> Tensor:
    """One block, as it is."""
    return block(x, angles, plan, read)  # type: ignore[no-any-return]


@cache
def _compiled() -> Any:
    return torch.compile(run_block, fullgraph=True, dynamic=True)


@dataclass(frozen=True)
class BlockRunner:
    """Runs one block.

    Attributes:
        compiled: through ``torch.compile``.
        recompute: keep only what enters a block, and make its activations again on the way back (Chen et al. 2016,
            1604.06174): memory of one block rather than of all, for one more forward pass.
    """

    compiled: bool = False
    checkpoint_activations: bool = False

    def __call__(
        self,
        block: Any,
        x: Float[Tensor, "tokens width"],
        angles: Angles,
        plan: AttentionPlan,
        read: Int[Tensor, " read"] | None = None,
    ) -> Float[Tensor, "outs width"]:
        """The block's output at all tokens, or at those of ``read``."""
        if not torch.is_grad_enabled():
            return block(x, angles, plan, read)  # type: ignore[no-any-return]
        in_part = read is not None and supports_partial_queries(
            plan
        )  # which reads on the host how many: no compiled program can
        run = _compiled() if self.compiled and not in_part else run_block
        if self.checkpoint_activations:
            return checkpoint(run, block, x, angles, plan, read, use_reentrant=False)  # type: ignore[no-any-return]
        return run(block, x, angles, plan, read)  # type: ignore[no-any-return]


def can_compile(device_type: str) -> bool:
    """Whether ``torch.compile`` has what it needs: on a CPU a C++ compiler (``CXX``, or g++)."""
    return device_type != "cpu" or shutil.which(os.environ.get("CXX", "g++")) is not None
