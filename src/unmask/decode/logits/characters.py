"""``WholeCharacters``: no filling contains part of a UTF-8 character, for tokenizers with byte tokens.

The ids allowed at a masked position depend on the masked positions and the partial characters next to it:

    next to whole tokens only     a table by the number of masked positions before and after (3 = more), for all rows at once
    next to a partial character   the states of UTF-8 are followed through the row

Shapes: logits ``[N, V]`` over a mask ``where [b, L]``, row-major; ``P`` partial characters in ``C`` classes (``unmask.decode.logits.utf8``).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from unmask.data.tokenizing.token_bytes import parts_of_characters
from unmask.decode.logits.sampler import Tokens
from unmask.decode.logits.utf8 import ONLY_BETWEEN, Utf8
from unmask.decode.reads import Reads
from unmask.decode.view import StepView
from unmask.ops.confidence import LogProbs
from unmask.ops.sampling import Logits

_FAR = 3  # masked positions next to a token that matter: a character has at most four bytes


@dataclass(frozen=True, eq=False)
class WholeCharacters:
    """Fillings consist of whole characters, including characters of several tokens.

    Attributes:
        utf8: the automaton of the tokenizer's tokens.
        parts, classes: int64 ``[P]``, the ids of partial characters, ascending, and the class of each.
        table: bool ``[4, 4, C]``, the allowed classes by the number of masked positions before and after.
    """

    utf8: Utf8
    parts: Int[Tensor, " parts"]
    classes: Int[Tensor, " parts"]
    table: Bool[Tensor, "before behind classes"]
    reads: ClassVar[Reads] = Reads.NOTHING

    @classmethod
    def of(cls, tokenizer: object) -> WholeCharacters | None:
        """Return the constraint of a tokenizer; None if every token is whole characters."""
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
        """Set the logits of partial characters that no filling completes to ``-inf``, in place."""
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
            for row, columns in _flat_index(where, followed).items():
                ids = _row(view, row)
                states, ends = ONLY_BETWEEN, self.utf8.ends(ids)
                for column, id in enumerate(ids):
                    if column in columns:
                        alike[states, ends[column]].append(columns[column])
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
        """Sample all positions at once; resample rows with a partial character sequentially."""
        fractions = tokens.fractions(view, where)
        drawn = tokens.draw(log_probs, uniforms, fractions)
        part = self._are_parts(drawn)
        if not bool(part.any()):
            return drawn
        class_of = self._class_of_each(log_probs)
        again = torch.zeros(len(view.rows), dtype=torch.bool, device=where.device)
        again[where.nonzero()[part, 0]] = True
        for row, columns in _flat_index(where, again).items():
            ids = _row(view, row)
            states, ends = ONLY_BETWEEN, self.utf8.ends(ids)
            for column, id in enumerate(ids):
                if column in columns:
                    one = slice(columns[column], columns[column] + 1)
                    open_to = log_probs[one].masked_fill(self._forbidden(states, ends[column], class_of), -torch.inf)
                    if bool((open_to > -torch.inf).any()):
                        drawn[one] = tokens.draw(open_to, uniforms[one], None if fractions is None else fractions[one])
                    id = int(drawn[one])
                states = self.utf8.step(states, id)
        return drawn

    @cached_property
    def _forbidden_parts(self) -> Bool[Tensor, "contexts parts"]:
        """The forbidden partial characters by masked positions before and after; the last row forbids none."""
        rows = ~self.table[:, :, self.classes].flatten(0, 1)
        return torch.cat([rows, torch.zeros_like(rows[:1])])

    @cached_property
    def _marks(self) -> Bool[Tensor, " ids"]:
        """True at the ids of partial characters; the last entry is for all larger ids."""
        marks = torch.zeros(int(self.parts.max()) + 2, dtype=torch.bool)
        marks[self.parts] = True
        return marks

    def _are_parts(self, ids: Tensor) -> Tensor:
        """Return which of ``ids`` are partial characters, by table lookup, since every step needs it."""
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
    """Return the ids of a row, -1 at masked positions and 2**62 (a whole character) at padding."""
    ids = view.ids[row].masked_fill(~view.canvas.attention_mask[row], 2**62)
    return ids.masked_fill(view.blanks[row], -1).tolist()


def _flat_index(where: Bool[Tensor, "rows seq"], rows: Bool[Tensor, " rows"]) -> dict[int, dict[int, int]]:
    """For each True of ``rows``: the columns of ``where``, and the index of each in row-major order."""
    index: dict[int, dict[int, int]] = defaultdict(dict)
    included = rows.tolist()
    for number, (row, column) in enumerate(where.nonzero().tolist()):
        if included[row]:
            index[row][column] = number
    return index


def _blanks_beside(blanks: Bool[Tensor, "rows seq"]) -> tuple[Int[Tensor, "rows seq"], Int[Tensor, "rows seq"]]:
    """Return the number of masked positions directly before and after each position, 3 at most."""
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
