"""Log-likelihood of the marked tokens of rows given their other tokens, by one of four estimators.

    bound           any-order bound by sampled masks: log p(x) >= the value, up to its Monte Carlo error
    any_order       the same bound by enumeration of all masks, for up to 16 tokens a row
    left_to_right   exact log-likelihood of generating the tokens one at a time from the left
    pll             pseudo-log-likelihood: every token given all others; not a likelihood (1910.14659)

Rows are ``Windows`` with answers; values are nats, float64 ``[W]``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from unmask.contracts import MLMModel, SpecialIds
from unmask.devices import device_of
from unmask.evaluate.exact import LONGEST, exact_nelbo
from unmask.evaluate.hidden import measure_at
from unmask.evaluate.likelihood import nelbo
from unmask.evaluate.windows import Windows, batches, stack
from unmask.nn.modes import eval_mode
from unmask.ops.weighting import token_nll
from unmask.registry import Registry

Likelihood = Callable[[MLMModel, Windows, SpecialIds, int, int, int], NDArray[np.float64]]
"""Model, windows, special ids, samples, seed, padded tokens per forward pass -> nats ``[W]``."""


def _bound(
    model: MLMModel, windows: Windows, special: SpecialIds, samples: int, seed: int, batch_tokens: int
) -> NDArray[np.float64]:
    bound = nelbo(model, windows, special, samples=samples, seed=seed, batch_tokens=batch_tokens)
    nats: NDArray[np.float64] = -bound.nats.mean(0)
    return nats


def _any_order(
    model: MLMModel, windows: Windows, special: SpecialIds, samples: int, seed: int, batch_tokens: int
) -> NDArray[np.float64]:
    assert windows.answers is not None
    longest = max(int(answer.sum()) for answer in windows.answers)
    if longest > LONGEST:
        raise ValueError(
            f"likelihood=any_order enumerates all masks of up to {LONGEST} tokens, and a continuation has {longest}: use likelihood=bound."
        )
    return np.array(
        [-exact_nelbo(model, row, special, answer) for row, answer in zip(windows.rows, windows.answers, strict=True)]
    )


def _left_to_right(
    model: MLMModel, windows: Windows, special: SpecialIds, samples: int, seed: int, batch_tokens: int
) -> NDArray[np.float64]:
    return _one_at_a_time(model, windows, special, batch_tokens, later_masked=True)


def _pll(
    model: MLMModel, windows: Windows, special: SpecialIds, samples: int, seed: int, batch_tokens: int
) -> NDArray[np.float64]:
    return _one_at_a_time(model, windows, special, batch_tokens, later_masked=False)


def _one_at_a_time(
    model: MLMModel, windows: Windows, special: SpecialIds, batch_tokens: int, later_masked: bool
) -> NDArray[np.float64]:
    """Return the sum of log-probabilities of single tokens, with later marked tokens masked or given."""
    assert windows.answers is not None
    windows.scorable(special)  # refuses rows with the mask token
    places = [np.flatnonzero(answer) for answer in windows.answers]
    row_of = np.repeat(np.arange(len(windows)), [len(each) for each in places])
    place_of = np.concatenate(places)
    nats, device = np.zeros(len(windows)), device_of(model)
    with eval_mode(model):
        for index in batches(windows.lengths[row_of], batch_tokens):
            rows, place = row_of[index], torch.from_numpy(place_of[index])
            ids, real, marked = stack(
                [windows.rows[i] for i in rows], special, torch.device("cpu"), [windows.answers[i] for i in rows]
            )
            seq = torch.arange(ids.shape[1])
            where = seq == place[:, None]
            masked = (marked & (seq >= place[:, None])) if later_masked else where
            batch = {"input_ids": ids.masked_fill(masked, special.mask).to(device), "attention_mask": real.to(device)}
            values = measure_at(model, batch, where.to(device), ids[where].to(device), [token_nll])[0]
            np.subtract.at(nats, rows, values.numpy())
    return nats


LIKELIHOODS: Registry[Likelihood] = Registry(
    "likelihood",
    {
        "bound": (_bound, "any-order lower bound by `samples` sampled masks"),
        "any_order": (_any_order, "the same bound without sampling, for up to 16 tokens"),
        "left_to_right": (_left_to_right, "exact log-likelihood of the order from left to right"),
        "pll": (_pll, "pseudo-log-likelihood, which is no likelihood"),
    },
)


def conditional_log_likelihood(
    model: MLMModel,
    windows: Windows,
    special: SpecialIds,
    likelihood: str = "bound",
    *,
    samples: int = 64,
    seed: int = 0,
    batch_tokens: int = 16384,
) -> NDArray[np.float64]:
    """Return the log-likelihood of the marked tokens of every row given its other tokens.

    Args:
        model: the network.
        windows: rows with answers.
        special: special ids.
        likelihood: a name of ``LIKELIHOODS``.
        samples: passes of ``bound``.
        seed: of the masks of ``bound``.
        batch_tokens: padded tokens per forward pass.

    Returns:
        float64 ``[W]``, in nats.

    Raises:
        ValueError: no such likelihood, a row with the mask token, or more than 16 tokens for ``any_order``.
    """
    return LIKELIHOODS.choose(likelihood)(model, windows, special, samples, seed, batch_tokens)
