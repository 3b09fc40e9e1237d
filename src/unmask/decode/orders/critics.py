"""Critic networks: the probability of each sampled token given all others.

    hidden   mask each rated token in turn and read its probability there. Valid for any masked language model; one row of
             computation per rated token
    shown    read all tokens' probabilities in one forward pass with nothing masked: one row. Only meaningful for a network whose
             loss covered visible tokens (BERT's random and kept tokens), not after masked diffusion

The critic may be the decoding network, or another one with the same ids. A row that unmasks all its candidates in this step is not
rated, since no choice is left.

Shapes: ratings ``[b, L]`` in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.contracts import MLMModel, SpecialIds
from unmask.decode.forwards.plain import PlainForward
from unmask.decode.logits.processors import AllowedIds, ForbiddenIds, as_logits
from unmask.decode.orders.scores import Draft
from unmask.decode.reach import reached
from unmask.decode.view import StepView, spread
from unmask.nn.modes import eval_mode

WAYS = ("hidden", "shown")
_CHUNK_TOKENS = 1 << 14  # tokens per forward pass


@dataclass(frozen=True, eq=False)
class NetworkCritic:
    """The tokens that a network finds likeliest first. With ``MaskPredict``, unlikely earlier tokens are masked again.

    Each step but a row's last runs the critic once, in addition to the decoding network. Both count as forward passes.

    Attributes:
        model: the critic network.
        special: special ids; probabilities are normalised over the others.
        way: ``"hidden"`` or ``"shown"``.
        judges_revealed: True rates tokens of earlier steps too.
        allow_eos: True includes EOS in the normalisation (only where no given token follows).
        forbidden: further ids that are never placed, excluded from the normalisation.

    Raises:
        ValueError: another way.
    """

    model: MLMModel
    special: SpecialIds
    way: str = "hidden"
    judges_revealed: bool = False
    allow_eos: bool = True
    forbidden: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise ValueError(f"There is no critic {self.way!r}. Choose one of {', '.join(WAYS)}.")

    def critic_tokens(self, view: StepView) -> Int[Tensor, " rows"]:
        """Return the number of tokens per row that the critic's network processes."""
        length = view.canvas.attention_mask.sum(-1)
        judged = self._judged(view).sum(-1)
        return judged * length if self.way == "hidden" else length * (judged > 0)

    def judge(self, view: StepView, draft: Draft) -> Float[Tensor, "rows seq"]:
        """Return the ratings; in rows that are not rated, the probabilities of the draft."""
        where = self._judged(view)
        row, column = where.nonzero(as_tuple=True)
        if not len(row):
            return draft.probability.double()
        drawn = draft.ids[where]
        shown = replace(view, ids=draft.ids)
        with eval_mode(self.model):
            if self.way == "shown":
                rows = where.any(-1).nonzero()[:, 0]
                rating = self._probability(shown.take(rows), where[rows], drawn)
            else:
                size = max(1, _CHUNK_TOKENS // where.shape[1])
                chunks = zip(*(torch.split(part, size) for part in (row, column, drawn)), strict=True)
                rating = torch.cat([self._masked_probability(shown, *chunk) for chunk in chunks])
        return torch.where(where, spread(rating.double(), where, 0.0), draft.probability.double())

    def _judged(self, view: StepView) -> Bool[Tensor, "rows seq"]:
        has_choice = view.candidates.sum(-1) > view.target_count - view.revealed.sum(-1)
        return (view.candidates | (view.revealed & self.judges_revealed)) & has_choice[:, None]

    def _masked_probability(
        self,
        view: StepView,
        row: Int[Tensor, " judged"],
        column: Int[Tensor, " judged"],
        tokens: Int[Tensor, " judged"],
    ) -> Float[Tensor, " judged"]:
        """Return the probability of each token with only that token masked, one row per token."""
        rows = view.take(row)
        masked = replace(rows, ids=rows.ids.scatter(1, column[:, None], self.special.mask))
        return self._probability(
            masked, torch.arange(view.ids.shape[1], device=column.device) == column[:, None], tokens
        )

    def _probability(
        self, view: StepView, where: Bool[Tensor, "rows seq"], tokens: Int[Tensor, " judged"]
    ) -> Float[Tensor, " judged"]:
        """Return the probability of ``tokens`` at ``where``, over the allowed ids."""
        model = reached(self.model, view.ids.device)
        logits = AllowedIds(self.special, self.allow_eos)(as_logits(PlainForward()(model, view, where)), view, where)
        if self.forbidden:
            logits = ForbiddenIds(self.forbidden)(logits, view, where)
        return logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0].exp()
