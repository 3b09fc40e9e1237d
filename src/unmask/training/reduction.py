"""The loss of an optimiser step from the losses of its passes: sums and counts are added before dividing."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from unmask.contracts import MLMLossDict
from unmask.devices import wide


def global_loss(parts: Sequence[MLMLossDict]) -> MLMLossDict:
    """Return the loss of an optimiser step from the losses of its passes.

    Numerators and denominators are summed over passes and ranks, then divided once. ``MaskedLMModule`` does the same with
    gradients; this function is for other training loops. With ``torch.distributed`` initialised, all ranks must call it, and
    all get the same result.

    Args:
        parts: the losses of this rank, one per pass, as returned by ``MLMLoss``.

    Returns:
        Detached scalars ``loss`` (nats), ``numerator``, ``denominator`` and ``variance``.

    Raises:
        ValueError: no parts.

    Examples:
        >>> import torch, unmask
        >>> one, two = (
        ...     {"numerator": torch.tensor(n), "denominator": torch.tensor(d), "variance": torch.tensor(0.0)}
        ...     for n, d in ((6.0, 3.0), (2.0, 1.0))
        ... )
        >>> float(unmask.global_loss([one, two])["loss"])
        2.0
    """
    if not parts:
        raise ValueError(
            "A global loss needs the loss of at least one pass: pass the MLMLossDict of every pass of the optimiser step."
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
