"""Heads: from hidden states ``[..., D]`` to logits ``[..., V]``."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from unmask.nn.linear import Linear


class VocabularyHead(nn.Module):
    """A norm and one projection onto the vocabulary.

    Args:
        d_model, num_embeddings: width and vocabulary.
        layer_norm_eps: of the norm.
        normalise: False skips the norm.
        embedding: share this embedding's weight with the projection.
    """

    def __init__(
        self, d_model: int, num_embeddings: int, layer_norm_eps: float, normalise: bool, embedding: nn.Embedding | None
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model, layer_norm_eps) if normalise else nn.Identity()
        self.projection = Linear(d_model, num_embeddings)
        if embedding is not None:
            self.projection.weight = embedding.weight

    def forward(self, hidden: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape vocab"]:
        return self.projection(self.norm(hidden))
