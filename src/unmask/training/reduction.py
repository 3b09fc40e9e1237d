"""One loss from many: sums and counts over passes and ranks are added before they are divided."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from unmask.contracts import MLMLossDict
from unmask.devices import wide


def global_loss(parts: Sequence[MLMLossDict]) -> MLMLossDict:
    """The loss of a whole optimiser step: sums and counts over accumulation steps and ranks, divided once.

    For loops that are not ours; ``MaskedLMModule`` does the same to the gradients. Values are detached. Where
    ``torch.distributed`` runs, every rank must call this, and all get the same answer.

    Args:
        parts: this rank's losses, one a pass.

    Raises:
        ValueError: no parts.
    """
    if not parts:
        raise ValueError(
            "A global loss is a sum over passes, and there is none: collect the MLMLossDict of every pass of the step."
        )
    sums = torch.stack(
        [
            torch.stack([wide(p["numerator"].detach()) for p in parts]).sum(),
            torch.stack([wide(p["denominator"]) for p in parts]).sum(),
            torch.stack([wide(p["variance"]) * wide(p["denominator"]).clamp(min=1) ** 2 for p in parts]).sum(),
        ]
    )
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(sums)
    numerator, count, spread = sums.unbind()
    below = count.clamp(min=1)
    return MLMLossDict(loss=numerator / below, numerator=numerator, denominator=count, variance=spread / below**2)
