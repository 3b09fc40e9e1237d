"""Which of the tokens that run are read afterwards, and where what they say belongs.

A caller asks for flat positions of a batch, in any order and with repetitions; the encoder has dropped padding and laid the tokens
in an order of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class GatherPlan(NamedTuple):
    """Attributes:
    places: int64 ``[M]``, ascending: the tokens that are read, among those that run.
    answers: int64 ``[M]``, which of the ``size`` things asked for each is the answer to.
    size: ``N``, how many were asked for.
    """

    places: Int[Tensor, " read"]
    answers: Int[Tensor, " read"]
    size: int

    @classmethod
    def of(cls, index: Int[Tensor, " asked"], token_index: Int[Tensor, " tokens"] | None, positions: int) -> GatherPlan:
        """For a flat ``index`` over ``positions``, of which the tokens ``token_index`` run, in that order (None = all, as they are)."""
        if token_index is None:
            places, answers = index.sort(stable=True)
            return cls(places, answers, len(index))
        place = torch.full((positions,), -1, device=index.device)
        place[token_index] = torch.arange(len(token_index), device=index.device)
        places, answers = place[index].sort(stable=True)
        there = places >= 0
        return cls(places[there], answers[there], len(index))

    def put(self, states: Float[Tensor, "read width"]) -> Float[Tensor, "asked width"]:
        """What was asked for, in that order; zero where a position was dropped."""
        return states.new_zeros(self.size, states.shape[-1]).index_copy(0, self.answers, states)
