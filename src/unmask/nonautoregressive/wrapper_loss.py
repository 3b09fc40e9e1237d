"""The wrapper's loss in the shape in which the training loop asks for one.

    >>> MaskedLMModule(wrapper, WrapperObjective(), OptimConfig(), total_steps=1000)

Batches are clean rows with their identities, or rows already hidden (``wrapper.masking`` is a collate function).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unmask.contracts import MLMLossDict, ScoredTokens
from unmask.nonautoregressive.wrapper import NonAutoregressiveWrapper


class WrapperObjective:
    """As ``MLMLoss``, for a model that is a ``NonAutoregressiveWrapper``."""

    def __call__(self, batch: Mapping[str, Any], model: NonAutoregressiveWrapper) -> MLMLossDict:
        """The whole loss, the critic's share too."""
        return model.losses(batch)

    def score(self, batch: Mapping[str, Any], model: NonAutoregressiveWrapper) -> ScoredTokens:
        """Of the generator alone."""
        self._objective = model.objective
        return model.score(batch)

    def combine(self, batch: Mapping[str, Any], tokens: ScoredTokens) -> MLMLossDict:
        """The generator's loss, from what :meth:`score` found in the same batch."""
        return self._objective.combine(batch, tokens)

    def locate(self, batch: Mapping[str, Any], model: NonAutoregressiveWrapper, multiple: int = 1) -> dict[str, Any]:
        """The batch, hidden, with where it is; a critic learns from exactly the hidden tokens, so nothing is filled up for it."""
        return model.objective.locate(model.hide(batch), model.net, 1 if model.critic is not None else multiple)
