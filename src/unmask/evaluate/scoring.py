"""Likelihood scores of single texts and of spans in context, with their unscored tokens.

pseudo-log-likelihood    one copy of the row per token, in the forms of ``unmask.evaluate.pseudo``
bound                    the any-order bound, with its Monte Carlo error
exact                    the likelihood of generation in a random order, for up to 16 tokens
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from unmask.contracts import MLMModel, SpecialIds
from unmask.evaluate.exact import exact_log_likelihood
from unmask.evaluate.hidden import Progress
from unmask.evaluate.likelihood import nelbo
from unmask.evaluate.pseudo import OF_WORDS, pseudo_log_likelihood
from unmask.evaluate.text_rows import InContext, TextRow, rows_of_texts
from unmask.evaluate.text_rows import TextTokenizer as TextTokenizer
from unmask.evaluate.windows import Windows


class SizedModel(MLMModel, Protocol):
    """An ``MLMModel`` with a limit on the row length."""

    max_length: int


class ScoringOptions(TypedDict, total=False):
    """Which score to compute; every key may be left out.

    Attributes:
        form: form of the pseudo-log-likelihood, ``"original"`` by default: a name of ``unmask.evaluate.pseudo.PSEUDO_FORMS``.
        samples: passes of the any-order bound; None, the default, computes the pseudo-log-likelihood.
        exact: compute the exact any-order likelihood of texts of up to 16 tokens.
        seed: of the positions that the bound masks.

    Examples:
        >>> ScoringOptions(form="word_l2r")
        {'form': 'word_l2r'}
    """

    form: str
    samples: int | None
    exact: bool
    seed: int


class ScoringInContext(ScoringOptions, total=False):
    """The keyword options of ``TrainedModel.score``; every key may be left out.

    Attributes:
        before, after: given context of every text, which is neither masked nor scored.
        bound: compute the any-order bound; False, the default, computes the pseudo-log-likelihood.

    Examples:
        >>> ScoringInContext(before="The capital of France is", bound=True)
        {'before': 'The capital of France is', 'bound': True}
    """

    before: str
    after: str
    bound: bool


@dataclass(frozen=True)
class TokenScore:
    """The score of one token.

    Attributes:
        text: the characters of the token.
        id: its id.
        word: number of its word in the text, from 0; None where the tokenizer does not tell.
        nats: its log-probability given the tokens that the form leaves visible.

    Examples:
        >>> TokenScore(" cat", id=17, word=1, nats=-2.5).nats
        -2.5
    """

    text: str
    id: int
    word: int | None
    nats: float


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
        id: name of the row, such as ``texts.jsonl:3``; empty for a text without one.
        bytes: UTF-8 bytes of the text.
        tokens: the score of each scored token; empty for bounds and exact likelihoods, which are of the text as a whole.

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
    id: str = ""
    bytes: int = 0
    tokens: tuple[TokenScore, ...] = ()

    @property
    def per_token(self) -> float:
        """Nats per scored token; NaN without any."""
        return self.nats / self.scored if self.scored else math.nan

    @property
    def bits_per_byte(self) -> float:
        """Bits to encode one byte of the text; NaN if its tokens spell another text, or leave part of it unscored."""
        whole = self.exact and self.bytes and not self.unscored
        return -self.nats / math.log(2) / self.bytes if whole else math.nan

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object, with None for NaN."""
        figures = {
            "nats": self.nats,
            "bits": self.nats / math.log(2),
            "nats_per_token": self.per_token,
            "bits_per_byte": self.bits_per_byte,
            "monte_carlo_error": self.error,
        }
        counts = {
            "tokens": self.scored + self.unscored,
            "words": len(self.text.split()),
            "bytes": self.bytes,
            "unscored_tokens": self.unscored,
            "exact_text": self.exact,
        }
        return (
            ({"id": self.id} if self.id else {})
            | {"text": self.text}
            | {name: number if math.isfinite(number) else None for name, number in figures.items()}
            | counts
        )


def score_texts(
    model: SizedModel,
    tokenizer: TextTokenizer,
    texts: Sequence[str | InContext],
    *,
    template: bool = False,
    progress: Progress | None = None,
    **options: Unpack[ScoringOptions],
) -> list[TextScore]:
    """Score texts by the pseudo-log-likelihood, by the any-order bound, or exactly.

    Args:
        model: any ``MLMModel`` with a ``max_length``.
        tokenizer: a ``Tokenizer``.
        texts: each of at most ``max_length`` tokens, its context included.
        template: add the special tokens of the tokenizer's own template ([CLS], [SEP]), with which the network was trained.
        progress: callback ``(tokens done, all tokens)``.
        options: which score (``ScoringOptions``).

    Raises:
        ValueError: a text is too long for the model, or contains the mask token; options that do not fit together or the network.
    """
    given = [InContext(each) if isinstance(each, str) else each for each in texts]
    rows = rows_of_texts(tokenizer, given, template=template)
    return score_rows(model, SpecialIds.of(tokenizer), rows, progress=progress, **options)


def score_rows(
    model: SizedModel,
    special: SpecialIds,
    rows: Sequence[TextRow],
    *,
    progress: Progress | None = None,
    **options: Unpack[ScoringOptions],
) -> list[TextScore]:
    """Score rows; arguments and errors as of :func:`score_texts`.

    Args:
        special: ids that are never masked.
        rows: rows with the tokens to score.
    """
    form, samples = options.get("form", "original"), options.get("samples")
    exact, seed = options.get("exact", False), options.get("seed", 0)
    if (form != "original") + (samples is not None) + exact > 1:
        raise ValueError(
            "The forms of the pseudo-log-likelihood, the bound (samples; --bound) and the exact likelihood (--exact) are three scores: choose one."
        )
    longest = max((len(row.ids) for row in rows), default=0)
    limit = getattr(model, "max_length", None)
    if limit is not None and longest > limit:
        raise ValueError(
            f"A text has {longest} tokens, more than this model's max_length={limit}. Score shorter texts, or use "
            "`unmask evaluate --data`, which cuts long documents into windows."
        )
    if any((row.ids == special.mask).any() for row in rows):
        raise ValueError(
            f"A text to score contains the mask token (id {special.mask}). Scoring masks tokens itself, so the text must contain no mask. To fill "
            "masks, use `unmask fill`."
        )
    scored = np.array([int(row.scored.sum()) for row in rows], dtype=np.int64)
    errors = np.full(len(rows), math.nan)
    parts: list[tuple[TokenScore, ...]] = [()] * len(rows)
    if exact:
        nats = np.array(
            [
                exact_log_likelihood(model, row.ids, special, row.scored) if row.scored.any() else math.nan
                for row in rows
            ]
        )
    elif samples is not None:
        nats, errors = _bounds(model, special, rows, samples, seed, progress)
    else:
        values = pseudo_log_likelihood(
            model, [row.ids for row in rows], special, form=form, words=_words(rows, form),
            scored=[row.scored for row in rows], progress=progress,
        )  # fmt: skip
        nats = np.array([float(np.nansum(each)) for each in values])
        parts = [_tokens(row, each) for row, each in zip(rows, values, strict=True)]
    return [
        TextScore(
            row.text,
            float(value) if n else math.nan,
            int(n),
            row.unscored,
            row.exact,
            float(error) if n else math.nan,
            row.id,
            row.n_bytes,
            tokens,
        )
        for row, value, n, error, tokens in zip(rows, nats, scored, errors, parts, strict=True)
    ]


def _bounds(
    model: SizedModel, special: SpecialIds, rows: Sequence[TextRow], samples: int, seed: int, progress: Progress | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the bound of each row in nats, and its Monte Carlo error; NaN without a token to score."""
    missing = np.full(len(rows), math.nan)
    if not any(row.scored.any() for row in rows):
        return missing, missing
    zeros = np.zeros(len(rows), dtype=np.int64)
    answers = [row.scored for row in rows]
    windows = Windows([row.ids for row in rows], np.arange(len(rows)), zeros, zeros, None, answers)
    passes = -nelbo(model, windows, special, samples=samples, seed=seed, progress=progress).nats
    return passes.mean(0), passes.std(0, ddof=1) / math.sqrt(samples) if samples > 1 else missing


def _words(rows: Sequence[TextRow], form: str) -> list[NDArray[np.int64]] | None:
    if form not in OF_WORDS:
        return None
    known = [row.words for row in rows if row.words is not None]
    if len(known) < len(rows):
        unknown = next(row for row in rows if row.words is None)
        raise ValueError(
            f"form={form!r} masks within words, and the words of {unknown.id or repr(unknown.text[:40])} are unknown: its ids are not those of "
            "its text. Use form='original', or score the text itself."
        )
    return known


def _tokens(row: TextRow, nats: NDArray[np.float64]) -> tuple[TokenScore, ...]:
    return tuple(
        TokenScore(row.pieces[i], int(row.ids[i]), None if row.words is None else int(row.words[i]), float(nats[i]))
        for i in np.flatnonzero(row.scored)
    )
