"""The any-order likelihood bound by brute force, and the tiny models it is computed for.

A table model has its own random logits for every row it could ever see, so nothing but the identity itself (docs/theory.md;
Uria et al. 2014, Ou et al. 2024) can make two objectives agree under it.
"""

import itertools
import math

import torch


class TableModel:
    """Random float64 logits for each of the ``V**L`` possible rows; the mask is id ``V - 1`` and is never predicted."""

    def __init__(self, vocab: int, length: int, seed: int = 0) -> None:
        self.place_values = vocab ** torch.arange(length)
        generator = torch.Generator().manual_seed(seed)
        self.table = torch.randn(vocab**length, length, vocab, generator=generator, dtype=torch.float64)
        self.table[..., vocab - 1] = -torch.inf
        self.mask_idx = vocab - 1

    def __call__(self, x_t, attention_mask=None, positions=None, block_mask=None):
        return self.table[(x_t * self.place_values).sum(-1)]


class UniformModel:
    """Every token is as likely as any other, everywhere."""

    def __init__(self, vocab: int, mask_idx: int = 1) -> None:
        self.vocab, self.mask_idx = vocab, mask_idx

    def __call__(self, x_t, attention_mask=None, positions=None, block_mask=None, segment_ids=None):
        return torch.zeros(*x_t.shape, self.vocab, dtype=torch.float64)


def subsets(length: int) -> torch.Tensor:
    """Every nonempty subset of positions, bool ``[2**L - 1, L]``."""
    return torch.tensor(list(itertools.product([False, True], repeat=length))[1:])


def hidden_cost(model: TableModel, row: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """``c(S)`` of each subset ``[n, L]``: summed negative log-likelihood of the hidden tokens given the visible ones."""
    noisy = torch.where(hidden, model.mask_idx, row)
    nll = -model(noisy).log_softmax(-1).gather(-1, row.expand_as(noisy)[..., None])[..., 0]
    return (nll * hidden).sum(-1)


def any_order_bound(model: TableModel, row: torch.Tensor) -> float:
    """Negative log-likelihood (nats) of ``row`` averaged over all ``L!`` orders of revealing it, token by token."""
    length, total = len(row), 0.0
    for order in itertools.permutations(range(length)):
        hidden = torch.ones(length, dtype=torch.bool)
        for position in order:
            noisy = torch.where(hidden, model.mask_idx, row)
            total -= float(model(noisy[None])[0, position].log_softmax(-1)[row[position]])
            hidden[position] = False
    return total / math.factorial(length)
