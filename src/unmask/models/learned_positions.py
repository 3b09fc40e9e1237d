"""The rotary encoder with one learned vector per position: for rows whose places have meanings of their own, such as boards.

Rotary positions tell distances. In a sudoku, column, row and box of a cell are no functions of distances, and a learned
vector per cell holds all of them.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from unmask.models.rotary_mlm import RotaryTransformerMLMModel


class LearnedPositionMLMModel(RotaryTransformerMLMModel):
    """Masked language model with rotary and learned absolute positions.

    Args:
        options: those of :class:`RotaryTransformerMLMModel`; ``max_length`` is the number of learned vectors.

    Examples:
        >>> import torch
        >>> model = LearnedPositionMLMModel(num_embeddings=20, d_model=16, num_layers=1, nhead=2, max_length=9)
        >>> model(torch.tensor([[5, 6, 3, 7]])).shape
        torch.Size([1, 4, 20])
    """

    def __init__(self, num_embeddings: int, d_model: int, num_layers: int, nhead: int, **options: Any) -> None:
        super().__init__(num_embeddings, d_model, num_layers, nhead, **options)
        self.place: nn.Embedding = nn.Embedding(self.max_length, d_model)
        nn.init.normal_(self.place.weight, std=0.02)

    def _embed(self, ids: Tensor, *places: Tensor) -> Tensor:
        embedded: Tensor = self.embedding(ids) + self.place(places[0])
        return embedded
