"""Everything a decode is asked to do, as one frozen value.

Each field is an axis of its own; any score goes with any budget, any way of drawing and any forward.
"""

from __future__ import annotations

from dataclasses import dataclass

from unmask.decode.adjust import Adjustment
from unmask.decode.budget import Budget, EvenBudget
from unmask.decode.forward import Forward, PlainForward
from unmask.decode.selectors import Selector
from unmask.decode.tokens import Tokens


@dataclass(frozen=True)
class Rules:
    """How to decode.

    Attributes:
        max_steps: network evaluations a row may take part in, at most.
        selector: which blanks are revealed.
        budget: how many at each step.
        tokens: which token is put there.
        adjustments: changes of the logits, in order, before they are scored.
        forward: how the network is asked.
        allow_eos: whether EOS may be placed (after all given text only).

    Raises:
        ValueError: ``max_steps`` below 1.
    """

    max_steps: int
    selector: Selector = Selector()
    budget: Budget = EvenBudget()
    tokens: Tokens = Tokens()
    adjustments: tuple[Adjustment, ...] = ()
    forward: Forward = PlainForward()
    allow_eos: bool = True

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise ValueError(f"max_steps={self.max_steps} leaves no network evaluation to decode with: give 1 or more.")
