"""How likely single texts are, with what the figure leaves out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unmask.contracts import SpecialIds
from unmask.evaluate.hidden import Progress
from unmask.evaluate.likelihood import nelbo
from unmask.evaluate.pseudo import pseudo_log_likelihood
from unmask.evaluate.windows import Windows


@dataclass(frozen=True)
class TextScore:
    """The log-probability of one text's tokens, or a bound on it.

    Attributes:
        text: as it was given.
        nats: sum over the scored tokens; NaN where there is none.
        scored: tokens in the sum.
        unscored: special tokens that the text was encoded with, unknown words above all. They are in no figure, so a text with
            some looks likelier than it is.
        exact: whether the tokens spell the text. If not, the figure is of what they do spell.
        error: standard error of ``nats`` from sampling what is hidden; NaN for one sample or where nothing is sampled.
    """

    text: str
    nats: float
    scored: int
    unscored: int
    exact: bool
    error: float = math.nan

    @property
    def per_token(self) -> float:
        """Nats of a scored token; NaN where there is none."""
        return self.nats / self.scored if self.scored else math.nan

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no NaN: it is None."""
        figures = {"nats": self.nats, "nats_per_token": self.per_token, "monte_carlo_error": self.error}
        counts = {"tokens": self.scored + self.unscored, "unscored_tokens": self.unscored, "exact_text": self.exact}
        return (
            {"text": self.text}
            | {name: number if math.isfinite(number) else None for name, number in figures.items()}
            | counts
        )


def score_texts(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    samples: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[TextScore]:
    """Score texts by the pseudo-log-likelihood, or by the any-order bound.

    Args:
        model: any ``MLMModel`` with a ``max_length``.
        tokenizer: a ``Tokenizer``.
        texts: each of at most ``max_length`` tokens.
        samples: None = pseudo-log-likelihood; else passes of the bound.
        seed: of what the bound hides.
        progress: called with the tokens read so far and in all.

    Raises:
        ValueError: a text is too long for the model, or has no place for its mask.
    """
    special = SpecialIds.of(tokenizer)
    rows = [tokenizer.encode(text) for text in texts]
    longest = max(map(len, rows), default=0)
    if longest > model.max_length:
        raise ValueError(
            f"A text has {longest} tokens and this model reads {model.max_length} at a time (max_length). Score shorter texts, or "
            "use `unmask evaluate --data`, which cuts long documents into windows."
        )
    scored = [sum(id not in special.all for id in row) for row in rows]
    errors = np.full(len(rows), math.nan)
    if samples is None:
        nats = np.array(
            [float(np.nansum(values)) for values in pseudo_log_likelihood(model, rows, special, progress=progress)]
        )
    elif any(scored):
        passes = -nelbo(
            model,
            Windows.of_rows(rows, model.max_length, texts),
            special,
            samples=samples,
            seed=seed,
            progress=progress,
        ).nats
        nats = passes.mean(0)
        errors = passes.std(0, ddof=1) / math.sqrt(samples) if samples > 1 else errors
    else:
        nats = np.zeros(len(rows))
    return [
        TextScore(
            text,
            float(value) if n else math.nan,
            n,
            len(row) - n,
            tokenizer.decode(row) == text,
            float(error) if n else math.nan,
        )
        for text, row, value, n, error in zip(texts, rows, nats, scored, errors, strict=True)
    ]
