"""Weights of aligned sequences: one over the number of sequences that are nearly the same.

An alignment holds many copies of well-studied proteins. Each sequence counts ``1 / n``, where ``n`` sequences (itself
included) share at least a fraction ``threshold`` of its residues, as in EVE and DeepSequence (Riesselman et al. 2018).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unmask.data.store.token_store import TokenStore

GAP = "-"
_COMPARED = 2**24  # pairs of sequences compared at once


def identity_weights(store: TokenStore, threshold: float, gap: int | None = None) -> NDArray[np.float64]:
    """Return the weight of each document of a store of aligned sequences, float64 ``[documents]`` in (0, 1].

    Args:
        store: documents of one length.
        threshold: smallest fraction of the residues of a sequence that another one shares, in (0, 1].
        gap: id of the gap, which is no residue; None = there is none.

    Raises:
        ValueError: documents of several lengths.
    """
    lengths = store.document_tokens
    if len(set(lengths.tolist())) > 1:
        raise ValueError(
            f"data.identity_weights compares aligned sequences, and the sequences of {store.path} have {lengths.min() - 1} to "
            f"{lengths.max() - 1} tokens. Prepare an alignment with data.inserts=drop and data.tokenizer=characters, or leave the key out."
        )
    rows = np.asarray(store.read(0, store.n_tokens)).reshape(len(lengths), -1)[:, :-1]  # without EOS
    return weights_of_rows(rows, threshold, gap)


def weights_of_rows(rows: NDArray[np.integer], threshold: float, gap: int | None = None) -> NDArray[np.float64]:
    """Return the weights of aligned rows ``[N, L]``, see :func:`identity_weights`.

    The time is proportional to ``N * N * L``: 4,500 rows of 286 take about ten seconds.
    """
    residues = [id for id in np.unique(rows).tolist() if id != gap]
    least = threshold * np.isin(rows, residues).sum(1)
    weights = np.empty(len(rows))
    at_once = max(1, _COMPARED // max(1, len(rows)))
    for start in range(0, len(rows), at_once):
        some = slice(start, start + at_once)
        same = np.zeros((len(rows[some]), len(rows)), dtype=np.float32)
        for id in residues:  # products of matrices count common residues much faster than comparisons
            has = (rows == id).astype(np.float32)
            same += has[some] @ has.T
        weights[some] = 1.0 / np.maximum(1, (same >= least[some, None] - 1e-3).sum(1))
    return weights
