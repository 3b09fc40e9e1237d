"""Predictions of masked tokens by token class: accuracy and bits per class, for several models side by side.

All models predict the same masked positions (``unmask.evaluate.hidden``), so that differences are those of the models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmask.contracts import MLMModel, SpecialIds
from unmask.devices import device_of
from unmask.evaluate.hidden import Progress, hide_in_batches, measure_at
from unmask.evaluate.metrics import in_top
from unmask.evaluate.windows import Windows
from unmask.nn.modes import eval_mode
from unmask.ops.mask_rates import ConstantMaskRate
from unmask.ops.weighting import token_nll

Classes = Callable[[NDArray[Any]], NDArray[Any]]  # ids [B, L] -> class of each token, integers [B, L]


def accuracy_by_class(
    models: Mapping[str, MLMModel],
    windows: Windows,
    special: SpecialIds,
    classes: Classes,
    names: Sequence[str],
    *,
    rate: float = 0.15,
    samples: int = 1,
    seed: int = 0,
    batch_tokens: int = 16384,
    progress: Progress | None = None,
) -> dict[str, dict[str, Any]]:
    """Mask ``ceil(rate * n)`` tokens of every window and compare the predictions of every model.

    Args:
        models: ``MLMModel`` by name.
        windows: the rows.
        special: ids that are never masked.
        classes: ids ``[B, L]`` -> class number of each token.
        names: of the classes, in the order of their numbers.

    Other Parameters:
        rate: fraction of each window to mask.
        samples, seed, batch_tokens, progress: as of :func:`unmask.evaluate.hidden.measure_hidden`.

    Returns:
        For ``"all"`` and every class with a masked token:
        ``{"tokens": n, "models": {name: {"accuracy", "bits_per_token"}}}``.

    Raises:
        ValueError: as :func:`unmask.evaluate.hidden.measure_hidden`, or a ``rate`` outside (0, 1].
    """
    if not 0.0 < rate <= 1.0:
        raise ValueError(
            f"rate={rate} is the fraction of tokens to mask: give a number above 0 and up to 1, such as 0.15."
        )
    kinds: list[NDArray[np.int64]] = []
    measured: dict[str, list[NDArray[np.float64]]] = {name: [] for name in models}
    parts = hide_in_batches(
        windows,
        SpecialIds.of(special),
        ConstantMaskRate(rate),
        samples=samples,
        seed=seed,
        batch_tokens=batch_tokens,
        progress=progress,
    )
    for part in parts:
        kinds.append(np.asarray(classes(part.ids.numpy()))[part.where.numpy()])
        for name, model in models.items():
            at = device_of(model)
            with eval_mode(model):
                batch = {key: value.to(at) for key, value in part.batch.items()}
                targets = part.ids[part.where].to(at)
                figures = measure_at(model, batch, part.where.to(at), targets, [in_top(1), token_nll])
                measured[name].append(figures.numpy())
    kind = np.concatenate(kinds)
    values = {name: np.concatenate(pieces, axis=1) for name, pieces in measured.items()}
    members = {"all": np.ones(len(kind), dtype=bool)} | {name: kind == number for number, name in enumerate(names)}
    return {
        name: {
            "tokens": int(where.sum()),
            "models": {
                model: {"accuracy": float(v[0, where].mean()), "bits_per_token": float(v[1, where].mean() / np.log(2))}
                for model, v in values.items()
            },
        }
        for name, where in members.items()
        if where.any()
    }
