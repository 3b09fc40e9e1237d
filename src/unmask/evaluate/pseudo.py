"""Pseudo-log-likelihood: every token scored given others, in its published forms.

    original        given all others                                Salazar et al. 2020, 1910.14659, eq. 3
    word_l2r        later tokens of the same word are masked too    Kauf and Ivanova 2023, 2305.10588, PLL-word-l2r
    whole_word      all tokens of the same word are masked too      2305.10588, PLL-whole-word
    sentence_l2r    all later tokens are masked too                 2305.10588, PLL-sentence-l2r

``original`` inflates words of several tokens, whose pieces predict each other; ``word_l2r`` does not. Only ``sentence_l2r`` is a log-likelihood, by the chain
rule in one order; the others are neither a likelihood nor a bound. In every form the masked positions of a copy are one range, ``[start, stop)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from unmask.contracts import MLMModel, SpecialIds
from unmask.devices import device_of
from unmask.evaluate.hidden import Measure, Progress, measure_at
from unmask.evaluate.suitability import check_form
from unmask.evaluate.windows import batches, stack
from unmask.nn.modes import eval_mode
from unmask.ops.weighting import token_nll
from unmask.registry import Registry

Form = Callable[[NDArray[np.int64]], tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Words of the ``n`` tokens of a row -> first masked position and the position after the last, int64 ``[n]`` each."""


def _runs(words: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first position of each token's word, and the position after its last."""
    begins = np.flatnonzero(np.concatenate([[True], words[1:] != words[:-1]])[: len(words)])
    ends = np.append(begins[1:], len(words))
    return np.repeat(begins, ends - begins), np.repeat(ends, ends - begins)


def original(words: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Mask the token itself."""
    place = np.arange(len(words))
    return place, place + 1


def word_l2r(words: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Mask the token and the later tokens of its word."""
    return np.arange(len(words)), _runs(words)[1]


def sentence_l2r(words: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Mask the token and all later ones."""
    return np.arange(len(words)), np.full(len(words), len(words))


PSEUDO_FORMS: Registry[Form] = Registry(
    "form of the pseudo-log-likelihood",
    {
        "original": (original, "each token given all others (Salazar et al. 2020)"),
        "word_l2r": (word_l2r, "later tokens of its word are masked too (Kauf and Ivanova 2023)"),
        "whole_word": (_runs, "all tokens of its word are masked too"),
        "sentence_l2r": (sentence_l2r, "all later tokens are masked too: a log-likelihood, left to right"),
    },
)
OF_WORDS = ("word_l2r", "whole_word")
CPU_BATCH, BATCH = 2048, 16384  # tokens of a forward pass


def pseudo_log_likelihood(
    model: MLMModel,
    rows: Sequence[Sequence[int] | NDArray[np.integer]],
    special: SpecialIds,
    *,
    form: str = "original",
    words: Sequence[NDArray[np.int64]] | None = None,
    scored: Sequence[NDArray[np.bool_]] | None = None,
    batch_tokens: int | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> list[NDArray[np.float64]]:
    """Return the log-probability of every token of every row given others of its row.

    Args:
        model: any ``MLMModel``; it runs in eval mode.
        rows: ids of one text each, with or without special tokens. A row of ``n`` tokens costs ``n`` rows of the model.
        special: the tokenizer's special ids, or the tokenizer.

    Other Parameters:
        form: which other tokens are masked too: a name of ``unmask.evaluate.pseudo.PSEUDO_FORMS``.
        words: number of each token's word, one array ``[l]`` per row; ``word_l2r`` and ``whole_word`` need them.
        scored: the tokens to score, one bool array ``[l]`` per row; the others are context and never masked. None = all ordinary tokens.
        batch_tokens: padded tokens per forward pass; None = 2,048 on a CPU, whose caches they fit, else 16,384.
        device: None = the model's own.
        progress: callback ``(tokens done, all tokens)``.

    Returns:
        One float64 array ``[l]`` per row, in nats, at most 0; NaN at tokens that are not scored, such as special ones. The
        pseudo-log-likelihood of a row is its ``numpy.nansum``.

    Raises:
        ValueError: a row contains the mask token; an unknown form, or one without its words; a network whose tokens do not attend both ways.

    Examples:
        >>> import torch
        >>> from unmask import SpecialIds
        >>> def uniform(x_t, attention_mask=None, positions=None, block_mask=None):
        ...     return torch.zeros(*x_t.shape, 16)
        >>> scores = pseudo_log_likelihood(uniform, [[5, 6]], SpecialIds(mask=1, vocab_size=16))
        >>> scores[0].round(4).tolist()  # -ln(16) each
        [-2.7726, -2.7726]
    """
    scores = [np.full(len(row), np.nan) for row in rows]
    found = masked_in_turn(model, rows, special, [token_nll], form, words, scored, batch_tokens, device, progress)
    for row, place, nll in found:
        scores[row][place] = -nll[0]
    return scores


def masked_in_turn(
    model: MLMModel,
    rows: Sequence[Sequence[int] | NDArray[np.integer]],
    special: SpecialIds,
    measures: Sequence[Measure],
    form: str = "original",
    words: Sequence[NDArray[np.int64]] | None = None,
    scored: Sequence[NDArray[np.bool_]] | None = None,
    batch_tokens: int | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[int, int, NDArray[np.float64]]]:
    """Mask every scored token in turn, and yield its row, its position and its measures ``[M]``.

    Args:
        measures: functions of logits and targets. The other arguments and the errors are those of :func:`pseudo_log_likelihood`.
    """
    masked_range = PSEUDO_FORMS.choose(form)
    check_form(model, form)
    if form in OF_WORDS and words is None:
        raise ValueError(
            f"form={form!r} masks within words, and words=None: give the number of each token's word, as tokenize_with_words returns it."
        )
    special = SpecialIds.of(special)
    at = torch.device(device) if device is not None else device_of(model)
    ids = [np.asarray(row, dtype=np.int64) for row in rows]
    if any((row == special.mask).any() for row in ids):
        raise ValueError(
            f"A text to score contains the mask token (id {special.mask}). Scoring masks every token in turn, so the text must "
            "contain no mask. To fill masks, use `unmask fill`."
        )
    maskable = [~np.isin(row, special.all) for row in ids] if scored is None else [np.asarray(each) for each in scored]
    places = [np.flatnonzero(each) for each in maskable]
    ranges = [masked_range(np.zeros(len(row), np.int64) if words is None else words[i]) for i, row in enumerate(ids)]
    empty = np.zeros(0, dtype=np.int64)
    row_of = np.repeat(np.arange(len(ids)), [len(each) for each in places])
    target, start, stop = (
        np.concatenate([*each, empty]).astype(np.int64)
        for each in (
            places,
            [begin[place] for (begin, _), place in zip(ranges, places, strict=True)],
            [end[place] for (_, end), place in zip(ranges, places, strict=True)],
        )
    )
    sizes = np.array([len(row) for row in ids], dtype=np.int64)
    lengths = sizes[row_of]
    done, total = 0, int(lengths.sum())
    with eval_mode(model):
        for index in batches(lengths, batch_tokens or (CPU_BATCH if at.type == "cpu" else BATCH)):
            tokens, real, free = stack(
                [ids[i] for i in row_of[index]], special, at, [maskable[i] for i in row_of[index]]
            )
            place = torch.arange(tokens.shape[1], device=at)
            first, last, read = (torch.from_numpy(each[index]).to(at)[:, None] for each in (start, stop, target))
            masked, where = free & (place >= first) & (place < last), place == read
            batch = {"input_ids": tokens.masked_fill(masked, special.mask), "attention_mask": real}
            values = measure_at(model, batch, where, tokens[where], measures).numpy()
            yield from zip(row_of[index].tolist(), target[index].tolist(), values.T, strict=True)
            done += int(lengths[index].sum())
            if progress is not None:
                progress(done, total)
