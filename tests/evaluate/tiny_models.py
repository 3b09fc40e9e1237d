"""Models small enough to know everything about."""

import itertools

import torch

from unmask.contracts import SpecialIds

SPECIAL = SpecialIds(mask=4, vocab_size=6, pad=5)  # ordinary ids 0..3


class TableModel:
    """An arbitrary, inconsistent conditional: log-probabilities looked up by (masked row, position)."""

    def __init__(self, length, vocab=6, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.length, self.vocab = length, vocab
        self.table = torch.randn(vocab**length, length, vocab, generator=generator, dtype=torch.float64).log_softmax(-1)

    def __call__(self, x_t, attention_mask=None, positions=None, block_mask=None):
        code = torch.zeros(len(x_t), dtype=torch.long)
        for column in x_t.T:
            code = code * self.vocab + column
        return self.table[code]


class PosteriorModel:
    """The exact conditionals of a joint distribution over ``{0..3}^L``."""

    def __init__(self, length, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.rows = torch.tensor(list(itertools.product(range(4), repeat=length)))
        self.p = torch.rand(len(self.rows), generator=generator, dtype=torch.float64).pow(3)
        self.p /= self.p.sum()

    def nll(self, row):
        return -float(self.p[(self.rows == torch.tensor(row)).all(-1)].log())

    def __call__(self, x_t, attention_mask=None, positions=None, block_mask=None):
        agrees = ((x_t[:, None] == self.rows) | (x_t[:, None] == SPECIAL.mask)).all(-1)  # (B, rows)
        weight = agrees * self.p
        one_hot = torch.nn.functional.one_hot(self.rows, 6).double()  # (rows, L, V)
        return (torch.einsum("br,rlv->blv", weight, one_hot) / weight.sum(-1)[:, None, None]).log()


class ConstantModel:
    """The same logits everywhere; counts its evaluations."""

    def __init__(self, logits):
        self.logits = torch.as_tensor(logits, dtype=torch.float64)
        self.calls = 0

    def __call__(self, x_t, attention_mask=None, positions=None, block_mask=None):
        self.calls += 1
        return self.logits.expand(*x_t.shape, -1)
