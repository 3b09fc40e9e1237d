"""What else a blank could be: the likeliest tokens of every blank, when it first might have been filled.

An observer, so it costs no evaluation of its own. Without blocks that is the first step: the text as it was given.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from unmask.contracts import MLMStepResults


@dataclass
class Alternatives:
    """The ``k`` likeliest tokens of every blank; fewer where fewer are possible.

    Attributes:
        k: how many to keep.
        found: (row of the batch, position) -> ids and their probabilities, the likeliest first.
    """

    k: int = 5
    found: dict[tuple[int, int], tuple[list[int], list[float]]] = field(default_factory=dict)
    wants_all_logits: bool = field(default=True, init=False)

    def update_history(self, step_results: MLMStepResults) -> None:
        """Keep what is new; of a blank seen before, the context has changed since."""
        rows, positions = step_results["scored"].nonzero(as_tuple=True)
        places = list(zip(step_results["rows"][rows].tolist(), positions.tolist(), strict=True))
        new = [n for n, place in enumerate(places) if place not in self.found]
        if not new:
            return
        log_probs = step_results["log_probs"][new]
        best = log_probs.topk(min(self.k, log_probs.shape[-1]), dim=-1)
        for n, ids, odds in zip(new, best.indices.tolist(), best.values.exp().tolist(), strict=True):
            possible = sum(p > 0 for p in odds)  # what may not be placed has no probability, and comes last
            self.found[places[n]] = (ids[:possible], odds[:possible])
