"""Fill the blanks of texts. The text around a blank is copied from the given string, never decoded from ids."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from unmask.contracts import MLMModel, MLMPredictionDict
from unmask.data.prompts import Prompt
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.decode.observers.alternatives import Alternatives
from unmask.decode.predictor import MLMPredictor
from unmask.decode.rules import Rules
from unmask.text.batching import in_batches, left_padded, plain_predict
from unmask.text.blanks import TypedText
from unmask.text.holes import Hole, max_length_of
from unmask.text.length_search import LengthSearch, search_lengths
from unmask.text.patterns import fitted
from unmask.text.results import Alternative, Blank, Filling
from unmask.text.shown_decode import ShownDecode, recorder

RulesFor = Callable[[int], Rules]
"""Largest number of blanks in a row -> decoding rules."""
Predict = Callable[[MLMPredictor, dict[str, Any], list[str]], MLMPredictionDict]
"""Predictor, batch and labels of its rows -> decoded batch."""
Count = Callable[[int, int, float], None]
"""Callback for the tokens, forward passes and seconds of a batch."""

LONGEST = 8
"""Largest length of a blank between two texts, in tokens, unless another is given."""


def fill_texts(
    model: MLMModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    rules_for: RulesFor,
    *,
    seed: int | None = 0,
    top: int = 5,
    batch_size: int = 64,
    first: int | None = None,
    predict: Predict = plain_predict,
    count: Count | None = None,
    observers: Sequence[Any] = (),
    first_row: int = 0,
) -> Iterator[Filling]:
    """Fill the blanks of texts, a batch at a time.

    Args:
        model: the network.
        tokenizer: its tokenizer; the mask token marks the blanks.
        texts: texts with any number of blanks (``unmask.text.blanks``). A text without a blank is returned unchanged, unless it is the only one.
        rules_for: decoding rules for a number of blanks.
        seed: random seed of the samples.
        top: number of candidates to return for every blank.
        batch_size: texts decoded together.
        first: texts of the first batch; each further batch is twice as large. None = ``batch_size``.
        predict: function that decodes a batch.
        count: callback for the tokens, forward passes and seconds of every batch.
        observers: called after every step.
        first_row: number of the first text, which keys its samples; for texts that are filled in several calls.

    Raises:
        ValueError: no texts, a single text without a blank, or a row longer than the ``max_length`` of the model.
    """
    if not texts:
        raise ValueError(
            f"There is no text to fill: give one with a {tokenizer.mask_token}, or lines on standard input."
        )
    typed = [TypedText.of(tokenizer, text) for text in texts]
    if first_row == 0:
        _require_a_blank([each.prompt for each in typed], texts)
    rules = rules_for(max(1, *(each.longest for each in typed)))
    for numbers in in_batches(len(typed), batch_size, first):
        known = {i: typed[i].at(tuple(low for low, _ in typed[i].ranges)) for i in numbers if not typed[i].is_open}
        filled = _fill_tokens(model, known, rules, seed, top, predict, count, observers, first_row)
        unknown = {i: typed[i].prompt for i in numbers if typed[i].is_open}
        ranges = {i: typed[i].ranges for i in unknown}
        filled |= _fill_lengths(model, unknown, rules_for, 1, seed, top, count, observers, ranges)
        yield from (replace(filled[i], prompt=texts[i]) for i in numbers)


def fill_unknown_lengths(
    model: MLMModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    rules_for: RulesFor,
    *,
    longest: int,
    seed: int | None = 0,
    top: int = 5,
    batch_size: int = 64,
    first: int | None = None,
    count: Count | None = None,
    observers: Sequence[Any] = (),
) -> Iterator[Filling]:
    """Fill each blank of each text with 1 to ``longest`` tokens.

    The filling with the highest mean log-probability per token is returned. One blank is decoded at every length; several
    blanks are searched in turn (``unmask.text.length_search``). The candidates of a blank are the best fillings of its
    lengths, with the geometric mean of the token probabilities.

    Args:
        longest: largest length of a filling, in tokens. The other arguments are those of :func:`fill_texts`.

    Raises:
        ValueError: ``longest`` below 1, or a pattern that no length can match.
    """
    _require_a_length(longest)
    prompts = [Prompt.of(tokenizer, text) for text in texts]
    _require_a_blank(prompts, texts)
    for numbers in in_batches(len(prompts), batch_size, first):
        yield from _fill_lengths(
            model, {i: prompts[i] for i in numbers}, rules_for, longest, seed, top, count, observers
        ).values()


def fill_rows(
    model: MLMModel,
    tokenizer: Tokenizer,
    holes: Sequence[Hole],
    rules_for: RulesFor,
    *,
    longest: int | None = None,
    seed: int | None = 0,
    top: int = 5,
    batch_size: int = 64,
    first: int | None = None,
    count: Count | None = None,
    observers: Sequence[Any] = (),
    note: Callable[[str], None] = lambda message: None,
    first_row: int = 0,
) -> Iterator[Filling]:
    """Fill rows with holes, a batch at a time, in order; rows of equal work are decoded together.

    The context of a blank is trimmed to what the network takes. A row has the same filling alone and in any batch.

    Args:
        model: the network.
        tokenizer: its tokenizer.
        holes: the rows.
        rules_for: decoding rules for a number of blanks.
        longest: largest length of a blank, in tokens. None = 8 between two texts, and 1 for the blanks of a ``text``.
        note: receives one remark if some context was trimmed. The other arguments are those of :func:`fill_texts`.

    Raises:
        ValueError: blanks that exceed the ``max_length`` of the model, ``longest`` below 1, or a pattern without a match.
    """
    if longest is not None:
        _require_a_length(longest)
    limit = max_length_of(model)
    fitting = [hole.trimmed(limit, longest or (LONGEST if hole.is_open else 1)) for hole in holes]
    trimmed = [n for n, (hole, fit) in enumerate(zip(holes, fitting, strict=True), start=1) if fit is not hole]
    if trimmed:
        note(
            f"The context of {len(trimmed)} of {len(holes)} rows (the first is row {trimmed[0]}) exceeds the max_length of this "
            f"model, {limit} tokens, and was trimmed at its ends."
        )
    for numbers in in_batches(len(holes), batch_size, first):
        known: dict[int, dict[int, Prompt]] = defaultdict(dict)
        unknown: dict[int, Prompt] = {}
        for i in numbers:
            prompt = fitting[i].prompt
            if longest is None and not fitting[i].is_open:
                known[len(prompt.blanks)][i] = prompt
            else:
                unknown[i] = prompt
        filled = _fill_lengths(model, unknown, rules_for, longest or LONGEST, seed, top, count, observers)
        for blanks, prompts in known.items():
            rules = rules_for(max(1, blanks))
            filled |= _fill_tokens(model, prompts, rules, seed, top, plain_predict, count, observers, first_row)
        for i in numbers:
            yield replace(filled[i], **holes[i].result(filled[i].text))


def _fill_tokens(
    model: MLMModel,
    prompts: Mapping[int, Prompt],
    rules: Rules,
    seed: int | None,
    top: int,
    predict: Predict,
    count: Count | None,
    observers: Sequence[Any],
    first_row: int,
) -> dict[int, Filling]:
    """Fill a batch with one token per blank; the number of a prompt, counted from ``first_row``, keys its noise."""
    filled = {i: Filling(_text(prompt), _text(prompt), (), 0) for i, prompt in prompts.items()}
    open_rows = [i for i, prompt in prompts.items() if prompt.blanks]
    if not open_rows:
        return filled
    tokenizer, alternatives = prompts[open_rows[0]].tokenizer, Alternatives(top)
    given, rows = [prompts[i].given for i in open_rows], [prompts[i].ids for i in open_rows]
    rules = fitted(rules, tokenizer, given, rows)
    trace = recorder(rows, sum(len(prompts[i].blanks) for i in open_rows), top)
    watching = [alternatives, *([trace] if trace else []), *observers]
    predictor = MLMPredictor(rules.max_steps, None, tokenizer, model, rules=rules, seed=seed, observers=watching)
    batch = left_padded(rows, tokenizer.pad_token_id or 0, [first_row + i for i in open_rows])
    decoded = predict(predictor, batch, [filled[i].prompt[:32] for i in open_rows])
    if count is not None:
        tokens = sum(len(prompts[i].blanks) for i in open_rows)
        count(tokens, max(decoded["steps_taken"]), max(decoded["time_taken"]))
    blanks: dict[int, list[Blank]] = {i: [] for i in open_rows}
    for (row, _), (ids, probabilities) in sorted(alternatives.found.items()):
        candidates = zip(ids, probabilities, strict=True)
        blanks[open_rows[row]].append(
            Blank(tuple(Alternative(tokenizer.token_text(t), round(p, 4)) for t, p in candidates))
        )
    for row, i in enumerate(open_rows):
        output = decoded["ids"][row, -len(prompts[i].ids) :].tolist()
        steps = decoded["steps_taken"][row]
        text, shown = prompts[i].filled(output), ShownDecode(trace, tokenizer, row) if trace else None
        filled[i] = Filling(filled[i].prompt, text, tuple(blanks[i]), steps, decode=shown)
    return filled


def _fill_lengths(
    model: MLMModel,
    prompts: Mapping[int, Prompt],
    rules_for: RulesFor,
    longest: int,
    seed: int | None,
    top: int,
    count: Count | None,
    observers: Sequence[Any],
    ranges: Mapping[int, Sequence[tuple[int, int]]] | None = None,
) -> dict[int, Filling]:
    """Fill a batch with up to ``longest`` tokens per blank, or with as many as the range of each blank allows."""
    filled = {i: Filling(_text(prompt), _text(prompt), (), 0) for i, prompt in prompts.items()}
    alike: dict[int, list[int]] = defaultdict(list)
    for i, prompt in prompts.items():
        alike[len(prompt.blanks)].append(i)
    for blanks, numbers in alike.items():
        if not blanks:
            continue
        largest = [longest * blanks if ranges is None else sum(high for _, high in ranges[i]) for i in numbers]
        rules = rules_for(max(largest))
        searches = {i: LengthSearch(prompts[i], rules, longest, None if ranges is None else ranges[i]) for i in numbers}
        tokenizer = prompts[numbers[0]].tokenizer
        search_lengths(model, tokenizer, list(searches.values()), rules, seed=seed, count=count, observers=observers)
        for i, search in searches.items():
            best = search.found[search.best]
            text = prompts[i].filled_with(best.fillings)
            candidates = tuple(_candidates(search, blank, tokenizer, top) for blank in range(blanks))
            filled[i] = Filling(filled[i].prompt, text, candidates, best.steps)
    return filled


def _candidates(search: LengthSearch, blank: int, tokenizer: Tokenizer, top: int) -> Blank:
    """Return the best fillings of one blank, the other blanks at their best lengths."""
    found = [search.found[lengths] for lengths in search.around(search.best, blank) if lengths in search.found]
    found = sorted(found, key=lambda each: each.score, reverse=True)[:top]
    return Blank(
        tuple(Alternative(tokenizer.decode(each.fillings[blank]), round(math.exp(each.score), 4)) for each in found)
    )


def _text(prompt: Prompt) -> str:
    """Return the text of a prompt, with the mask token at each blank."""
    return (prompt.tokenizer.mask_token or "").join(prompt.given)


def no_single_decode() -> ValueError:
    """Return the error that a search of lengths cannot be drawn."""
    return ValueError(
        "--longest and [MASK:2-6] decode every length, and --watch and --trace show a single decode: leave one of them out. A row with before and "
        "after is always decoded at every length."
    )


def _require_a_length(longest: int) -> None:
    if longest < 1:
        raise ValueError(f"--longest {longest} is too small: choose 1 token or more.")


def _require_a_blank(prompts: Sequence[Prompt], texts: Sequence[str]) -> None:
    """Refuse a single text without a blank, which is a mistake; among several texts it is allowed.

    Raises:
        ValueError: the only text has no blank.
    """
    if len(texts) == 1 and not prompts[0].blanks:
        mask = prompts[0].tokenizer.mask_token
        raise ValueError(
            f"There is nothing to fill in {texts[0]!r}: write {mask} for each unknown token, such as 'The {mask} statement'."
        )
