"""Token sampling at the chosen positions: temperature, then filters, then one exact categorical draw.

Logits need not be normalised: a constant added to all logits of a position changes no result.

Shapes: logits ``[N, V]`` over the chosen positions, ``-inf`` for forbidden ids; ids ``[N]``.
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
    """How tokens are sampled.

    Attributes:
        temperature: 0 takes the most likely token; 1 samples from the model's distribution.
        top_k: sample from the ``k`` most likely tokens, or None.
        top_p: sample from the smallest set with total probability ``p``, the crossing token included, or None.
        min_p: sample from tokens with at least this fraction of the largest probability, or None.
        annealed: lower the temperature linearly over the steps of a row: in step ``i`` of ``S`` it is
            ``temperature * (S - 1 - i) / S``, so that the last tokens are greedy (MaskGIT).

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
                f"temperature={self.temperature} is not a finite number of at least 0: give 0 (greedy), 1 (the model's distribution) or more."
            )
        if self.top_k is not None and self.top_p is not None:
            raise ValueError(
                f"top_k={self.top_k} and top_p={self.top_p} were both given, and each decides which tokens may be sampled. "
                "Choose one and leave the other None."
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k={self.top_k} leaves no token to sample: give 1 or more, or None for all.")
        if self.min_p is not None and not 0.0 < self.min_p <= 1.0:
            raise ValueError(
                f"min_p={self.min_p} is a fraction of the largest probability: give a number in (0, 1], or None."
            )
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p={self.top_p} is not a probability: give a number in (0, 1], such as 0.9, or None.")

    def fractions(self, view: StepView, where: Bool[Tensor, "rows seq"]) -> Float[Tensor, " scored"] | None:
        """Return the annealed fraction of the temperature at each position of ``where``; None if it is constant."""
        if not self.annealed or view.fraction_left is None:
            return None
        return view.fraction_left[where.nonzero()[:, 0]]

    def draw(
        self, logits: Logits, uniforms: Float[Tensor, " scored"], fractions: Float[Tensor, " scored"] | None = None
    ) -> Int[Tensor, " scored"]:
        """Sample one id per position.

        Args:
            logits: ``[N, V]``.
            uniforms: float64 ``[N]`` in (0, 1).
            fractions: ``[N]``, of the temperature (:meth:`fractions`); None = 1.
        """
        if self.temperature == 0 or (fractions is not None and not bool(fractions.any())):
            return likeliest(logits)
        if fractions is not None:
            heat = self.temperature * fractions.masked_fill(fractions == 0, 1.0)
            drawn = self._draw(logits / heat.to(logits.dtype)[:, None], uniforms)
            return torch.where(fractions > 0, drawn, likeliest(logits))
        return self._draw(logits / self.temperature if self.temperature != 1 else logits, uniforms)

    def _draw(self, logits: Logits, uniforms: Float[Tensor, " scored"]) -> Int[Tensor, " scored"]:
        if self.top_k is not None:
            logits = keep_top_k(logits, self.top_k)
        if self.top_p is not None:
            logits = keep_top_p(logits, self.top_p)
        if self.min_p is not None:
            logits = keep_min_p(logits, self.min_p)
        return draw(logits, uniforms)
