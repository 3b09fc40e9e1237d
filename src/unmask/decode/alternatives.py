"""What else a blank could be: the likeliest tokens of every blank, as the text was given.

An observer of the first step, so it costs no evaluation of its own. Shapes: ``[N, k]`` over the blanks, row-major.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.contracts import MLMStepResults


@dataclass
class Alternatives:
    """The ``k`` likeliest tokens of every blank before any is filled.

    Attributes:
        k: how many to keep.
        places: int64 ``[N, 2]``, row of the batch and position of each blank.
        tokens, probabilities: ``[N, k]``, the likeliest first.
    """

    k: int = 5
    every_candidate: bool = True

    def update_history(self, step_results: MLMStepResults) -> None:
        """Keep the first step; later ones have seen what was filled."""
        if step_results["step"]:
            return
        rows, positions = step_results["scored"].nonzero(as_tuple=True)
        self.places: Int[Tensor, "blanks 2"] = torch.stack([step_results["rows"][rows], positions], dim=1)
        best = step_results["log_probs"].topk(min(self.k, step_results["log_probs"].shape[-1]), dim=-1)
        self.tokens: Int[Tensor, "blanks k"] = best.indices
        self.probabilities: Float[Tensor, "blanks k"] = best.values.exp()
