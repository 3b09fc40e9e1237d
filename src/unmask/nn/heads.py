"""Heads: from hidden states ``[..., D]`` to logits ``[..., V]``."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unmask.nn.linear import Linear


class VocabularyHead(nn.Module):
    """A norm and one projection onto the vocabulary.

    Args:
        d_model, num_embeddings: width and vocabulary size.
        layer_norm_eps: of the norm.
        normalise: False skips the norm.
        embedding: an embedding whose weight the projection shares (tied embeddings); None = a weight of its own.
    """

    def __init__(
        self, d_model: int, num_embeddings: int, layer_norm_eps: float, normalise: bool, embedding: nn.Embedding | None
    ) -> None:
        super().__init__()
        self.norm: nn.LayerNorm | nn.Identity = nn.LayerNorm(d_model, layer_norm_eps) if normalise else nn.Identity()
        self.projection: Linear = Linear(d_model, num_embeddings)
        if embedding is not None:
            self.projection.weight = embedding.weight

    def forward(self, hidden: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape vocab"]:
        """Return logits ``[..., V]``."""
        logits: Tensor = self.projection(self.features(hidden))
        return logits

    def features(self, hidden: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape width"]:
        """Return the input of the projection."""
        features: Tensor = self.norm(hidden)
        return features

    @property
    def output_weights(self) -> tuple[Tensor, Tensor | None]:
        """Weight ``[V, D]`` and bias ``[V]`` of the projection."""
        return self.projection.weight, self.projection.bias


class MaskedLMHead(nn.Module):
    """BERT's head: a dense layer, GELU and a norm before the projection onto the vocabulary (Devlin et al. 2019).

    Args:
        hidden_dimensions, vocab_size: width and vocabulary size.
        eps: of the norm.

    Examples:
        >>> import torch
        >>> head = MaskedLMHead(hidden_dimensions=8, vocab_size=20, eps=1e-5)
        >>> head(torch.zeros(2, 3, 8)).shape
        torch.Size([2, 3, 20])
    """

    def __init__(self, hidden_dimensions: int, vocab_size: int, eps: float) -> None:
        super().__init__()
        self.transform: nn.Linear = nn.Linear(hidden_dimensions, hidden_dimensions)
        self.norm: nn.LayerNorm = nn.LayerNorm(hidden_dimensions, eps)
        self.decode: nn.Linear = nn.Linear(hidden_dimensions, vocab_size)

    def forward(self, state: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape vocab"]:
        """Return logits ``[..., V]`` of hidden states ``[..., D]``."""
        logits: Tensor = self.decode(self.features(state))
        return logits

    def features(self, state: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape width"]:
        """Return the input of the projection."""
        features: Tensor = self.norm(F.gelu(self.transform(state)))
        return features

    @property
    def output_weights(self) -> tuple[Tensor, Tensor | None]:
        """Weight ``[V, D]`` and bias ``[V]`` of the projection."""
        return self.decode.weight, self.decode.bias
