"""``Alternatives``: the likeliest tokens of every masked position, in the first step in which it was a candidate.

It costs no forward pass. Without blocks, that step is the first one, with the text as given.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from unmask.contracts import MLMStepResults


@dataclass
class Alternatives:
    """An observer that keeps the ``k`` likeliest tokens of every masked position; fewer if fewer are allowed.

    Attributes:
        k: tokens per position.
        found: (row of the batch, position) -> ids and their probabilities, the likeliest first.
    """

    k: int = 5
    found: dict[tuple[int, int], tuple[list[int], list[float]]] = field(default_factory=dict)
    wants_all_logits: bool = field(default=True, init=False)

    def update_history(self, step_results: MLMStepResults) -> None:
        """Record positions that were not recorded before; later steps have a different context."""
        rows, positions = step_results["scored"].nonzero(as_tuple=True)
        places = list(zip(step_results["rows"][rows].tolist(), positions.tolist(), strict=True))
        new = [n for n, place in enumerate(places) if place not in self.found]
        if not new:
            return
        log_probs = step_results["log_probs"][new]
        best = log_probs.topk(min(self.k, log_probs.shape[-1]), dim=-1)
        for n, ids, odds in zip(new, best.indices.tolist(), best.values.exp().tolist(), strict=True):
            possible = sum(p > 0 for p in odds)  # forbidden ids have probability 0, and come last
            self.found[places[n]] = (ids[:possible], odds[:possible])
