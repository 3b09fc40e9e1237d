"""Count-based baselines: predictions from a token's frequency, and from its two neighbours.

They implement ``MLMModel`` (with ``hidden_states`` and ``logits_at``), so the same bound measures them. The "hidden
state" of a position is the pair of its visible neighbours. Special tokens have probability zero.

    unigram     p(x)          counts of ordinary tokens, plus one each
    one-sided   p(x | l)      (c(l, x) + K p(x)) / (c(l) + K)           likewise p(x | r);  K = 50
    product     q(x | l, r)   proportional to p(x | l) p(x | r) / p(x)
    pair        p(x | l, r)   (c(l, x, r) + k q(x | l, r)) / (c(l, r) + k)                  k = 10

A neighbour that is masked, or outside the document or window, is unknown, and the model backs off to the known one. The
end-of-document token is a right neighbour like any other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from unmask.contracts import SpecialIds
from unmask.data.store.token_store import TokenStore
from unmask.evaluate.counting import ContextTable

UNKNOWN = -1


class UnigramModel:
    """Every token by its frequency, independent of context.

    Args:
        counts: int ``[V]``, count of each id.
        special: ids of probability zero.
    """

    def __init__(self, counts: NDArray[np.int64], special: SpecialIds) -> None:
        ordinary = np.ones(len(counts), dtype=bool)
        ordinary[[i for i in special.all if i < len(counts)]] = False
        if not ordinary.any():
            raise ValueError(
                f"All {len(counts)} ids of the vocabulary are special, so there is nothing to predict. Give counts of ordinary tokens."
            )
        smoothed = np.where(ordinary, counts + 1.0, 0.0)
        self.special = special
        self.probabilities: NDArray[np.float64] = smoothed / smoothed.sum()

    @classmethod
    def of_store(cls, store: TokenStore, special: SpecialIds) -> UnigramModel:
        """Count the documents of a store."""
        special = SpecialIds.of(special)
        return cls(np.pad(store.unigram_counts, (0, _width(store, special) - store.vocab_size)), special)

    def __call__(
        self,
        x_t: Int[Tensor, "batch seq"],
        attention_mask: Bool[Tensor, "batch seq"] | None = None,
        positions: Int[Tensor, "batch seq"] | None = None,
        block_mask: Any = None,
        segment_ids: Int[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq vocab"]:
        """Return log-probabilities at every position, float64 ``[B, L, V]``."""
        hidden = self.hidden_states(x_t, attention_mask, positions, block_mask, segment_ids)
        everywhere = torch.ones(x_t.shape, dtype=torch.bool, device=x_t.device)
        return self.logits_at(hidden, everywhere).view(*x_t.shape, -1)

    def hidden_states(
        self,
        x_t: Int[Tensor, "batch seq"],
        attention_mask: Bool[Tensor, "batch seq"] | None = None,
        positions: Int[Tensor, "batch seq"] | None = None,
        block_mask: Any = None,
        segment_ids: Int[Tensor, "batch seq"] | None = None,
    ) -> Int[Tensor, "batch seq 2"]:
        """Return the contexts of every position: here unknown (``-1``)."""
        return torch.full((*x_t.shape, 2), UNKNOWN, dtype=torch.long, device=x_t.device)

    def logits_at(
        self, hidden: Int[Tensor, "batch seq 2"], where: Bool[Tensor, "batch seq"]
    ) -> Float[Tensor, "scored vocab"]:
        """Return log-probabilities at the positions of ``where``, float64 ``[N, V]``; ``-inf`` at special ids."""
        contexts, inverse = np.unique(hidden[where].cpu().numpy(), axis=0, return_inverse=True)
        with np.errstate(divide="ignore"):
            log_p = np.log(self.conditionals(contexts))
        return torch.from_numpy(log_p).to(hidden.device)[torch.from_numpy(inverse.reshape(-1)).to(hidden.device)]

    def conditionals(self, contexts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return ``p(x | left, right)`` of contexts ``[N, 2]``: float64 ``[N, V]``, each row with sum 1."""
        return np.broadcast_to(self.probabilities, (len(contexts), len(self.probabilities)))


class NeighbourModel(UnigramModel):
    """Every token by its two neighbours, with the back-off described in the module.

    Args:
        stream: integer ids ``[n]``; documents end with EOS.
        special: ids that are never predicted; needs an EOS to separate documents.
        vocab_size: ids are smaller than this.
        one_side, both_sides: the constants K and k: weight of the back-off, in observations.
    """

    def __init__(
        self,
        stream: NDArray[np.integer],
        special: SpecialIds,
        vocab_size: int,
        one_side: float = 50.0,
        both_sides: float = 10.0,
    ) -> None:
        tokens = np.asarray(stream, dtype=np.int64)
        super().__init__(np.bincount(tokens, minlength=vocab_size), special.require("eos"))
        if vocab_size >= 2**21:
            raise ValueError(
                f"A vocabulary of {vocab_size} ids is too large to count three neighbouring tokens in 64 bits; the limit is {2**21 - 1}."
            )
        self.one_side = one_side
        self.both_sides = both_sides
        target = self.probabilities[tokens] > 0
        follows = tokens[:-1] != special.eos  # token i+1 has token i as its left neighbour
        left = np.flatnonzero(follows & target[1:]) + 1
        right = np.flatnonzero(target[:-1])
        both = np.flatnonzero(follows[:-1] & target[1:-1]) + 1
        self.after: ContextTable = ContextTable.of(tokens[left - 1], tokens[left], vocab_size)
        self.before: ContextTable = ContextTable.of(tokens[right + 1], tokens[right], vocab_size)
        self.between: ContextTable = ContextTable.of(
            tokens[both - 1] * vocab_size + tokens[both + 1], tokens[both], vocab_size
        )

    @classmethod
    def of_store(cls, store: TokenStore, special: SpecialIds, max_tokens: int = 2**25) -> NeighbourModel:
        """Count the documents of a store, at most its first ``max_tokens`` tokens (three sorts of as many numbers)."""
        special = SpecialIds.of(special)
        return cls(store.read(0, min(store.n_tokens, max_tokens)), special, _width(store, special))

    def hidden_states(
        self,
        x_t: Int[Tensor, "batch seq"],
        attention_mask: Bool[Tensor, "batch seq"] | None = None,
        positions: Int[Tensor, "batch seq"] | None = None,
        block_mask: Any = None,
        segment_ids: Int[Tensor, "batch seq"] | None = None,
    ) -> Int[Tensor, "batch seq 2"]:
        """Return the visible neighbours, left and right, of every position; ``-1`` where unknown."""
        visible = (x_t != self.special.mask).clone()
        if attention_mask is not None:
            visible &= attention_mask.bool()
        joined = torch.ones_like(x_t[:, 1:], dtype=torch.bool)
        if segment_ids is not None:
            joined &= segment_ids[:, 1:] == segment_ids[:, :-1]
        if self.special.eos is not None:
            joined &= x_t[:, :-1] != self.special.eos
        neighbours = torch.full((*x_t.shape, 2), UNKNOWN, dtype=torch.long, device=x_t.device)
        neighbours[:, 1:, 0] = torch.where(joined & visible[:, :-1], x_t[:, :-1], UNKNOWN)
        neighbours[:, :-1, 1] = torch.where(joined & visible[:, 1:], x_t[:, 1:], UNKNOWN)
        return neighbours

    def conditionals(self, contexts: NDArray[np.int64]) -> NDArray[np.float64]:
        left, right = contexts[:, 0], contexts[:, 1]
        # p(x|l) / p(x) is 1 + c(l, x) / (K p(x)) up to a factor: sparse updates of one dense row give the product.
        p = np.array(super().conditionals(contexts))
        for table, known in ((self.after, left), (self.before, right)):
            row, token, count = table.rows(np.where(known == UNKNOWN, self._unseen, known))
            p[row, token] *= 1.0 + count / (self.one_side * self.probabilities[token])
        p /= p.sum(-1, keepdims=True)
        pairs = np.flatnonzero((left != UNKNOWN) & (right != UNKNOWN))
        row, token, count = self.between.rows(left[pairs] * len(self.probabilities) + right[pairs])
        seen = np.bincount(row, count, len(pairs))
        p[pairs] *= (self.both_sides / (seen + self.both_sides))[:, None]
        p[pairs[row], token] += count / (seen[row] + self.both_sides)
        return p

    @property
    def _unseen(self) -> int:
        """A context without counts."""
        return len(self.probabilities) + 1


def _width(store: TokenStore, special: SpecialIds) -> int:
    return max(store.vocab_size, special.vocab_size)
