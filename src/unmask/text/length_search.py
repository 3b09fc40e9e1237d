"""Blanks of unknown length: search their lengths, all rows of a batch together.

One blank is decoded at every length. Several blanks are searched in turn: first all at one length (1, 2, 4, …), then each
blank at every length, the others at their best so far. The score is the mean log-probability of the placed tokens.

    candidates of all rows in a stage  →  few canvases  →  scores  →  the next stage

Noise is keyed by the lengths of a candidate, so a row has the same answer alone and in any batch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unmask.contracts import MLMModel, SpecialIds
from unmask.data.prompts import Prompt
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.decode.forward_request import ForwardRequest
from unmask.decode.lengths import score_steps
from unmask.decode.loop import drive
from unmask.decode.rules import Rules
from unmask.devices import device_of
from unmask.text.patterns import is_pattern, lengths_to_match, with_codes

ROWS_PER_CANVAS = 256
"""Rows decoded together, which bounds the memory of their logits."""
TOKENS_PER_CANVAS = {"cpu": 2**13}
"""Tokens decoded together by device type; a larger canvas is slower on a CPU, whose caches it exceeds."""

Lengths = tuple[int, ...]


class Scored(NamedTuple):
    """A filling at some lengths.

    Attributes:
        score: mean log-probability of the placed tokens, in nats.
        fillings: ids of each blank.
        steps: forward passes of the row.
    """

    score: float
    fillings: list[list[int]]
    steps: int


class LengthSearch:
    """The search of one row.

    Args:
        prompt: the text, divided at its blanks; one or more.
        rules: decoding rules.
        longest: largest length of a blank.
        ranges: smallest and largest length of each blank; None = 1 to ``longest``.

    Raises:
        ValueError: a pattern that no length can match, or a pattern with several blanks.
    """

    def __init__(
        self, prompt: Prompt, rules: Rules, longest: int, ranges: Sequence[tuple[int, int]] | None = None
    ) -> None:
        self.pieces, self.count = prompt.pieces, len(prompt.blanks)
        self.found: dict[Lengths, Scored] = {}
        ranges = [(1, longest)] * self.count if ranges is None else list(ranges)
        self.choices = [list(range(low, high + 1)) for low, high in ranges]
        self.code, self.choices[0] = lengths_to_match(rules, prompt.tokenizer, prompt.given[0], self.choices[0])
        if not self.choices[0]:
            raise ValueError(
                f"No filling of {_span(*ranges[0])} matches the pattern (--regex): raise the largest length "
                "(--longest), or change the pattern."
            )
        self.radix = max(choices[-1] for choices in self.choices)
        if self.count > 1 and is_pattern(rules):
            raise ValueError(
                f"A pattern (--regex) needs one blank of unknown length per text, and this text has {self.count}: leave --longest "
                "out, or divide the text."
            )

    @property
    def best(self) -> Lengths:
        """The lengths of the highest score; the first of equals."""
        return max(self.found, key=lambda lengths: self.found[lengths].score)

    def stages(self) -> Iterator[list[Lengths]]:
        """Yield the candidates of each stage; those of a stage are scored before the next one is made."""
        if self.count == 1:
            yield [(n,) for n in self.choices[0]]
            return
        levels = [n for n in range(1, self.radix + 1) if n & (n - 1) == 0 or n == self.radix]
        yield list(dict.fromkeys(tuple(min(max(n, c[0]), c[-1]) for c in self.choices) for n in levels))
        for blank in range(self.count):
            yield [lengths for lengths in self.around(self.best, blank) if lengths not in self.found]

    def around(self, lengths: Lengths, blank: int) -> list[Lengths]:
        """Return ``lengths`` with every length of one blank."""
        return [(*lengths[:blank], n, *lengths[blank + 1 :]) for n in self.choices[blank]]

    def ids(self, lengths: Lengths, mask: int) -> list[int]:
        """Return the row with masks at some lengths."""
        row = list(self.pieces[0])
        for n, piece in zip(lengths, self.pieces[1:], strict=True):
            row += [mask] * n + piece
        return row

    def fillings(self, lengths: Lengths, row: Sequence[int]) -> list[list[int]]:
        """Return the ids of each blank in a filled row."""
        fillings, start = [], 0
        for n, piece in zip(lengths, self.pieces, strict=False):
            start += len(piece)
            fillings.append(list(row[start : start + n]))
            start += n
        return fillings

    def key(self, lengths: Lengths) -> int:
        """Return the key of the noise of a candidate: 0, 1, 2, … for one blank."""
        key = 0
        for n in reversed(lengths):
            key = key * self.radix + n - 1
        return key % 2**62


Job = tuple[LengthSearch, Lengths, list[int]]
"""A row to decode: its search, its lengths, and its ids with masks."""


def canvases(jobs: list[Job], tokens: int) -> Iterator[list[Job]]:
    """Divide rows, shorter ones first, into canvases of at most ``tokens`` positions and ``ROWS_PER_CANVAS`` rows."""
    part: list[Job] = []
    for job in sorted(jobs, key=lambda job: len(job[2])):
        if part and (len(part) == ROWS_PER_CANVAS or (len(part) + 1) * len(job[2]) > tokens):
            yield part
            part = []
        part.append(job)
    if part:
        yield part


def search_lengths(
    model: MLMModel,
    tokenizer: Tokenizer,
    searches: Sequence[LengthSearch],
    rules: Rules,
    *,
    seed: int | None = 0,
    count: Callable[[int, int, float], None] | None = None,
    observers: Sequence[Any] = (),
) -> None:
    """Run the searches of rows with equally many blanks together; each keeps its candidates in ``found``.

    Args:
        model: the network.
        tokenizer: its tokenizer.
        searches: the rows.
        rules: decoding rules.
        seed: random seed of the samples.
        count: callback for the tokens, forward passes and seconds of every canvas.
        observers: called after every step.
    """
    steps = search_steps(tokenizer, searches, rules, device_of(model), seed=seed, count=count, observers=observers)
    drive(model, steps)


def search_steps(
    tokenizer: Tokenizer,
    searches: Sequence[LengthSearch],
    rules: Rules,
    device: torch.device,
    *,
    seed: int | None = 0,
    count: Callable[[int, int, float], None] | None = None,
    observers: Sequence[Any] = (),
) -> Generator[ForwardRequest, Tensor, None]:
    """Do what :func:`search_lengths` does, one forward request after the other; arguments as there, and the network's device."""
    special = SpecialIds.of(tokenizer)
    stages = [search.stages() for search in searches]
    while True:
        offered = [next(stage, None) for stage in stages]
        if all(candidates is None for candidates in offered):
            return
        jobs = [
            (search, lengths, search.ids(lengths, special.mask))
            for search, candidates in zip(searches, offered, strict=True)
            for lengths in candidates or ()
        ]
        for part in canvases(jobs, TOKENS_PER_CANVAS.get(device.type, 2**18)):
            rows = [row for _, _, row in part]
            starts = [(len(search.pieces[0]), search.code) for search, _, _ in part]
            scores, decoded = yield from score_steps(
                rows,
                with_codes(rules, starts, max(map(len, rows))),
                special=special,
                seed=seed,
                row_ids=[search.key(lengths) for search, lengths, _ in part],
                observers=observers,
                device=device,
            )
            if count is not None:
                tokens = sum(sum(lengths) for _, lengths, _ in part)
                count(tokens, decoded.forward_passes, float(decoded.time_taken.max()))
            filled, steps = decoded.ids.tolist(), decoded.steps_taken.tolist()
            for n, (search, lengths, row) in enumerate(part):
                fillings = search.fillings(lengths, filled[n][: len(row)])
                search.found[lengths] = Scored(float(scores[n]), fillings, steps[n])


def _span(fewest: int, most: int) -> str:
    """Return a range of lengths in words."""
    return f"{fewest} to {most} tokens" if fewest > 1 else f"up to {most} token{'s' * (most > 1)}"
