"""From ids to logits at the positions somebody reads.

A forward gets the rows that are still unfinished and a mask of positions, and answers their logits ``[N, V]`` in row-major
order. Others than the two here: ``unmask.decode.forwards.compiled``, and with remembered keys and values ``unmask.decode.forwards.cached`` and ``block_cache``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unmask.contracts import SpecialIds
from unmask.decode.block_schedule import BlockSchedule
from unmask.decode.view import StepView
from unmask.nn.projection import logits_where


@runtime_checkable
class Forward(Protocol):
    """How the network is asked.

    Attributes:
        passes: how many times each row is run in a call.
    """

    @property
    def passes(self) -> int: ...

    def start(self, rows: int, block_schedule: BlockSchedule) -> ForwardSession:
        """The forward at work: for one decode of ``rows`` rows."""
        ...


@runtime_checkable
class ForwardSession(Protocol):
    """A forward at work: the rows of a step -> logits at ``where [b, L]``, by one call of the network."""

    def positions(self, view: StepView) -> int:
        """How many tokens a call with this view runs through the network."""
        ...

    def __call__(
        self, model: Any, view: StepView, where: Bool[Tensor, "rows seq"]
    ) -> Float[Tensor, "scored vocab"]: ...


@dataclass(frozen=True)
class PlainForward:
    """The model as it is. Columns that are padding in every row of a call are not run."""

    passes: int = field(default=1, init=False)

    def start(self, rows: int, block_schedule: BlockSchedule) -> PlainForward:
        return self

    def positions(self, view: StepView) -> int:
        return int(view.canvas.attention_mask.sum())

    def __call__(self, model: Any, view: StepView, where: Bool[Tensor, "rows seq"]) -> Float[Tensor, "scored vocab"]:
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
    """Classifier-free guidance: ``u + (weight + 1) (c - u)``, ``u`` being the logits with the given text hidden
    (Nie et al. 2024, 2410.18514, eq. 6). Both halves run in one batch.

    Attributes:
        weight: 0 is the plain model, -1 the model without the given text, above 0 follows the given text more closely.
        special: ids that stay visible (BOS, EOS), and the mask.
        inner: how the doubled batch is asked.
    """

    weight: float
    special: SpecialIds
    inner: Forward = PlainForward()

    @property
    def passes(self) -> int:
        return 2 * self.inner.passes

    def start(self, rows: int, block_schedule: BlockSchedule) -> _Guided:
        return _Guided(self.weight, self.special, self.inner.start(2 * rows, block_schedule))


@dataclass(frozen=True)
class _Guided:
    weight: float
    special: SpecialIds
    inner: ForwardSession

    def positions(self, view: StepView) -> int:
        return self.inner.positions(self._twice(view))

    def __call__(self, model: Any, view: StepView, where: Bool[Tensor, "rows seq"]) -> Float[Tensor, "scored vocab"]:
        conditional, free = self.inner(model, self._twice(view), where.repeat(2, 1)).chunk(2)
        # Where either says "never" there is nothing to compare: the model's own answer stands.
        comparable = conditional.isfinite() & free.isfinite()
        return torch.where(comparable, free + (self.weight + 1.0) * (conditional - free), conditional)

    def _twice(self, view: StepView) -> StepView:
        """The rows as they are, then with the given text hidden; row ``r`` becomes rows ``2 r`` and ``2 r + 1``."""
        ids, canvas = view.ids, view.canvas
        visible = torch.isin(ids, torch.tensor(self.special.all, device=ids.device))
        given = canvas.attention_mask & (canvas.fixed | (canvas.ids != self.special.mask)) & ~visible
        both = torch.cat([ids, ids.masked_fill(given, self.special.mask)])
        twice = view.take(torch.arange(len(ids), device=ids.device).repeat(2))
        return replace(twice, ids=both, rows=torch.cat([2 * view.rows, 2 * view.rows + 1]))


def real_columns(attention_mask: Bool[Tensor, "rows seq"]) -> slice:
    """The columns from the first to the last that is real in any row."""
    columns = attention_mask.any(0).nonzero()[:, 0].tolist()
    return slice(columns[0], columns[-1] + 1) if columns else slice(0, 0)
