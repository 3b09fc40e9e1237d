"""Critics that are networks: how likely is each drawn token, given all the others?

    hidden   each judged token is hidden in turn, all others shown: its probability there. Right for any masked language model, and
             one row of work for every token that is judged
    shown    everything is shown at once, and each token's probability is read at its own place: one row. A network says something
             there only if its loss scored visible tokens too (BERT's random and kept ones); after masked diffusion it does not

The critic may be the network that decodes, or another one with the same ids. A row that places all its candidates in this step is not
judged, for nothing would come of it.

Shapes: beliefs ``[b, L]`` in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.contracts import SpecialIds
from unmask.decode.forwards.plain import PlainForward
from unmask.decode.logits.processors import AllowedIds, ForbiddenIds, as_logits
from unmask.decode.orders.scores import Draft
from unmask.decode.reach import reached
from unmask.decode.view import StepView, spread
from unmask.nn.modes import eval_mode

WAYS = ("hidden", "shown")
_TOGETHER = 1 << 14  # tokens that are run together


@dataclass(frozen=True, eq=False)
class NetworkCritic:
    """The drawn tokens first that a network believes. With ``KeepSurest`` it also hides what it no longer believes.

    Each step asks the critic once more beside the network that draws; both count as evaluations.

    Attributes:
        model: the network that judges.
        special: ids that are no text; probabilities are among the others.
        way: ``"hidden"`` or ``"shown"``.
        judges_revealed: whether tokens revealed before are judged too.
        allow_eos: whether EOS is among the ids that a probability is shared out to (where nothing given follows).
        forbidden: further ids that are never placed; a probability is shared out among the others.

    Raises:
        ValueError: another way.
    """

    model: Any
    special: SpecialIds
    way: str = "hidden"
    judges_revealed: bool = False
    allow_eos: bool = True
    forbidden: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise ValueError(f"There is no critic {self.way!r}. Choose one of {', '.join(WAYS)}.")

    def asks(self, view: StepView) -> Int[Tensor, " rows"]:
        """How many tokens of each row judging runs."""
        length = view.canvas.attention_mask.sum(-1)
        judged = self._judged(view).sum(-1)
        return judged * length if self.way == "hidden" else length * (judged > 0)

    def judge(self, view: StepView, draft: Draft) -> Float[Tensor, "rows seq"]:
        """The beliefs; in rows that are not judged, the probabilities of the draft."""
        where = self._judged(view)
        row, column = where.nonzero(as_tuple=True)
        if not len(row):
            return draft.probability.double()
        drawn = draft.ids[where]
        shown = replace(view, ids=draft.ids)
        with eval_mode(self.model):
            if self.way == "shown":
                rows = where.any(-1).nonzero()[:, 0]
                believed = self._odds(shown.take(rows), where[rows], drawn)
            else:
                pieces = zip(
                    *(part.split(max(1, _TOGETHER // where.shape[1])) for part in (row, column, drawn)), strict=True
                )
                believed = torch.cat([self._hidden_odds(shown, *piece) for piece in pieces])
        return torch.where(where, spread(believed.double(), where, 0.0), draft.probability.double())

    def _judged(self, view: StepView) -> Bool[Tensor, "rows seq"]:
        chosen_among = view.candidates.sum(-1) > view.target_count - view.revealed.sum(-1)
        return (view.candidates | (view.revealed & self.judges_revealed)) & chosen_among[:, None]

    def _hidden_odds(
        self,
        view: StepView,
        row: Int[Tensor, " judged"],
        column: Int[Tensor, " judged"],
        tokens: Int[Tensor, " judged"],
    ) -> Float[Tensor, " judged"]:
        """The probability of each token with it alone hidden: a row of its own for every one."""
        rows = view.take(row)
        hidden = replace(rows, ids=rows.ids.scatter(1, column[:, None], self.special.mask))
        return self._odds(hidden, torch.arange(view.ids.shape[1], device=column.device) == column[:, None], tokens)

    def _odds(
        self, view: StepView, where: Bool[Tensor, "rows seq"], tokens: Int[Tensor, " judged"]
    ) -> Float[Tensor, " judged"]:
        """The probability of ``tokens`` at ``where``, among the ids that are text."""
        model = reached(self.model, view.ids.device)
        logits = AllowedIds(self.special, self.allow_eos)(as_logits(PlainForward()(model, view, where)), view, where)
        if self.forbidden:
            logits = ForbiddenIds(self.forbidden)(logits, view, where)
        return logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0].exp()
