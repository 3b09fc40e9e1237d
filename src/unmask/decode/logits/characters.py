"""No half of a character is placed: a constraint for tokenizers some of whose tokens are parts of characters.

What may stand at a blank depends on the blanks and the parts of characters right beside it:

    beside whole tokens only   a table by the number of blanks before and behind (three stands for more), for all rows at once
    beside a part              the states of UTF-8 are followed through the row

Shapes: logits ``[N, V]`` over a mask ``where [b, L]``, row-major; ``P`` parts of characters in ``C`` classes (``unmask.decode.logits.utf8``).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from unmask.data.tokenizing.token_bytes import parts_of_characters
from unmask.decode.logits.sampler import Tokens
from unmask.decode.logits.utf8 import ONLY_BETWEEN, Utf8
from unmask.decode.view import StepView
from unmask.ops.confidence import LogProbs
from unmask.ops.sampling import Logits

_FAR = 3  # blanks beside a position that count: no character has more than four bytes


@dataclass(frozen=True, eq=False)
class WholeCharacters:
    """Fillings are whole characters, also where one character takes several tokens.

    Attributes:
        utf8: the automaton of the tokenizer's tokens.
        parts, classes: int64 ``[P]``, the ids that are parts of characters, ascending, and the class of each.
        table: bool ``[4, 4, C]``, the classes allowed by the number of blanks before and behind.
    """

    utf8: Utf8
    parts: Int[Tensor, " parts"]
    classes: Int[Tensor, " parts"]
    table: Bool[Tensor, "before behind classes"]
    reads_probabilities: ClassVar[bool] = False

    @classmethod
    def of(cls, tokenizer: Any) -> WholeCharacters | None:
        """The constraint of a tokenizer; None where every token is whole characters."""
        parts = parts_of_characters(tokenizer)
        if not parts:
            return None
        utf8 = Utf8.of(parts)
        starts, ends = [ONLY_BETWEEN], [ONLY_BETWEEN]
        for _ in range(_FAR):
            starts.append(utf8.after_any[starts[-1]])
            ends.append(utf8.before_any[ends[-1]])
        table = torch.tensor([[utf8.allowed(start, end) for end in ends] for start in starts])
        return cls(utf8, torch.tensor(list(utf8.class_of)), torch.tensor(list(utf8.class_of.values())), table)

    def restrict(self, logits: Logits, view: StepView, where: Bool[Tensor, "rows seq"]) -> Logits:
        """Set to ``-inf``, in place, the parts of characters that no filling around them completes."""
        before, behind = _blanks_beside(view.blanks)
        beside = ((before > 0) | (behind > 0)) & ~view.blanks & view.canvas.attention_mask
        followed = (beside & self._are_parts(view.ids)).any(-1)
        known = (
            len(self.parts) if logits.shape[-1] > int(self.parts[-1]) else int((self.parts < logits.shape[-1]).sum())
        )
        parts, forbidden = self.parts[:known].to(logits.device), self._forbidden_parts[:, :known].to(logits.device)
        context = ((_FAR + 1) * before + behind).masked_fill(followed[:, None], len(forbidden) - 1)
        here = logits.index_select(1, parts).masked_fill_(forbidden.index_select(0, context[where]), -torch.inf)
        logits.index_copy_(1, parts, here)
        if bool(followed.any()):
            class_of = self._class_of_each(logits)
            alike = defaultdict(list)
            for row, places in _places(where, followed).items():
                ids = _row(view, row)
                states, ends = ONLY_BETWEEN, self.utf8.ends(ids)
                for column, id in enumerate(ids):
                    if column in places:
                        alike[states, ends[column]].append(places[column])
                    states = self.utf8.step(states, id)
            for (start, end), numbers in alike.items():
                logits[numbers] = logits[numbers].masked_fill(self._forbidden(start, end, class_of), -torch.inf)
        return logits

    def draw(
        self,
        tokens: Tokens,
        log_probs: LogProbs,
        uniforms: Float[Tensor, " scored"],
        view: StepView,
        where: Bool[Tensor, "rows seq"],
    ) -> Int[Tensor, " scored"]:
        """Draw everywhere at once; a row for which parts of characters were drawn is drawn again, one token after another."""
        shares = tokens.shares(view, where)
        drawn = tokens.draw(log_probs, uniforms, shares)
        part = self._are_parts(drawn)
        if not bool(part.any()):
            return drawn
        class_of = self._class_of_each(log_probs)
        again = torch.zeros(len(view.rows), dtype=torch.bool, device=where.device)
        again[where.nonzero()[part, 0]] = True
        for row, places in _places(where, again).items():
            ids = _row(view, row)
            states, ends = ONLY_BETWEEN, self.utf8.ends(ids)
            for column, id in enumerate(ids):
                if column in places:
                    one = slice(places[column], places[column] + 1)
                    open_to = log_probs[one].masked_fill(self._forbidden(states, ends[column], class_of), -torch.inf)
                    if bool((open_to > -torch.inf).any()):
                        drawn[one] = tokens.draw(open_to, uniforms[one], None if shares is None else shares[one])
                    id = int(drawn[one])
                states = self.utf8.step(states, id)
        return drawn

    @cached_property
    def _forbidden_parts(self) -> Bool[Tensor, "contexts parts"]:
        """Where each part is forbidden, by blanks before and behind; the last row forbids none."""
        rows = ~self.table[:, :, self.classes].flatten(0, 1)
        return torch.cat([rows, torch.zeros_like(rows[:1])])

    @cached_property
    def _marks(self) -> Bool[Tensor, " ids"]:
        """True at the ids of parts; the last entry stands for every larger id."""
        marks = torch.zeros(int(self.parts.max()) + 2, dtype=torch.bool)
        marks[self.parts] = True
        return marks

    def _are_parts(self, ids: Tensor) -> Tensor:
        """Which of ``ids`` are parts of characters; a look-up, as every step asks."""
        marks = self._marks.to(ids.device)
        return marks[ids.clamp(max=len(marks) - 1)]

    def _class_of_each(self, logits: Logits) -> Int[Tensor, " vocab"]:
        classes = torch.zeros(logits.shape[-1], dtype=torch.int64)
        known = self.parts < len(classes)
        classes[self.parts[known]] = self.classes[known]
        return classes.to(logits.device)

    def _forbidden(self, start: int, end: int, class_of: Int[Tensor, " vocab"]) -> Bool[Tensor, " vocab"]:
        return ~torch.tensor(self.utf8.allowed(start, end), device=class_of.device)[class_of]


def _row(view: StepView, row: int) -> list[int]:
    """The ids of a row, -1 at blanks. Padding is no part of a character."""
    ids = view.ids[row].masked_fill(~view.canvas.attention_mask[row], 2**62)
    return ids.masked_fill(view.blanks[row], -1).tolist()


def _places(where: Bool[Tensor, "rows seq"], rows: Bool[Tensor, " rows"]) -> dict[int, dict[int, int]]:
    """For each of ``rows``, its columns in ``where`` and the number of each among all of them."""
    found: dict[int, dict[int, int]] = defaultdict(dict)
    chosen = rows.tolist()
    for number, (row, column) in enumerate(where.nonzero().tolist()):
        if chosen[row]:
            found[row][column] = number
    return found


def _blanks_beside(blanks: Bool[Tensor, "rows seq"]) -> tuple[Int[Tensor, "rows seq"], Int[Tensor, "rows seq"]]:
    """How many blanks stand directly before and behind each position; three stands for more."""
    length, wide = blanks.shape[1], pad(blanks, (_FAR, _FAR))
    counts = []
    for step in (-1, 1):
        near = wide[:, _FAR + step : _FAR + step + length]
        count = near.to(torch.int64)
        for distance in range(2, _FAR + 1):
            near = near & wide[:, _FAR + step * distance : _FAR + step * distance + length]
            count = count + near
        counts.append(count)
    return counts[0], counts[1]
