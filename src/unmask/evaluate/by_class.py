"""Guesses at hidden tokens by what the tokens are: accuracy and bits for each class, several models side by side.

All models are asked about the same hidden positions (those of ``unmask.evaluate.hidden``), so their figures differ by the models
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from unmask.contracts import SpecialIds
from unmask.devices import device_of
from unmask.evaluate.hidden import Progress, hide_in_batches, measure_at
from unmask.evaluate.metrics import in_top
from unmask.evaluate.windows import Windows
from unmask.nn.modes import eval_mode
from unmask.ops.mask_rates import ConstantMaskRate
from unmask.ops.weighting import token_nll

Classes = Callable[[Any], Any]  # ids [B, L] -> the class of each token, integers [B, L]


def accuracy_by_class(
    models: Mapping[str, Any],
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
    """Hide ``ceil(rate * n)`` tokens of every window and ask every model for them.

    Args:
        models: ``MLMModel`` by name.
        windows: the rows.
        special: ids that are never hidden.
        classes: which class each token of clean rows is.
        names: of the classes, in the order of their numbers.
        rate: share of each window that is hidden.
        samples, seed, batch_tokens, progress: as in :func:`unmask.evaluate.hidden.measure_hidden`.

    Returns:
        For ``"all"`` and every class that was hidden at least once: ``{"tokens": n, "models": {name: {"accuracy", "bits_per_token"}}}``.

    Raises:
        ValueError: as :func:`measure_hidden`, or a ``rate`` outside (0, 1].
    """
    if not 0.0 < rate <= 1.0:
        raise ValueError(
            f"rate={rate} is the share of tokens that is hidden: give a number above 0 and up to 1, such as 0.15."
        )
    kinds: list[np.ndarray] = []
    found: dict[str, list[np.ndarray]] = {name: [] for name in models}
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
                wanted = part.ids[part.where].to(at)
                found[name].append(measure_at(model, batch, part.where.to(at), wanted, [in_top(1), token_nll]).numpy())
    kind = np.concatenate(kinds)
    values = {name: np.concatenate(pieces, axis=1) for name, pieces in found.items()}
    chosen = {"all": np.ones(len(kind), dtype=bool)} | {name: kind == number for number, name in enumerate(names)}
    return {
        name: {
            "tokens": int(where.sum()),
            "models": {
                model: {"accuracy": float(v[0, where].mean()), "bits_per_token": float(v[1, where].mean() / np.log(2))}
                for model, v in values.items()
            },
        }
        for name, where in chosen.items()
        if where.any()
    }
