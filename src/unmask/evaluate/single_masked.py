"""Predictions of single masked tokens: every token in turn, given all others of its window."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from unmask.contracts import MLMModel, SpecialIds
from unmask.evaluate.estimate import ratio
from unmask.evaluate.hidden import Progress
from unmask.evaluate.metrics import in_top
from unmask.evaluate.pseudo import masked_in_turn
from unmask.evaluate.windows import Windows
from unmask.ops.weighting import token_nll


def single_masked(
    model: MLMModel,
    windows: Windows,
    special: SpecialIds,
    *,
    batch_tokens: int | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure predictions of single masked tokens.

    Args:
        model, windows, special: as of :func:`unmask.evaluate.metrics.masked_accuracy`.

    Other Parameters:
        batch_tokens: padded tokens per forward pass; None = as :func:`unmask.pseudo_log_likelihood`.
        device: None = the model's own.
        progress: callback ``(tokens done, all tokens)``.

    Returns:
        A JSON object: ``tokens``, and the estimates ``top_1``, ``bits_per_token`` and ``perplexity_per_token`` (the
        pseudo-perplexity), with intervals over documents.

    Raises:
        ValueError: a window contains the mask token, or a network whose tokens do not attend both ways.
    """
    sums = np.zeros((3, windows.n_documents))
    found = masked_in_turn(
        model, windows.rows, SpecialIds.of(special), [token_nll, in_top(1)], batch_tokens=batch_tokens, device=device, progress=progress
    )  # fmt: skip
    for row, _, values in found:
        sums[:, windows.document[row]] += (*values, 1.0)
    nats, right = ratio(sums[:1], sums[2]), ratio(sums[1:2], sums[2])
    return {
        "tokens": int(sums[2].sum()),
        "top_1": right.as_dict(),
        "bits_per_token": nats.scaled(1 / math.log(2)).as_dict(),
        "perplexity_per_token": nats.exponential().as_dict(),
    }
