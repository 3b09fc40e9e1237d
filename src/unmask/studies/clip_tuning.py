"""``tune_clip``: the range of mask rates with the least variance of the loss on the held-out rows of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unmask.evaluate.clip_search import as_report, clip_grid, measure_clips
from unmask.text.evaluation_setting import evaluation_setting
from unmask.text.loading import load


def tune_clip(
    run: str | Path,
    *,
    widths: Sequence[float] = (0.5,),
    rows: int = 64,
    samples: int = 4,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    checkpoint: str = "last",
    told: Callable[[int, int | None], None] | None = None,
) -> dict[str, Any]:
    """Find the range of mask rates with the least variance of the loss (BD3-LM, 2503.09573, sec. 5).

    The range is for training on: ``objective.rate_min`` and ``objective.rate_max``. Bounds are evaluated at all rates.

    Args:
        run: a run of masked or block diffusion.

    Other Parameters:
        widths: widths of the ranges, beside the full one; they are tried at every 0.05.
        rows: held-out documents, at most.
        samples: passes over them.
        seed: random seed of rates and masks.
        device: device of the network.
        dtype: dtype of its weights.
        checkpoint: ``"last"`` or ``"best"``.
        told: callback ``(ranges done, all ranges)``.

    Returns:
        A JSON object: ``model``, ``ranges`` (each with ``rate_min``, ``rate_max``, ``variance``, ``loss``), ``chosen``, and the
        config keys of ``chosen`` as ``overrides``.

    Raises:
        ValueError: fewer than one row, a width outside (0, 1], or an autoregressive network.

    Examples:
        >>> import unmask
        >>> unmask.tune_clip("runs/demo", widths=[2.0])
        Traceback (most recent call last):
        ValueError: Widths [2.0] and step 0.05 of ranges of mask rates lie in (0, 1]: choose such numbers.
    """
    grid = clip_grid(widths)
    if rows < 1:
        raise ValueError(f"rows={rows} leaves nothing to measure: choose 1 or more.")
    trained = load(run, checkpoint=checkpoint, device=device, dtype=dtype)
    windows, special, autocast, _ = evaluation_setting(trained, None, rows)
    with autocast():
        measured = measure_clips(trained.model, windows, special, grid, samples=samples, seed=seed, told=told)
    report = {"model": str(trained.folder), **as_report(measured)}
    chosen = report["chosen"]
    report["overrides"] = [f"objective.{key}={chosen[key]:g}" for key in ("rate_min", "rate_max")]
    return report
