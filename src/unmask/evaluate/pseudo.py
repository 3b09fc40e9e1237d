"""Pseudo-log-likelihood: every token scored with all the others visible (Salazar et al. 2020, 1910.14659, eq. 3).

It is not a likelihood, not even a bound: it ranks sentences of similar length well, and knows nothing of how surprising
two words are together that predict each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unmask.contracts import SpecialIds
from unmask.evaluate.hidden import Progress, device_of, measure_at
from unmask.evaluate.windows import batches, stack
from unmask.nn.modes import eval_mode
from unmask.ops.weighting import token_nll


def pseudo_log_likelihood(
    model: Any,
    rows: Sequence[Sequence[int]],
    special: SpecialIds,
    *,
    batch_tokens: int = 16384,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> list[NDArray[np.float64]]:
    """The log-probability of every token of every row given the rest of its row.

    Args:
        model: any ``MLMModel``; dropout is off meanwhile.
        rows: ids of one text each; specials may be among them. A row of ``n`` tokens costs ``n`` rows of the model.
        special: the tokenizer's special ids, or the tokenizer.
        batch_tokens: padded tokens in one evaluation of the model.
        device: where to run; the model's own by default.
        progress: called with the tokens read so far and in all.

    Returns:
        One float64 array ``[l]`` per row, nats, at most 0; NaN at special tokens, which are not scored. The
        pseudo-log-likelihood of a row is its ``numpy.nansum``.
    """
    special = SpecialIds.of(special)
    at = torch.device(device) if device is not None else device_of(model)
    ids = [np.asarray(row, dtype=np.int64) for row in rows]
    if any((row == special.mask).any() for row in ids):
        raise ValueError(
            f"A text to score contains the mask token (id {special.mask}). Every token is hidden in turn here, so none may be "
            "hidden already; to fill masks in, use `unmask fill`."
        )
    answers = [np.full(len(row), np.nan) for row in ids]
    wanted = [np.flatnonzero(~np.isin(row, special.all)) for row in ids]
    row_of = np.repeat(np.arange(len(ids)), [len(places) for places in wanted])
    place_of = np.concatenate([*wanted, np.zeros(0, dtype=np.int64)]).astype(np.int64)
    lengths = np.array([len(row) for row in ids], dtype=np.int64)[row_of] if len(ids) else np.zeros(0, dtype=np.int64)
    done, total = 0, int(lengths.sum())
    with eval_mode(model):
        for index in batches(lengths, batch_tokens):
            tokens, real, _ = stack([ids[i] for i in row_of[index]], special, at)
            where = torch.zeros_like(real)
            where[torch.arange(len(index), device=at), torch.from_numpy(place_of[index]).to(at)] = True
            batch = {"input_ids": tokens.masked_fill(where, special.mask), "attention_mask": real}
            nll = measure_at(model, batch, where, tokens[where], [token_nll])[0].numpy()
            for row, place, nats in zip(row_of[index], place_of[index], nll, strict=True):
                answers[row][place] = -nats
            done += int(lengths[index].sum())
            if progress is not None:
                progress(done, total)
    return answers
