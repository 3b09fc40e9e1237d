"""Results of a trained model: frozen values with a readable ``repr``, HTML for notebooks, and ``as_dict`` for JSON."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from unmask.text.shown_decode import ShownDecode, show_decodes

T = TypeVar("T")


@dataclass(frozen=True)
class Alternative:
    """One candidate of a blank.

    Attributes:
        token: text of the token.
        probability: probability in [0, 1], before temperature and filters.

    Examples:
        >>> import unmask
        >>> unmask.Alternative(" if", 0.75)
        Alternative(token=' if', probability=0.75)
    """

    token: str
    probability: float


@dataclass(frozen=True)
class Blank:
    """The candidates of one blank.

    Attributes:
        alternatives: the candidates in descending probability, at the first step that could fill the blank.

    Examples:
        >>> import unmask
        >>> blank = unmask.Blank((unmask.Alternative(" if", 0.75), unmask.Alternative(" for", 0.25)))
        >>> print(blank)
        ' if' 75% · ' for' 25%
    """

    alternatives: tuple[Alternative, ...]

    @property
    def token(self) -> str:
        """Text of the most likely candidate; empty without candidates."""
        return self.alternatives[0].token if self.alternatives else ""

    @property
    def probability(self) -> float:
        """Probability of :attr:`token`; 0 without candidates."""
        return self.alternatives[0].probability if self.alternatives else 0.0

    def __str__(self) -> str:
        return " · ".join(f"{a.token!r} {a.probability:.0%}" for a in self.alternatives)


@dataclass(frozen=True)
class Filling:
    """A text with its blanks filled.

    Attributes:
        prompt: the text with blanks.
        text: the text with the blanks filled; all other characters are those of ``prompt``.
        blanks: candidates of each blank, from left to right.
        steps: number of forward passes (NFE) of the row.
        filling: the text between ``before`` and ``after`` of a row; None for a text.
        row: the row as it was given; None for a text.
        decode: the recorded decode, which a notebook plays; None for large batches and blanks of unknown length.

    Examples:
        >>> import unmask
        >>> blank = unmask.Blank((unmask.Alternative(" if", 0.75),))
        >>> unmask.Filling("The [MASK] statement", "The if statement", (blank,), 1)
        The if statement
          blank 1: ' if' 75%
    """

    prompt: str
    text: str
    blanks: tuple[Blank, ...]
    steps: int
    filling: str | None = None
    row: Mapping[str, Any] | None = None
    decode: ShownDecode | None = field(default=None, repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON; each blank is a list of ``{"token", "probability"}``.

        The fields of a row come first, unchanged. A row with ``before`` and ``after`` has ``filling`` instead of ``prompt``.
        """
        blanks = [
            [{"token": a.token, "probability": a.probability} for a in blank.alternatives] for blank in self.blanks
        ]
        source = {"prompt": self.prompt} if self.filling is None else {"filling": self.filling}
        return {**(self.row or {}), **source, "text": self.text, "steps": self.steps, "blanks": blanks}

    def __str__(self) -> str:
        return "\n".join([self.text, *(f"  blank {n}: {blank}" for n, blank in enumerate(self.blanks, start=1))])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        if self.decode is not None:
            return f"<p><strong>{html.escape(self.text)}</strong></p>{show_decodes([self.decode])}"
        rows = "".join(
            f"<tr><td>blank {n}</td><td>{html.escape(str(blank))}</td></tr>"
            for n, blank in enumerate(self.blanks, start=1)
        )
        return f"<p><strong>{html.escape(self.text)}</strong></p><table>{rows}</table>"


@dataclass(frozen=True)
class Generation:
    """A continued text.

    Attributes:
        prompt: the text that was continued; empty for unconditional generation.
        text: prompt and continuation.
        tokens: texts of the new tokens, from left to right.
        probabilities: probability of each new token at its step, in [0, 1], among the allowed tokens.
        steps: number of forward passes (NFE) of the row.
        seconds: wall time until the row was complete.
        decode: the recorded decode, which a notebook plays; None for large batches.

    Examples:
        >>> import unmask
        >>> unmask.Generation("The", "The end", (" end",), (0.5,), 1, 0.01)
        The end
    """

    prompt: str
    text: str
    tokens: tuple[str, ...]
    probabilities: tuple[float, ...]
    steps: int
    seconds: float
    decode: ShownDecode | None = field(default=None, repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return ``prompt``, ``text``, ``steps_taken`` and ``time_taken`` (seconds) for JSON."""
        return {"prompt": self.prompt, "text": self.text, "steps_taken": self.steps, "time_taken": self.seconds}

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def _repr_html_(self) -> str:
        if self.decode is not None:
            return show_decodes([self.decode])
        tokens = zip(self.tokens, self.probabilities, strict=True)
        drawn = "".join(
            f'<span title="{p:.1%}" style="opacity:{0.4 + 0.6 * p:.2f}">{html.escape(t)}</span>' for t, p in tokens
        )
        return f'<p style="white-space:pre-wrap">{html.escape(self.prompt)}<strong>{drawn}</strong></p>'


@dataclass(frozen=True)
class GenerationStep:
    """One decoding step of a streamed text.

    Attributes:
        number: number of the step, from 0.
        text: the text after the step, with the mask token at each remaining blank.
        revealed: number of unmasked new tokens.
        total: number of new tokens.

    Examples:
        >>> import unmask
        >>> step = unmask.GenerationStep(0, "The [MASK]", 0, 1)
        >>> f"{step.revealed} of {step.total}"
        '0 of 1'
    """

    number: int
    text: str
    revealed: int
    total: int


class Results(list[T]):
    """A list of results that prints one result after another, and renders as HTML in notebooks.

    Examples:
        >>> import unmask
        >>> unmask.Results(["one", "two"])
        one
        two
    """

    def __repr__(self) -> str:
        return "\n".join(map(str, self))

    def _repr_html_(self) -> str:
        def draw(each: Any) -> str:
            return each._repr_html_() if hasattr(each, "_repr_html_") else f"<pre>{html.escape(str(each))}</pre>"

        decodes = [decode for each in self if (decode := getattr(each, "decode", None)) is not None]
        if len(decodes) == len(self) > 1:  # one player for all
            return show_decodes(decodes)
        return "".join(map(draw, self))
