"""Maps requested positions to encoder outputs (after padding is dropped and documents are sorted).

Callers request flat positions of a batch, in any order and with repetitions; the encoder runs real tokens only, in its
own order.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class GatherPlan(NamedTuple):
    """The tokens to read, and the order of the request.

    Attributes:
        places: int64 ``[M]``, ascending: indices of the tokens to read, among those that run.
        answers: int64 ``[M]``, the index of each within the request.
        size: ``N``, length of the request.
    """

    places: Int[Tensor, " read"]
    answers: Int[Tensor, " read"]
    size: int

    @classmethod
    def of(
        cls, index: Int[Tensor, " requested"], token_index: Int[Tensor, " tokens"] | None, positions: int
    ) -> GatherPlan:
        """Return the plan of a request.

        Args:
            index: int64 ``[N]``, flat positions to read.
            token_index: int64 ``[T]``, flat positions of the tokens that run, in their order; None = all, as they are.
            positions: number of positions of the batch.
        """
        if token_index is None:
            places, answers = index.sort(stable=True)
            return cls(places, answers, len(index))
        place = torch.full((positions,), -1, device=index.device)
        place[token_index] = torch.arange(len(token_index), device=index.device)
        places, answers = place[index].sort(stable=True)
        runs = places >= 0
        return cls(places[runs], answers[runs], len(index))

    def put(self, states: Float[Tensor, "read width"]) -> Float[Tensor, "requested width"]:
        """Return states in the order of the request; zero where a position was dropped."""
        return states.new_zeros(self.size, states.shape[-1]).index_copy(0, self.answers, states)
