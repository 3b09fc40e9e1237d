"""The range of mask rates whose loss varies least: data-driven clipped schedules (BD3-LM, 2503.09573, sec. 5).

    beta, omega = argmin of Var over blocks, rates t ~ U(beta, omega) and masks of
                  (1 / t) * sum of -log p over the masked tokens / tokens of the block

Rates near 0 leave nothing to learn and are weighted by a large 1 / t; rates near 1 leave no context. Training on the range
between has gradients of lower variance. Its loss bounds no likelihood: evaluation keeps all rates.

Every range is measured with the same uniforms, so ranges differ by their rates and not by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from unmask.contracts import MLMModel, SpecialIds
from unmask.evaluate.hidden import measure_hidden
from unmask.evaluate.suitability import causal_block_of
from unmask.evaluate.windows import Windows
from unmask.ops.mask_rates import UniformMaskRate
from unmask.ops.position_sampling import bernoulli
from unmask.ops.weighting import token_nll

Range = tuple[float, float]
LEAST_RATE = 1e-3  # of the full range, as in training: 1 / t has no finite variance at 0


@dataclass(frozen=True)
class ClipVariance:
    """The loss of one range of mask rates.

    Attributes:
        rate_min, rate_max: the range.
        variance: variance of the loss of a block, in nats per token, squared.
        loss: its mean, in nats per token.
    """

    rate_min: float
    rate_max: float
    variance: float
    loss: float

    def as_dict(self) -> dict[str, float]:
        """Return a JSON object."""
        return asdict(self)


def clip_grid(widths: Sequence[float] = (0.5,), step: float = 0.05) -> list[Range]:
    """Return the ranges of these widths at every multiple of a step, and the full range first.

    Raises:
        ValueError: a width or a step outside (0, 1].

    Examples:
        >>> clip_grid([0.5], step=0.25)
        [(0.0, 1.0), (0.0, 0.5), (0.25, 0.75), (0.5, 1.0)]
    """
    if not all(0 < number <= 1 for number in (*widths, step)):
        raise ValueError(
            f"Widths {list(widths)} and step {step} of ranges of mask rates lie in (0, 1]: choose such numbers."
        )
    found = [(0.0, 1.0)]
    for width in widths:
        count = int((1 - width) / step + 1e-9)
        found += [(round(n * step, 6), round(n * step + width, 6)) for n in range(count + 1)]
    return list(dict.fromkeys(found))


def measure_clips(
    model: MLMModel,
    windows: Windows,
    special: SpecialIds,
    ranges: Sequence[Range],
    *,
    samples: int = 4,
    seed: int = 0,
    batch_tokens: int = 16384,
    device: torch.device | str | None = None,
    told: Callable[[int, int], None] | None = None,
) -> list[ClipVariance]:
    """Measure the variance of the loss for every range of mask rates.

    Args:
        model: a network of masked tokens; of a block-causal one, each block is a loss of its own.
        windows: held-out rows.
        special: special ids of the tokenizer.
        ranges: smallest and largest rate of each.
        samples: passes over the rows.
        seed: random seed of rates and masks, the same for every range.
        batch_tokens: padded tokens per forward pass.
        device: None = the model's own.
        told: callback ``(ranges done, all ranges)``.

    Raises:
        ValueError: no range, one that is empty or outside [0, 1], or an autoregressive network.

    Examples:
        >>> import torch
        >>> from unmask import SpecialIds, Windows
        >>> def uniform(x_t, attention_mask=None, positions=None, block_mask=None):
        ...     return torch.zeros(*x_t.shape, 16)
        >>> windows = Windows.of_rows([[5, 6, 7, 8]] * 50, block_size=8)
        >>> full, upper = measure_clips(uniform, windows, SpecialIds(mask=1, vocab_size=16), [(0, 1), (0.5, 1)])
        >>> full.variance > upper.variance
        True
    """
    if not ranges:
        raise ValueError("There is no range of mask rates to measure: give one or more, such as clip_grid().")
    block = causal_block_of(model)
    if block is not None:
        windows = windows.by_blocks(block, special)
    scorable = windows.scorable(special)
    kept = scorable == scorable.max() if block is not None else scorable > 0  # blocks of one length
    found = []
    for number, (low, high) in enumerate(ranges):
        measured = measure_hidden(
            model, windows, special, [token_nll], UniformMaskRate(low or LEAST_RATE, high),
            samples=samples, seed=seed, batch_tokens=batch_tokens, device=device, sampler=bernoulli,
        )  # fmt: skip
        loss = (measured.sums[0] / measured.p_mask / np.maximum(scorable, 1))[:, kept]
        found.append(ClipVariance(float(low), float(high), float(loss.var(ddof=1)), float(loss.mean())))
        if told is not None:
            told(number + 1, len(ranges))
    return found


def least_variance(measured: Sequence[ClipVariance]) -> ClipVariance:
    """Return the range of least variance; the first of equals."""
    return min(measured, key=lambda each: each.variance)


def as_report(measured: Sequence[ClipVariance]) -> dict[str, Any]:
    """Return a JSON object: every range, and the chosen one."""
    return {"ranges": [each.as_dict() for each in measured], "chosen": least_variance(measured).as_dict()}
