"""Heads: from hidden states ``[..., D]`` to logits ``[..., V]``."""

from __future__ import annotations

import torch.nn.functional as F
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
        return self.projection(self.features(hidden))

    def features(self, hidden: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape width"]:
        """What is projected."""
        return self.norm(hidden)

    @property
    def output_weights(self) -> tuple[Tensor, Tensor | None]:
        """Weight ``[V, D]`` and bias ``[V]`` of the projection."""
        return self.projection.weight, self.projection.bias


class MaskedLMHead(nn.Module):
    """BERT's head: a dense layer, GELU and a norm before the projection onto the vocabulary (Devlin et al. 2019).

    Args:
        hidden_dimensions, vocab_size: width and vocabulary.
        eps: of the norm.
    """

    def __init__(self, hidden_dimensions: int, vocab_size: int, eps: float) -> None:
        super().__init__()
        self.transform = nn.Linear(hidden_dimensions, hidden_dimensions)
        self.norm = nn.LayerNorm(hidden_dimensions, eps)
        self.decode = nn.Linear(hidden_dimensions, vocab_size)

    def forward(self, state: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape vocab"]:
        return self.decode(self.features(state))

    def features(self, state: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape width"]:
        """What is decoded."""
        return self.norm(F.gelu(self.transform(state)))

    @property
    def output_weights(self) -> tuple[Tensor, Tensor | None]:
        """Weight ``[V, D]`` and bias ``[V]`` of the projection."""
        return self.decode.weight, self.decode.bias
