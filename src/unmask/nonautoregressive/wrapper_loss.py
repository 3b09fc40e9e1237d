"""``WrapperObjective``: the wrapper's loss as an ``Objective`` of the training loop.

    MaskedLMModule(wrapper, WrapperObjective(), OptimConfig(), total_steps=1000)

Batches are clean rows with their identities, or masked rows (``wrapper.masking`` is a collate function).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unmask.contracts import MLMLossDict, ScoredTokens
from unmask.nonautoregressive.wrapper import NonAutoregressiveWrapper


class WrapperObjective:
    """The counterpart of ``MLMLoss`` for a ``NonAutoregressiveWrapper``."""

    def __call__(self, batch: Mapping[str, Any], model: NonAutoregressiveWrapper) -> MLMLossDict:
        """Return the loss with its parts, the critic's included."""
        return model.losses(batch)

    def score(self, batch: Mapping[str, Any], model: NonAutoregressiveWrapper) -> ScoredTokens:
        """Return the generator's scores of the masked tokens."""
        self._objective = model.objective
        return model.score(batch)

    def combine(self, batch: Mapping[str, Any], tokens: ScoredTokens) -> MLMLossDict:
        """Return the generator's loss from the tokens of :meth:`score` on the same batch."""
        return self._objective.combine(batch, tokens)

    def locate(self, batch: Mapping[str, Any], model: NonAutoregressiveWrapper, multiple: int = 1) -> dict[str, Any]:
        """Return the masked batch with its masked positions. A critic learns from exactly those, so its index is not padded."""
        return model.objective.locate(model.hide(batch), model.net, 1 if model.critic is not None else multiple)
