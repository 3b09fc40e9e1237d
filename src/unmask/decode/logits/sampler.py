"""Which token to put at a chosen position: temperature first, then the filters, then one exact draw.

None of this depends on a number added to all logits of a position, so they need not be normalised.

Shapes: logits ``[N, V]`` over the chosen positions, ``-inf`` where an id may not be placed; ids ``[N]``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.decode.view import StepView
from unmask.ops.sampling import Logits, draw, keep_min_p, keep_top_k, keep_top_p, likeliest


@dataclass(frozen=True)
class Tokens:
    """How tokens are drawn.

    Attributes:
        temperature: 0 takes the most likely token; 1 draws from the model's own distribution.
        top_k: only the ``k`` most likely, or None.
        top_p: only the smallest set that reaches probability ``p``, the crossing token included, or None.
        min_p: only tokens at least this many times as likely as the likeliest, or None.
        annealed: the temperature falls in even steps over the evaluations of a row: after ``i`` of ``S`` it is
            ``temperature * (S - 1 - i) / S``, so the last tokens are the likeliest ones (MaskGIT).

    Raises:
        ValueError: an option outside its range, or ``top_k`` and ``top_p`` together.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    annealed: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(
                f"temperature={self.temperature} is not a number of at least 0: give 0 (greedy), 1 (the model's own odds) or more."
            )
        if self.top_k is not None and self.top_p is not None:
            raise ValueError(
                f"top_k={self.top_k} and top_p={self.top_p} were both given, and each decides which tokens may be drawn. "
                "Choose one and leave the other None."
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k={self.top_k} would leave no token to draw: give 1 or more, or None for all.")
        if self.min_p is not None and not 0.0 < self.min_p <= 1.0:
            raise ValueError(
                f"min_p={self.min_p} is a share of the likeliest token's probability: give a number in (0, 1]."
            )
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p={self.top_p} is not a share of probability: give a number in (0, 1], such as 0.9.")

    def shares(self, view: StepView, where: Bool[Tensor, "rows seq"]) -> Float[Tensor, " scored"] | None:
        """The share of the temperature that is left at each position of ``where``; None where all of it always is."""
        if not self.annealed or view.fraction_left is None:
            return None
        return view.fraction_left[where.nonzero()[:, 0]]

    def draw(
        self, logits: Logits, uniforms: Float[Tensor, " scored"], shares: Float[Tensor, " scored"] | None = None
    ) -> Int[Tensor, " scored"]:
        """One id per position; ``uniforms`` float64 ``[N]`` in (0, 1), ``shares`` as :meth:`shares` says."""
        if self.temperature == 0 or (shares is not None and not bool(shares.any())):
            return likeliest(logits)
        if shares is not None:
            drawn = self._draw(
                logits / (self.temperature * shares.masked_fill(shares == 0, 1.0)).to(logits.dtype)[:, None], uniforms
            )
            return torch.where(shares > 0, drawn, likeliest(logits))
        return self._draw(logits / self.temperature if self.temperature != 1 else logits, uniforms)

    def _draw(self, logits: Logits, uniforms: Float[Tensor, " scored"]) -> Int[Tensor, " scored"]:
        if self.top_k is not None:
            logits = keep_top_k(logits, self.top_k)
        if self.top_p is not None:
            logits = keep_top_p(logits, self.top_p)
        if self.min_p is not None:
            logits = keep_min_p(logits, self.min_p)
        return draw(logits, uniforms)
