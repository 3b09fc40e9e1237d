"""The exact likelihood of an autoregressive network: every token given the tokens before it, in one forward pass.

No token is masked, so there is no Monte Carlo error; an estimator that masks tokens does not suit such a network, whose
input at later positions would be ``[MASK]``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from unmask import allocator
from unmask.contracts import MLMModel, SpecialIds
from unmask.devices import device_of
from unmask.evaluate.hidden import HiddenSums, Measure, Progress, measure_at
from unmask.evaluate.suitability import check_level_free
from unmask.evaluate.windows import Windows, batches, stack
from unmask.nn.modes import eval_mode


def measure_every(
    model: MLMModel,
    windows: Windows,
    special: SpecialIds,
    measures: Sequence[Measure],
    *,
    samples: int = 1,
    batch_tokens: int = 16384,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> HiddenSums:
    """Return sums of the measures over all scored tokens of each window, from one pass of the clean rows.

    Args:
        model: an autoregressive network.
        windows: the rows.
        special: ids that are not scored, without answers.
        measures: functions of logits ``[n, V]`` and true ids ``[n]``.

    Other Parameters:
        samples: number of passes to report; they are equal.
        batch_tokens: padded tokens per forward pass.
        device: None = the model's own.
        progress: callback ``(tokens done, all tokens)``.

    Raises:
        ValueError: no token can be scored, or a row contains the mask token.
    """
    check_level_free(model)
    scorable = windows.scorable(special)
    if samples < 1 or not scorable.any():
        raise ValueError(
            f"There is nothing to score: {windows.n_documents} documents with {int(scorable.sum())} ordinary tokens, and samples={samples}. "
            "Give documents that contain text, and samples of at least 1."
        )
    at = torch.device(device) if device is not None else device_of(model)
    sums = np.zeros((len(measures), len(windows)))
    done, total = 0, int(windows.lengths.sum())
    with eval_mode(model):
        for index in batches(windows.lengths, batch_tokens):
            answers = None if windows.answers is None else [windows.answers[i] for i in index]
            ids, real, where = stack([windows.rows[i] for i in index], special, at, answers)
            values = measure_at(model, {"input_ids": ids, "attention_mask": real}, where, ids[where], measures)
            row = where.nonzero()[:, 0].cpu()
            per_row = torch.zeros(len(measures), len(ids), dtype=torch.float64).index_add(1, row, values)
            sums[:, index] = per_row.numpy()
            allocator.watch.look()
            done += int(windows.lengths[index].sum())
            if progress is not None:
                progress(done, total)
    repeated = np.repeat(sums[:, None], samples, axis=1)
    return HiddenSums(repeated, np.repeat(scorable[None], samples, axis=0), scorable, np.ones((samples, len(windows))))
