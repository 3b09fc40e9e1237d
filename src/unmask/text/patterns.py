"""``--regex`` on texts: the automaton of a pattern, and what each text has before its blanks.

A pattern is about the text that comes back. Ids do not show all of it: a mask may have taken the space before it, and word pieces have no
spaces. So the text is looked at, and every place gets a code of ``unmask.decode.logits.constraints``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.decode.logits.automaton import Automaton
    from unmask.decode.rules import Rules


def pattern_automaton(tokenizer: Any, regex: str) -> Automaton:
    """The automaton of a pattern over what this tokenizer's tokens write."""
    from unmask.contracts import SpecialIds
    from unmask.decode.logits.regex import regex_automaton
    from unmask.decode.logits.spelling import Spelling

    return regex_automaton(regex, Spelling.of_tokenizer(tokenizer), SpecialIds.of(tokenizer))


def fitted(
    rules: Rules, tokenizer: Any, texts: Sequence[str], rows: Sequence[Sequence[int]], appended: int = 0
) -> Rules:
    """The rules for a batch of texts, left-padded, with ``appended`` blanks behind each; without a pattern they stay as they are."""
    import torch

    from unmask.decode.logits.automaton import PLAIN, Automaton

    automaton = rules.constraint
    if not isinstance(automaton, Automaton) or not automaton.each_run:
        return rules
    codes = [layout(automaton, tokenizer, text, row, appended) for text, row in zip(texts, rows, strict=True)]
    width = max(map(len, codes), default=0)
    laid = torch.tensor([[PLAIN] * (width - len(row)) + row for row in codes]).view(len(codes), width)
    return replace(rules, constraint=replace(automaton, layout=laid))


def fitted_to_lengths(
    rules: Rules, tokenizer: Any, text: str, row: Sequence[int], lengths: Iterable[int]
) -> tuple[Rules, list[int]]:
    """The rules for the one blank of a text, and of ``lengths`` those that a filling can have. A filling brings its own space where any can."""
    import torch

    from unmask.decode.logits.automaton import BEHIND_SPACE, OWN_SPACE, PLAIN, Automaton

    automaton = rules.constraint
    if not isinstance(automaton, Automaton) or not automaton.each_run:
        return rules, list(lengths)
    place, code = list(row).index(tokenizer.mask_token_id), _begin(tokenizer, text.split(tokenizer.mask_token)[0])
    codes = (OWN_SPACE, BEHIND_SPACE) if code == BEHIND_SPACE and _mask_takes_space(tokenizer) else (code,)
    tried = list(lengths)
    fit = {each: [n for n in tried if automaton.accepts([each, *[PLAIN] * (n - 1)])] for each in codes}
    best = next((each for each in codes if fit[each]), codes[0])
    laid = torch.full((1, len(row) + max(tried, default=1)), PLAIN)
    laid[0, place] = best
    return replace(rules, constraint=replace(automaton, layout=laid)), fit[best]


def layout(automaton: Automaton, tokenizer: Any, text: str, row: Sequence[int], appended: int = 0) -> list[int]:
    """The code of every place of a row, and of ``appended`` blanks behind it. Blanks with nothing but a space between them are one run."""
    from unmask.decode.logits.automaton import BEHIND_SPACE, OWN_SPACE, PLAIN, SILENT

    mask = tokenizer.mask_token_id
    places = [place for place, id in enumerate(row) if id == mask] + [*range(len(row), len(row) + appended)]
    given = text.split(tokenizer.mask_token) + [""] * max(0, appended - 1)
    codes = [PLAIN] * (len(row) + appended)
    if len(given) != len(places) + (appended == 0):
        return codes  # the text is not what the ids were made of
    runs: list[list[int]] = []
    for number, place in enumerate(places):
        before = given[number]
        if number and before in ("", " "):
            codes[place] = BEHIND_SPACE if before else PLAIN
            codes[places[number - 1] + 1 : place] = [SILENT] * (place - places[number - 1] - 1)
            runs[-1].append(place)
        else:
            codes[place] = _begin(tokenizer, before)
            runs.append([place])
    for first, *others in runs:
        if (
            codes[first] == BEHIND_SPACE
            and _mask_takes_space(tokenizer)
            and automaton.accepts([OWN_SPACE, *(codes[place] for place in others)])
        ):
            codes[first] = OWN_SPACE
    return codes


def _begin(tokenizer: Any, before: str) -> int:
    """The code of a run's first blank, by the text in front of it."""
    from unmask.decode.logits.automaton import AT_START, BEHIND_SPACE, INSIDE_WORD, PLAIN

    if not before:
        return AT_START
    if before.endswith(" "):
        return BEHIND_SPACE
    backend = tokenizer.backend
    last = before[-1] if backend.normalizer is None else backend.normalizer.normalize_str(before[-1])
    if before[-1].isspace() or not last:
        return PLAIN
    pieces = [last] if backend.pre_tokenizer is None else backend.pre_tokenizer.pre_tokenize_str(f"a{last}")
    return INSIDE_WORD if len(pieces) == 1 else PLAIN


def _mask_takes_space(tokenizer: Any) -> bool:
    added = tokenizer.backend.get_added_tokens_decoder().get(tokenizer.mask_token_id)
    return added is not None and bool(added.lstrip)
