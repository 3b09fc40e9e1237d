"""Likelihood scores of single texts, with their unscored tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from unmask.contracts import MLMModel, SpecialIds
from unmask.evaluate.hidden import Progress
from unmask.evaluate.likelihood import nelbo
from unmask.evaluate.pseudo import pseudo_log_likelihood
from unmask.evaluate.windows import Windows


class SizedModel(MLMModel, Protocol):
    """An ``MLMModel`` with a limit on the row length."""

    max_length: int


@runtime_checkable
class TextTokenizer(Protocol):
    """A tokenizer with Hugging Face's attributes for special ids (``SpecialIds.of``)."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        ...

    def decode(self, ids: list[int]) -> str:
        """Return the text of ids."""
        ...


@dataclass(frozen=True)
class TextScore:
    """The (pseudo-)log-probability of one text's tokens, or a bound on it.

    Attributes:
        text: the given text.
        nats: sum over the scored tokens; NaN without any.
        scored: number of tokens in the sum.
        unscored: number of special tokens in the encoded text, such as unknown words. They are in no figure, so a text
            with unknown words looks more likely than it is.
        exact: whether the tokens decode to the text. Otherwise the figure is that of the decoded text.
        error: standard error of ``nats`` from sampling masked positions; NaN for one sample or without sampling.

    Examples:
        >>> score = TextScore("a b", nats=-6.0, scored=2, unscored=0, exact=True)
        >>> score.per_token, score.as_dict()["monte_carlo_error"]
        (-3.0, None)
    """

    text: str
    nats: float
    scored: int
    unscored: int
    exact: bool
    error: float = math.nan

    @property
    def per_token(self) -> float:
        """Nats per scored token; NaN without any."""
        return self.nats / self.scored if self.scored else math.nan

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object, with None for NaN."""
        figures = {"nats": self.nats, "nats_per_token": self.per_token, "monte_carlo_error": self.error}
        counts = {"tokens": self.scored + self.unscored, "unscored_tokens": self.unscored, "exact_text": self.exact}
        return (
            {"text": self.text}
            | {name: number if math.isfinite(number) else None for name, number in figures.items()}
            | counts
        )


def score_texts(
    model: SizedModel,
    tokenizer: TextTokenizer,
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
        samples: None = pseudo-log-likelihood; else number of passes of the bound.
        seed: of the positions that the bound masks.
        progress: callback ``(tokens done, all tokens)``.

    Raises:
        ValueError: a text is too long for the model, or contains the mask token.
    """
    special = SpecialIds.of(tokenizer)
    rows = [tokenizer.encode(text) for text in texts]
    longest = max(map(len, rows), default=0)
    if longest > model.max_length:
        raise ValueError(
            f"A text has {longest} tokens, more than this model's max_length={model.max_length}. Score shorter texts, or use "
            "`unmask evaluate --data`, which cuts long documents into windows."
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
