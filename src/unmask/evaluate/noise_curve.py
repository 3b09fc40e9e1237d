"""Loss and accuracy of masked tokens at several noise levels: where along the way from all masks to text a network predicts well.

At level ``r`` exactly ``ceil(r n)`` of a window's ``n`` tokens are masked. For rows of ``n`` tokens, the mean over the levels 1/n, 2/n, ... 1 of the nats per
masked token is the any-order bound per token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from unmask.contracts import MLMModel, SpecialIds
from unmask.evaluate.estimate import Estimate, ratio
from unmask.evaluate.hidden import Progress, measure_hidden
from unmask.evaluate.metrics import in_top
from unmask.evaluate.remarks import with_interval
from unmask.evaluate.windows import Windows
from unmask.ops.mask_rates import ConstantMaskRate
from unmask.ops.weighting import token_nll


@dataclass(frozen=True)
class NoiseLevel:
    """Predictions at one noise level, with intervals over documents.

    Attributes:
        rate: fraction of each window that is masked.
        nats_per_token: cross-entropy of the masked tokens.
        top_1: fraction of masked tokens whose most likely token is the true one.
    """

    rate: float
    nats_per_token: Estimate
    top_1: Estimate

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {"rate": self.rate, "nats_per_token": self.nats_per_token.as_dict(), "top_1": self.top_1.as_dict()}


def noise_curve(
    model: MLMModel,
    windows: Windows,
    special: SpecialIds,
    *,
    levels: int = 10,
    samples: int = 1,
    seed: int = 0,
    batch_tokens: int = 16384,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> list[NoiseLevel]:
    """Measure the predictions of a network at evenly spaced noise levels, ``1 / levels`` to 1.

    Args:
        model: any ``MLMModel``.
        windows: the rows.
        special: ids that are never masked.

    Other Parameters:
        levels: number of levels.
        samples, seed, batch_tokens, device, progress: as of :func:`unmask.evaluate.likelihood.nelbo`.

    Raises:
        ValueError: fewer levels than one, or as :func:`unmask.evaluate.likelihood.nelbo`.
    """
    if levels < 1:
        raise ValueError(f"levels={levels} is the number of noise levels of the curve: give at least 1, such as 10.")
    curve = []
    for level in range(1, levels + 1):
        measured = measure_hidden(
            model, windows, special, [token_nll, in_top(1)], ConstantMaskRate(level / levels),
            samples=samples, seed=seed, batch_tokens=batch_tokens, device=device,
            progress=None if progress is None else _part(progress, level - 1, levels),
        )  # fmt: skip
        of_document = np.zeros((3, samples, windows.n_documents))
        for figure, values in zip(of_document, [*measured.sums, measured.hidden], strict=True):
            np.add.at(figure.T, windows.document, values.T)
        nats, correct, masked = of_document
        curve.append(NoiseLevel(level / levels, ratio(nats, masked), ratio(correct, masked)))
    return curve


def _part(progress: Progress, done: int, parts: int) -> Progress:
    return lambda tokens, total: progress(done * total + tokens, parts * total)


def curve_cells(levels: list[dict[str, Any]]) -> tuple[str, list[str], list[list[str]]]:
    """Return title, columns and rows of the table of a curve, given as ``NoiseLevel.as_dict``."""
    rows = [
        [f"{each['rate']:.0%}", with_interval(each["nats_per_token"]), with_interval(each["top_1"])] for each in levels
    ]
    return (
        "Masked tokens by noise level (± = 95% interval over documents)",
        ["mask rate", "nats per token", "correct"],
        rows,
    )
