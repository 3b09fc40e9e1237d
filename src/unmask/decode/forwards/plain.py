"""Forwards: from ids to logits at the requested positions.

A forward receives the unfinished rows and a mask of positions, and returns their logits ``[N, V]`` in row-major
order. Here are the plain forward and classifier-free guidance; ``forwards.compiled``, ``forwards.cached`` and ``forwards.block_cached`` have the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unmask.contracts import MLMModel, SpecialIds
from unmask.decode.block_schedule import BlockSchedule
from unmask.decode.view import StepView
from unmask.nn.projection import logits_where


@runtime_checkable
class Forward(Protocol):
    """How the network is run.

    Examples:
        >>> from unmask.decode.block_schedule import SingleBlock
        >>> from unmask.decode.forwards.plain import PlainForward
        >>> isinstance(PlainForward(), Forward), isinstance(PlainForward().start(2, SingleBlock()), ForwardSession)
        (True, True)
    """

    def start(self, rows: int, block_schedule: BlockSchedule) -> ForwardSession:
        """Return the session of one decode.

        Args:
            rows: rows of the canvas.
            block_schedule: which positions may be unmasked when.
        """
        ...


@runtime_checkable
class ForwardSession(Protocol):
    """The state of a forward during one decode.

    Examples:
        >>> import torch
        >>> from unmask.decode.forwards.plain import PlainForward
        >>> class Counted(PlainForward):  # a forward without state is its own session
        ...     calls = []
        ...     def __call__(self, model, view, where):
        ...         self.calls.append(self.positions(view))
        ...         return super().__call__(model, view, where)
        >>> special = SpecialIds(mask=0, vocab_size=20)
        >>> canvas = Canvas.infill(torch.tensor([[5, 0, 0]]), special)
        >>> rules = Rules(2, forward=Counted())
        >>> decoded = fill_canvas(lambda x_t, **_: torch.zeros(*x_t.shape, 20), canvas, rules, special=special, seed=0)
        >>> Counted.calls
        [3, 3]
    """

    def positions(self, view: StepView) -> int:
        """Return the number of tokens that a call with this view processes."""
        ...

    def __call__(
        self, model: MLMModel, view: StepView, where: Bool[Tensor, "rows seq"]
    ) -> Float[Tensor, "scored vocab"]:
        """Return the logits ``[N, V]`` at the True positions of ``where [b, L]``, from one forward pass."""
        ...


@dataclass(frozen=True)
class PlainForward:
    """The model as it is. Columns that are padding in every row of a call are left out."""

    def start(self, rows: int, block_schedule: BlockSchedule) -> PlainForward:
        """Return itself: no state is kept."""
        return self

    def positions(self, view: StepView) -> int:
        """Return the number of real tokens."""
        return int(view.canvas.attention_mask.sum())

    def __call__(
        self, model: MLMModel, view: StepView, where: Bool[Tensor, "rows seq"]
    ) -> Float[Tensor, "scored vocab"]:
        """Return the logits at ``where``."""
        canvas = view.canvas
        span = real_columns(canvas.attention_mask)
        inputs = {
            "input_ids": view.ids[:, span],
            "attention_mask": canvas.attention_mask[:, span],
            "positions": canvas.positions[:, span],
        }
        return logits_where(model, inputs, where[:, span])


@dataclass(frozen=True)
class GuidedForward:
    """Classifier-free guidance: ``u + (weight + 1) (c - u)``, where ``u`` are the logits with the given text masked
    (Nie et al. 2024, 2410.18514, eq. 6). Both halves run in one batch.

    Attributes:
        weight: 0 is the plain model, -1 the model without the given text; above 0 follows the given text more closely.
        special: special ids: the mask, and those that stay visible (BOS, EOS).
        inner: the forward of the doubled batch.
    """

    weight: float
    special: SpecialIds
    inner: Forward = PlainForward()

    def start(self, rows: int, block_schedule: BlockSchedule) -> _GuidedSession:
        """Return the session of one decode; the inner forward has twice the rows."""
        return _GuidedSession(self.weight, self.special, self.inner.start(2 * rows, block_schedule))


@dataclass(frozen=True)
class _GuidedSession:
    weight: float
    special: SpecialIds
    inner: ForwardSession

    def positions(self, view: StepView) -> int:
        return self.inner.positions(self._doubled(view))

    def __call__(
        self, model: MLMModel, view: StepView, where: Bool[Tensor, "rows seq"]
    ) -> Float[Tensor, "scored vocab"]:
        conditional, free = self.inner(model, self._doubled(view), where.repeat(2, 1)).chunk(2)
        # An infinite logit cannot be extrapolated: the conditional one stays.
        comparable = conditional.isfinite() & free.isfinite()
        return torch.where(comparable, free + (self.weight + 1.0) * (conditional - free), conditional)

    def _doubled(self, view: StepView) -> StepView:
        """Return the rows, then the rows with the given text masked; row ``r`` becomes rows ``2 r`` and ``2 r + 1``."""
        ids, canvas = view.ids, view.canvas
        visible = torch.isin(ids, torch.tensor(self.special.all, device=ids.device))
        given = canvas.attention_mask & (canvas.fixed | (canvas.ids != self.special.mask)) & ~visible
        both = torch.cat([ids, ids.masked_fill(given, self.special.mask)])
        doubled = view.take(torch.arange(len(ids), device=ids.device).repeat(2))
        return replace(doubled, ids=both, rows=torch.cat([2 * view.rows, 2 * view.rows + 1]))


def real_columns(attention_mask: Bool[Tensor, "rows seq"]) -> slice:
    """Return the columns from the first to the last that is real in any row."""
    columns = attention_mask.any(0).nonzero()[:, 0].tolist()
    return slice(columns[0], columns[-1] + 1) if columns else slice(0, 0)
