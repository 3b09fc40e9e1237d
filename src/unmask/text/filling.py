"""Fill the blanks of texts. The text around a blank is copied from the given string, never decoded from ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from unmask.contracts import MLMModel, MLMPredictionDict, SpecialIds
from unmask.data.prompts import Prompt
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.decode.lengths import fill_any_length
from unmask.decode.observers.alternatives import Alternatives
from unmask.decode.predictor import MLMPredictor
from unmask.decode.rules import Rules
from unmask.devices import device_of
from unmask.text.batching import in_batches, left_padded, plain_predict
from unmask.text.patterns import fitted, fitted_to_lengths
from unmask.text.results import Alternative, Blank, Filling

RulesFor = Callable[[int], Rules]
"""Largest number of blanks in a row -> decoding rules."""
Predict = Callable[[MLMPredictor, dict[str, Any], list[str]], MLMPredictionDict]
"""Predictor, batch and labels of its rows -> decoded batch."""
Count = Callable[[int, int, float], None]
"""Callback for the tokens, forward passes and seconds of a batch."""


def fill_texts(
    model: MLMModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    rules_for: RulesFor,
    *,
    seed: int | None = 0,
    top: int = 5,
    batch_size: int = 64,
    predict: Predict = plain_predict,
    count: Count | None = None,
) -> Iterator[Filling]:
    """Fill the blanks of texts, a batch at a time.

    Args:
        model: the network.
        tokenizer: its tokenizer; the mask token marks the blanks.
        texts: texts with any number of blanks. A text without a blank is returned unchanged, unless it is the only one.
        rules_for: decoding rules for a number of blanks.
        seed: random seed of the samples.
        top: number of candidates to return for every blank.
        batch_size: texts decoded together.
        predict: function that decodes a batch.
        count: callback for the tokens, forward passes and seconds of every batch.

    Raises:
        ValueError: no texts, a single text without a blank, or a row longer than the ``max_length`` of the model.
    """
    if not texts:
        raise ValueError(
            f"There is no text to fill: give one with a {tokenizer.mask_token}, or lines on standard input."
        )
    prompts = [Prompt.of(tokenizer, text) for text in texts]
    _require_a_blank(prompts, texts)
    rules = rules_for(max(1, *(len(prompt.blanks) for prompt in prompts)))
    predictor = MLMPredictor(rules.max_steps, None, tokenizer, model, rules=rules, seed=seed)
    for numbers in in_batches(len(prompts), batch_size):
        filled = {i: Filling(texts[i], texts[i], (), 0) for i in numbers}
        open_rows = [i for i in numbers if prompts[i].blanks]
        if open_rows:
            alternatives = Alternatives(top)
            predictor.observers = (alternatives,)
            predictor.rules = fitted(
                rules, tokenizer, [texts[i] for i in open_rows], [prompts[i].ids for i in open_rows]
            )
            batch = left_padded([prompts[i].ids for i in open_rows], tokenizer.pad_token_id or 0, open_rows)
            decoded = predict(predictor, batch, [texts[i][:32] for i in open_rows])
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
                filled[i] = Filling(texts[i], prompts[i].filled(output), tuple(blanks[i]), decoded["steps_taken"][row])
        yield from filled.values()


def fill_unknown_lengths(
    model: MLMModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    rules_for: RulesFor,
    *,
    longest: int,
    seed: int | None = 0,
    top: int = 5,
    count: Count | None = None,
) -> Iterator[Filling]:
    """Fill the one blank of each text with 1 to ``longest`` tokens.

    Every length is decoded, and the filling with the highest mean log-probability per token is returned. The candidates of
    the blank are the best filling of each length, with the geometric mean of its token probabilities.

    Args:
        longest: largest length of a filling, in tokens. The other arguments are those of :func:`fill_texts`.

    Raises:
        ValueError: ``longest`` below 1, a text with several blanks, or a pattern that no length can match.
    """
    if longest < 1:
        raise ValueError(f"--longest {longest} is too small: choose 1 token or more.")
    rules, special = rules_for(longest), SpecialIds.of(tokenizer)
    prompts = [Prompt.of(tokenizer, text) for text in texts]
    _require_a_blank(prompts, texts)
    for text, prompt in zip(texts, prompts, strict=True):
        if not prompt.blanks:
            yield Filling(text, text, (), 0)
            continue
        if len(prompt.blanks) != 1:
            raise ValueError(
                f"--longest fills one blank per text, and {text!r} has {len(prompt.blanks)}: write exactly one {tokenizer.mask_token}."
            )
        row, (position,) = prompt.ids, prompt.blanks
        fitting, lengths = fitted_to_lengths(rules, tokenizer, text, row, range(1, longest + 1))
        if not lengths:
            raise ValueError(
                f"No filling of up to {longest} tokens matches the pattern (--regex): raise --longest, or change the pattern."
            )
        decodes = fill_any_length(
            model,
            row[:position],
            row[position + 1 :],
            lengths,
            fitting,
            special=special,
            seed=seed,
            device=device_of(model),
        )
        if count is not None:
            count(sum(lengths), decodes.decoded.forward_passes, float(decodes.decoded.time_taken.max()))
        best = decodes.scores.argsort(descending=True)[:top].tolist()
        fillings = [decodes.decoded.ids[n, position : position + lengths[n]].tolist() for n in best]
        probabilities = [round(float(decodes.scores[n].exp()), 4) for n in best]
        candidates = zip(fillings, probabilities, strict=True)
        blank = Blank(tuple(Alternative(tokenizer.decode(ids), p) for ids, p in candidates))
        yield Filling(text, prompt.filled_with(fillings[:1]), (blank,), int(decodes.decoded.steps_taken[best[0]]))


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
