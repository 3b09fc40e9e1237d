"""Fill the blanks of texts. The text round a blank is cut out of the given string and returns letter for letter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from unmask.contracts import MLMPredictionDict, SpecialIds
from unmask.data.prompts import Prompt
from unmask.decode.lengths import fill_any_length
from unmask.decode.observers.alternatives import Alternatives
from unmask.decode.predictor import MLMPredictor
from unmask.decode.rules import Rules
from unmask.text.batching import in_batches, left_padded, plain_predict
from unmask.text.patterns import fitted, fitted_to_lengths
from unmask.text.results import Alternative, Blank, Filling

RulesFor = Callable[[int], Rules]  # blanks of the row with most -> rules
Predict = Callable[[MLMPredictor, dict[str, Any], list[str]], MLMPredictionDict]
Count = Callable[[int, int, float], None]  # tokens, forward passes, seconds


def fill_texts(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    rules_for: RulesFor,
    *,
    seed: int | None = 0,
    top: int = 5,
    batch_size: int = 64,
    predict: Predict = plain_predict,
    count: Count | None = None,
) -> Iterator[Filling]:
    """Fill texts, a batch at a time.

    Args:
        model: an ``MLMModel`` with parameters.
        tokenizer: a ``Tokenizer`` with a mask token, which marks the blanks.
        texts: each with any number of blanks; a text without any comes back as it is, unless it is the only one.
        rules_for: the decoding rules for a number of blanks.
        seed: of all draws.
        top: candidates to return for every blank.
        batch_size: texts decoded together.
        predict: runs the predictor on a batch; takes short labels of its rows too.
        count: receives tokens, forward passes and seconds of every batch.

    Raises:
        ValueError: no texts, a single one without a blank, or a row longer than the model takes.
    """
    if not texts:
        raise ValueError(
            f"There is no text to fill: give one with a {tokenizer.mask_token}, or lines on standard input."
        )
    prompts = [Prompt.of(tokenizer, text) for text in texts]
    _refuse_a_lone_complete_text(prompts, texts)
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
            found = predict(predictor, batch, [texts[i][:32] for i in open_rows])
            if count is not None:
                count(
                    sum(len(prompts[i].blanks) for i in open_rows), max(found["steps_taken"]), max(found["time_taken"])
                )
            blanks: dict[int, list[Blank]] = {i: [] for i in open_rows}
            for (place, _), (ids, odds) in sorted(alternatives.found.items()):
                best = (Alternative(tokenizer.token_text(t), round(p, 4)) for t, p in zip(ids, odds, strict=True))
                blanks[open_rows[place]].append(Blank(tuple(best)))
            for place, i in enumerate(open_rows):
                row = found["ids"][place, -len(prompts[i].ids) :].tolist()
                filled[i] = Filling(texts[i], prompts[i].filled(row), tuple(blanks[i]), found["steps_taken"][place])
        yield from filled.values()


def fill_unknown_lengths(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    rules_for: RulesFor,
    *,
    longest: int,
    seed: int | None = 0,
    top: int = 5,
    count: Count | None = None,
) -> Iterator[Filling]:
    """Fill the one blank of each text with 1 to ``longest`` tokens, whichever filling is likeliest by its mean log-probability.

    The candidates of the blank are the best fillings of each length, with the geometric mean of their tokens' probabilities.

    Args:
        longest: most tokens of a filling; the other arguments as of :func:`fill_texts`.

    Raises:
        ValueError: ``longest`` below 1, a text with several blanks, or a pattern that no length can match.
    """
    if longest < 1:
        raise ValueError(f"--longest {longest} leaves no room for a token: give 1 or more.")
    rules, special = rules_for(longest), SpecialIds.of(tokenizer)
    prompts = [Prompt.of(tokenizer, text) for text in texts]
    _refuse_a_lone_complete_text(prompts, texts)
    for text, prompt in zip(texts, prompts, strict=True):
        if not prompt.blanks:
            yield Filling(text, text, (), 0)
            continue
        if len(prompt.blanks) != 1:
            raise ValueError(
                f"--longest fills one blank of any length, and {text!r} has {len(prompt.blanks)}: write exactly one {tokenizer.mask_token}."
            )
        row, (place,) = prompt.ids, prompt.blanks
        fitting, lengths = fitted_to_lengths(rules, tokenizer, text, row, range(1, longest + 1))
        if not lengths:
            raise ValueError(
                f"At no length up to {longest} tokens does a filling match the pattern (--regex): raise --longest, or change the pattern."
            )
        device = next(model.parameters()).device
        tried = fill_any_length(
            model, row[:place], row[place + 1 :], lengths, fitting, special=special, seed=seed, device=device
        )
        if count is not None:
            count(sum(lengths), tried.decoded.forward_passes, float(tried.decoded.time_taken.max()))
        best = tried.scores.argsort(descending=True)[:top].tolist()
        placed = [tried.decoded.ids[n, place : place + lengths[n]].tolist() for n in best]
        odds = [round(float(tried.scores[n].exp()), 4) for n in best]
        blank = Blank(tuple(Alternative(tokenizer.decode(ids), p) for ids, p in zip(placed, odds, strict=True)))
        yield Filling(text, prompt.filled_with(placed[:1]), (blank,), int(tried.decoded.steps_taken[best[0]]))


def _refuse_a_lone_complete_text(prompts: Sequence[Prompt], texts: Sequence[str]) -> None:
    """Among several texts one may be complete; a single one is a mistake.

    Raises:
        ValueError: the only text has no blank.
    """
    if len(texts) == 1 and not prompts[0].blanks:
        mask = prompts[0].tokenizer.mask_token
        raise ValueError(
            f"There is nothing to fill in {texts[0]!r}: write {mask} where a token is wanted, such as 'The {mask} statement'."
        )
