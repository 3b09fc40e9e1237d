"""Results of the front door: frozen values with a readable ``repr``, a drawing for notebooks, and ``as_dict`` for JSON."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Alternative:
    """One candidate of a blank.

    Attributes:
        token: its text.
        probability: in [0, 1], before temperature and filters.
    """

    token: str
    probability: float


@dataclass(frozen=True)
class Blank:
    """The candidates of one blank.

    Attributes:
        alternatives: the likeliest first, as the network saw the blank at the first step that could fill it.
    """

    alternatives: tuple[Alternative, ...]

    @property
    def token(self) -> str:
        """The likeliest candidate; empty where there is none."""
        return self.alternatives[0].token if self.alternatives else ""

    @property
    def probability(self) -> float:
        """The probability of :attr:`token`; 0 where there is none."""
        return self.alternatives[0].probability if self.alternatives else 0.0

    def __str__(self) -> str:
        return " · ".join(f"{a.token!r} {a.probability:.0%}" for a in self.alternatives)


@dataclass(frozen=True)
class Filling:
    """A text with its blanks filled.

    Attributes:
        prompt: the text with blanks.
        text: the text filled; everything round the blanks is letter for letter that of ``prompt``.
        blanks: candidates of each blank, from left to right.
        steps: forward passes that the row took part in.
    """

    prompt: str
    text: str
    blanks: tuple[Blank, ...]
    steps: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the same fields, each blank a list of ``{"token", "probability"}``."""
        blanks = [
            [{"token": a.token, "probability": a.probability} for a in blank.alternatives] for blank in self.blanks
        ]
        return {"prompt": self.prompt, "text": self.text, "steps": self.steps, "blanks": blanks}

    def __str__(self) -> str:
        return "\n".join([self.text, *(f"  blank {n}: {blank}" for n, blank in enumerate(self.blanks, start=1))])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>blank {n}</td><td>{html.escape(str(blank))}</td></tr>"
            for n, blank in enumerate(self.blanks, start=1)
        )
        return f"<p><strong>{html.escape(self.text)}</strong></p><table>{rows}</table>"


@dataclass(frozen=True)
class Generation:
    """A continued text.

    Attributes:
        prompt: the text that was continued; empty = from nothing.
        text: prompt and continuation.
        tokens: texts of the new tokens, from left to right.
        probabilities: of each new token when it was placed, in [0, 1], among the allowed tokens.
        steps: forward passes that the row took part in.
        seconds: wall time until the row was complete.
    """

    prompt: str
    text: str
    tokens: tuple[str, ...]
    probabilities: tuple[float, ...]
    steps: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON: ``prompt``, ``text``, ``steps_taken``, ``time_taken``."""
        return {"prompt": self.prompt, "text": self.text, "steps_taken": self.steps, "time_taken": self.seconds}

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def _repr_html_(self) -> str:
        tokens = zip(self.tokens, self.probabilities, strict=True)
        drawn = "".join(
            f'<span title="{p:.1%}" style="opacity:{0.4 + 0.6 * p:.2f}">{html.escape(t)}</span>' for t, p in tokens
        )
        return f'<p style="white-space:pre-wrap">{html.escape(self.prompt)}<strong>{drawn}</strong></p>'


@dataclass(frozen=True)
class GenerationStep:
    """One step of a text being written.

    Attributes:
        number: of the step, from 0.
        text: as far as it is written; a blank shows as the mask token.
        revealed: how many new tokens stand.
        total: how many there will be.
    """

    number: int
    text: str
    revealed: int
    total: int


class Results(list[Any]):
    """A list of results that prints one below the other and draws itself in notebooks."""

    def __repr__(self) -> str:
        return "\n".join(map(str, self))

    def _repr_html_(self) -> str:
        def draw(each: Any) -> str:
            return each._repr_html_() if hasattr(each, "_repr_html_") else f"<pre>{html.escape(str(each))}</pre>"

        return "".join(map(draw, self))
