"""No half of a character is placed: a constraint for tokenizers some of whose tokens are parts of characters.

What may stand at a blank depends on the blanks and the parts of characters right beside it:

    beside whole tokens only   a table by the number of blanks before and behind (three stands for more), for all rows at once
    beside a part              the states of UTF-8 are followed through the row

Shapes: logits ``[N, V]`` over a mask ``where [b, L]``, row-major; ``P`` parts of characters in ``C`` classes (``unmask.decode.utf8``).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.data.token_bytes import parts_of_characters
from unmask.decode.tokens import Tokens
from unmask.decode.utf8 import ONLY_BETWEEN, Utf8
from unmask.decode.view import StepView
from unmask.ops.confidence import LogProbs
from unmask.ops.sampling import Logits

_FAR = 3  # blanks beside a position that count: no character has more than four bytes


@dataclass(frozen=True, eq=False)
class WholeCharacters:
    """Fillings are whole characters, also where one character takes several tokens.

    Attributes:
        utf8: the automaton of the tokenizer's tokens.
        parts, classes: int64 ``[P]``, the ids that are parts of characters, and the class of each.
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
        blanks = view.blanks
        known = self.parts < logits.shape[-1]
        parts, classes = self.parts[known].to(logits.device), self.classes[known].to(logits.device)
        beside = (blanks.roll(1, -1) | blanks.roll(-1, -1)) & ~blanks & view.canvas.attention_mask
        followed = (beside & torch.isin(view.ids, parts)).any(-1)
        before, behind = _blanks_before(blanks), _blanks_before(blanks.flip(-1)).flip(-1)
        forbidden = ~self.table.to(logits.device)[before[where], behind[where]][:, classes] & ~followed[where.nonzero()[:, 0], None]
        logits[:, parts] = logits[:, parts].masked_fill(forbidden, -torch.inf)
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
        self, tokens: Tokens, log_probs: LogProbs, uniforms: Float[Tensor, " scored"], view: StepView, where: Bool[Tensor, "rows seq"]
    ) -> Int[Tensor, " scored"]:
        """Draw everywhere at once; a row for which parts of characters were drawn is drawn again, one token after another."""
        shares = tokens.shares(view, where)
        drawn = tokens.draw(log_probs, uniforms, shares)
        part = torch.isin(drawn, self.parts.to(drawn.device))
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


def _blanks_before(blanks: Bool[Tensor, "rows seq"]) -> Int[Tensor, "rows seq"]:
    """How many blanks stand directly before each position; three stands for more."""
    count, near = torch.zeros_like(blanks, dtype=torch.int64), torch.ones_like(blanks)
    for distance in range(1, _FAR + 1):
        moved = torch.zeros_like(blanks)
        moved[:, distance:] = blanks[:, :-distance]
        near = near & moved
        count += near
    return count
