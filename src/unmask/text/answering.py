"""One text decoded as steps: what a service runs for a request, alone or beside others.

:func:`answer_steps` is a generator of forward requests (``unmask.decode.loop``). It returns the tokens that ``TrainedModel.fill`` and ``generate``
return for the same text, options and seed.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unmask.contracts import SpecialIds
from unmask.data.prompts import Prompt, added_text
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.decode.canvas import Canvas
from unmask.decode.forward_request import ForwardRequest
from unmask.decode.loop import decode_steps
from unmask.text.blanks import Range, TypedText, at_lengths
from unmask.text.filling import RulesFor
from unmask.text.generating import PlacedProbabilities
from unmask.text.length_search import LengthSearch, search_steps
from unmask.text.patterns import fitted, with_codes


@dataclass(frozen=True)
class TextTask:
    """A text to decode.

    Attributes:
        prompt: the text, with one mask for each blank.
        ranges: smallest and largest number of tokens of each blank.
        appended: masked tokens after the text.
    """

    prompt: Prompt
    ranges: tuple[Range, ...]
    appended: int = 0

    @classmethod
    def of_text(cls, tokenizer: Tokenizer, text: str, appended: int = 0) -> TextTask:
        """Read a text with blanks as they are typed (``unmask.text.blanks``).

        Raises:
            ValueError: a malformed blank, or a blank of unknown length in a text to continue.
        """
        typed = TypedText.of(tokenizer, text)
        if appended and typed.is_open:
            raise ValueError(
                "A blank whose length the model chooses needs a text that ends: give the blank one length, or no new tokens."
            )
        return cls(typed.prompt, typed.ranges, appended)

    @classmethod
    def of_ids(cls, tokenizer: Tokenizer, ids: Sequence[int | None], appended: int = 0) -> TextTask:
        """Read a row of ids; None or the id of the mask = masked. Adjacent masked tokens are one blank.

        Raises:
            ValueError: an id outside the vocabulary, or a tokenizer without a mask token.
        """
        mask = tokenizer.mask_token_id
        if mask is None:
            raise ValueError("This tokenizer has no mask token, so nothing can be masked.")
        if unknown := [id for id in ids if id is not None and not 0 <= id < len(tokenizer)]:
            raise ValueError(
                f"There is no token {unknown[0]}: the ids of this model run from 0 to {len(tokenizer) - 1}."
            )
        pieces: list[list[int]] = [[]]
        runs: list[int] = []
        masked_before = False
        for id in ids:
            masked = id is None or id == mask
            if masked and masked_before:
                runs[-1] += 1
            elif masked:
                runs.append(1)
                pieces.append([])
            else:
                assert id is not None
                pieces[-1].append(id)
            masked_before = masked
        given = tuple((tokenizer.decode_behind if n else tokenizer.decode)(piece) for n, piece in enumerate(pieces))
        row = [*pieces[0], *(id for piece in pieces[1:] for id in (mask, *piece))]
        return cls(Prompt(tokenizer, given, row), tuple((run, run) for run in runs), appended)

    @classmethod
    def continuing(cls, tokenizer: Tokenizer, text: str, tokens: int) -> TextTask:
        """Return the task of ``tokens`` new tokens after a text, in which a mask token is text."""
        return cls(Prompt(tokenizer, (text,), tokenizer.encode(text)), (), tokens)

    @classmethod
    def between(cls, tokenizer: Tokenizer, before: str, after: str, tokens: int) -> TextTask:
        """Return the task of ``tokens`` new tokens between two texts, in which a mask token is text."""
        return cls(Prompt.between(tokenizer, before, after), ((tokens, tokens),))

    @property
    def is_open(self) -> bool:
        """True if the model chooses the length of a blank."""
        return any(low != high for low, high in self.ranges)

    @property
    def masked(self) -> int:
        """Largest number of masked tokens."""
        return sum(high for _, high in self.ranges) + self.appended

    @property
    def longest(self) -> int:
        """Largest number of tokens of the row."""
        return len(self.prompt.ids) - len(self.ranges) + self.masked

    @property
    def rows(self) -> int:
        """Number of rows that are decoded: one, or one for each length that is tried."""
        if not self.is_open:
            return 1
        return 1 + max(high for _, high in self.ranges) + sum(high - low + 1 for low, high in self.ranges)


@dataclass(frozen=True)
class Fill:
    """The tokens of one blank.

    Attributes:
        text: the text that they add.
        ids: their ids.
        probability: geometric mean of the probabilities of the tokens when they were placed.
    """

    text: str
    ids: list[int]
    probability: float


@dataclass(frozen=True)
class TextAnswer:
    """A decoded text.

    Attributes:
        text: the text with its blanks filled.
        fills: one for each blank, and one for the continuation.
        ids: the ids of the row.
        given: True = not masked at the start.
        passes: forward passes of the row, those of the search of lengths included.
    """

    text: str
    fills: list[Fill]
    ids: list[int]
    given: list[bool]
    passes: int


def answer_steps(
    task: TextTask,
    rules_for: RulesFor,
    device: torch.device,
    *,
    seed: int = 0,
    observers: Sequence[Any] = (),
    share: bool = False,
) -> Generator[ForwardRequest, Tensor, TextAnswer]:
    """Decode a text, one forward request after the other. If the model chooses lengths, the best ones are decoded again, with observers.

    Args:
        task: the text.
        rules_for: decoding rules for a number of blanks.
        device: device of the network.
        seed: random seed of the samples.
        observers: called after every step.
        share: True lets a batch merge the steps with those of other decodes.
    """
    prompt, tokenizer = task.prompt, task.prompt.tokenizer
    special = SpecialIds.of(tokenizer)
    rules = rules_for(max(1, task.masked))
    lengths, key, passes = tuple(low for low, _ in task.ranges), 0, 0
    if task.is_open:
        search, spent = LengthSearch(prompt, rules, 1, task.ranges), list[int]()
        yield from search_steps(
            tokenizer, [search], rules, device, seed=seed, count=lambda tokens, count, seconds: spent.append(count)
        )
        lengths, passes = search.best, sum(spent)
        key, start = search.key(lengths), (len(search.pieces[0]), search.code)
        prompt = at_lengths(prompt, lengths)
        rules = with_codes(rules, [start], len(prompt.ids))
    else:
        prompt = at_lengths(prompt, lengths)
        rules = fitted(rules, tokenizer, [prompt.given], [prompt.ids], task.appended)
    row = [*prompt.ids, *[special.mask] * task.appended]
    ids = torch.tensor([row], device=device).view(1, -1)
    real = torch.ones_like(ids, dtype=torch.bool)
    canvas = Canvas.infill(ids, special, real, row_ids=torch.tensor([key], device=device))
    blanks = canvas.blanks(special.mask)[0].tolist()
    placed = PlacedProbabilities()
    decoded = yield from decode_steps(canvas, rules, special, seed, [placed, *observers], share)
    filled: list[int] = decoded.ids[0].tolist()
    odds = [placed.probabilities.get((0, n), 1.0) for n in range(len(filled))]
    return TextAnswer(
        prompt.filled(filled),
        _fills(task, prompt, lengths, filled, odds),
        filled,
        [not blank for blank in blanks],
        passes + int(decoded.steps_taken[0]),
    )


def _fills(task: TextTask, prompt: Prompt, lengths: tuple[int, ...], row: list[int], odds: list[float]) -> list[Fill]:
    """Return the tokens of each blank, and of the continuation."""
    tokenizer, masks, fills = prompt.tokenizer, prompt.blanks, list[Fill]()
    text, taken = task.prompt.given[0], 0
    places = []
    for length in lengths:
        places.append(masks[taken : taken + length])
        taken += length
    if task.appended:
        places.append(list(range(len(row) - task.appended, len(row))))
    for number, columns in enumerate(places):
        ids = [row[column] for column in columns]
        logs = [math.log(max(odds[column], 1e-45)) for column in columns]
        fills.append(Fill(added_text(tokenizer, text, ids), ids, round(math.exp(sum(logs) / max(len(logs), 1)), 6)))
        following = task.prompt.given[number + 1] if number + 1 < len(task.prompt.given) else ""
        text += fills[-1].text + following
    return fills
