"""Pseudo-log-likelihood: every token scored given all others (Salazar et al. 2020, 1910.14659, eq. 3).

It is neither a likelihood nor a bound. It ranks sentences of similar length well, but two words that predict each other
both look likely, however surprising their pair is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unmask.contracts import MLMModel, SpecialIds
from unmask.devices import device_of
from unmask.evaluate.estimate import ratio
from unmask.evaluate.hidden import Measure, Progress, measure_at
from unmask.evaluate.metrics import in_top
from unmask.evaluate.windows import Windows, batches, stack
from unmask.nn.modes import eval_mode
from unmask.ops.weighting import token_nll


def pseudo_log_likelihood(
    model: MLMModel,
    rows: Sequence[Sequence[int]],
    special: SpecialIds,
    *,
    batch_tokens: int = 16384,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> list[NDArray[np.float64]]:
    """Return the log-probability of every token of every row given the rest of its row.

    Args:
        model: any ``MLMModel``; it runs in eval mode.
        rows: ids of one text each, with or without special tokens. A row of ``n`` tokens costs ``n`` rows of the model.
        special: the tokenizer's special ids, or the tokenizer.

    Other Parameters:
        batch_tokens: padded tokens per forward pass.
        device: None = the model's own.
        progress: callback ``(tokens done, all tokens)``.

    Returns:
        One float64 array ``[l]`` per row, in nats, at most 0; NaN at special tokens, which are not scored. The
        pseudo-log-likelihood of a row is its ``numpy.nansum``.

    Raises:
        ValueError: a row contains the mask token.

    Examples:
        >>> import torch
        >>> from unmask import SpecialIds
        >>> def uniform(x_t, attention_mask=None, positions=None, block_mask=None):
        ...     return torch.zeros(*x_t.shape, 16)
        >>> scores = pseudo_log_likelihood(uniform, [[5, 6]], SpecialIds(mask=1, vocab_size=16))
        >>> scores[0].round(4).tolist()  # -ln(16) each
        [-2.7726, -2.7726]
    """
    special = SpecialIds.of(special)
    ids = [np.asarray(row, dtype=np.int64) for row in rows]
    scores = [np.full(len(row), np.nan) for row in ids]
    for row, place, values in _one_by_one(model, ids, special, [token_nll], batch_tokens, device, progress):
        scores[row][place] = -values[0]
    return scores


def single_masked(
    model: MLMModel,
    windows: Windows,
    special: SpecialIds,
    *,
    batch_tokens: int = 16384,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure predictions of single masked tokens: every token in turn, given all others of its window.

    Args:
        model, windows, special: as of :func:`unmask.evaluate.metrics.masked_accuracy`.

    Other Parameters:
        batch_tokens: padded tokens per forward pass.
        device: None = the model's own.
        progress: callback ``(tokens done, all tokens)``.

    Returns:
        A JSON object: ``tokens``, and the estimates ``top_1``, ``bits_per_token`` and ``perplexity_per_token`` (the
        pseudo-perplexity), with intervals over documents.
    """
    special = SpecialIds.of(special)
    rows = [np.asarray(row, dtype=np.int64) for row in windows.rows]
    sums = np.zeros((3, windows.n_documents))
    for row, _, values in _one_by_one(model, rows, special, [token_nll, in_top(1)], batch_tokens, device, progress):
        sums[:, windows.document[row]] += (*values, 1.0)
    nats, right = ratio(sums[:1], sums[2]), ratio(sums[1:2], sums[2])
    return {
        "tokens": int(sums[2].sum()),
        "top_1": right.as_dict(),
        "bits_per_token": nats.scaled(1 / math.log(2)).as_dict(),
        "perplexity_per_token": nats.exponential().as_dict(),
    }


def _one_by_one(
    model: MLMModel,
    ids: Sequence[NDArray[np.int64]],
    special: SpecialIds,
    measures: Sequence[Measure],
    batch_tokens: int,
    device: torch.device | str | None,
    progress: Progress | None,
) -> Iterator[tuple[int, int, NDArray[np.float64]]]:
    """Mask every ordinary token of every row alone, and yield its row, its place and its measures ``[M]``."""
    at = torch.device(device) if device is not None else device_of(model)
    if any((row == special.mask).any() for row in ids):
        raise ValueError(
            f"A text to score contains the mask token (id {special.mask}). Scoring masks every token in turn, so the text must "
            "contain no mask. To fill masks, use `unmask fill`."
        )
    ordinary = [np.flatnonzero(~np.isin(row, special.all)) for row in ids]
    row_of = np.repeat(np.arange(len(ids)), [len(places) for places in ordinary])
    place_of = np.concatenate([*ordinary, np.zeros(0, dtype=np.int64)]).astype(np.int64)
    lengths = np.array([len(row) for row in ids], dtype=np.int64)[row_of] if len(ids) else np.zeros(0, dtype=np.int64)
    done, total = 0, int(lengths.sum())
    with eval_mode(model):
        for index in batches(lengths, batch_tokens):
            tokens, real, _ = stack([ids[i] for i in row_of[index]], special, at)
            where = torch.zeros_like(real)
            where[torch.arange(len(index), device=at), torch.from_numpy(place_of[index]).to(at)] = True
            batch = {"input_ids": tokens.masked_fill(where, special.mask), "attention_mask": real}
            values = measure_at(model, batch, where, tokens[where], measures).numpy()
            yield from zip(row_of[index].tolist(), place_of[index].tolist(), values.T, strict=True)
            done += int(lengths[index].sum())
            if progress is not None:
                progress(done, total)
