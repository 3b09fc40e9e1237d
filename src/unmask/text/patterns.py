"""Regular expressions over the text of blanks (``--regex``): the automaton of a pattern, and the context of each blank.

A pattern constrains the returned text, which ids do not determine: a mask token may absorb the space before it, and word pieces
have no spaces. Each position of a row therefore gets a code (``unmask.decode.logits.constraints``) from the text before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unmask.data.tokenizing.tokenizers import Tokenizer
    from unmask.decode.logits.automaton import Automaton
    from unmask.decode.rules import Rules


def pattern_automaton(tokenizer: Tokenizer, regex: str) -> Automaton:
    """Return the automaton of a pattern over the texts of a tokenizer's tokens."""
    from unmask.contracts import SpecialIds
    from unmask.decode.logits.regex import regex_automaton
    from unmask.decode.logits.spelling import Spelling

    return regex_automaton(regex, Spelling.of_tokenizer(tokenizer), SpecialIds.of(tokenizer))


def is_pattern(rules: Rules) -> bool:
    """Tell whether the rules hold a pattern for every blank."""
    from unmask.decode.logits.automaton import Automaton

    return isinstance(rules.constraint, Automaton) and rules.constraint.each_run


def fitted(
    rules: Rules,
    tokenizer: Tokenizer,
    texts: Sequence[str | Sequence[str]],
    rows: Sequence[Sequence[int]],
    appended: int = 0,
) -> Rules:
    """Return the rules for a left-padded batch of texts, with ``appended`` blanks after each; unchanged without a pattern."""
    import torch

    from unmask.decode.logits.automaton import PLAIN, Automaton

    automaton = rules.constraint
    if not isinstance(automaton, Automaton) or not automaton.each_run:
        return rules
    codes = [layout(automaton, tokenizer, text, row, appended) for text, row in zip(texts, rows, strict=True)]
    width = max(map(len, codes), default=0)
    padded = torch.tensor([[PLAIN] * (width - len(row)) + row for row in codes]).view(len(codes), width)
    return replace(rules, constraint=replace(automaton, layout=padded))


def lengths_to_match(rules: Rules, tokenizer: Tokenizer, before: str, lengths: Iterable[int]) -> tuple[int, list[int]]:
    """Return the code of one blank, and the lengths at which a filling can match the pattern; all without a pattern.

    A filling includes the space before it wherever some length allows that.

    Args:
        rules: decoding rules.
        tokenizer: the tokenizer.
        before: the text before the blank.
        lengths: candidate lengths.
    """
    from unmask.decode.logits.automaton import BEHIND_SPACE, OWN_SPACE, PLAIN, Automaton

    automaton = rules.constraint
    if not isinstance(automaton, Automaton) or not automaton.each_run:
        return PLAIN, list(lengths)
    code = _begin(tokenizer, before)
    codes = (OWN_SPACE, BEHIND_SPACE) if code == BEHIND_SPACE and _mask_takes_space(tokenizer) else (code,)
    candidates = list(lengths)
    matching = {each: [n for n in candidates if automaton.accepts([each, *[PLAIN] * (n - 1)])] for each in codes}
    best = next((each for each in codes if matching[each]), codes[0])
    return best, matching[best]


def with_codes(rules: Rules, starts: Sequence[tuple[int, int]], width: int) -> Rules:
    """Return the rules for rows with one blank each, unchanged without a pattern.

    Args:
        rules: decoding rules.
        starts: position of the blank of each row, and its code.
        width: length of the rows.
    """
    import torch

    from unmask.decode.logits.automaton import PLAIN, Automaton

    automaton = rules.constraint
    if not isinstance(automaton, Automaton) or not automaton.each_run:
        return rules
    padded = torch.full((len(starts), width), PLAIN)
    for number, (position, code) in enumerate(starts):
        padded[number, position] = code
    return replace(rules, constraint=replace(automaton, layout=padded))


def layout(
    automaton: Automaton, tokenizer: Tokenizer, text: str | Sequence[str], row: Sequence[int], appended: int = 0
) -> list[int]:
    """Return the code of every position of a row and of ``appended`` blanks after it; ``text`` may be divided at its blanks.

    Blanks that are adjacent or separated by a single space form one run.
    """
    from unmask.decode.logits.automaton import BEHIND_SPACE, OWN_SPACE, PLAIN, SILENT

    mask = tokenizer.mask_token_id
    blanks = [position for position, id in enumerate(row) if id == mask] + [*range(len(row), len(row) + appended)]
    given = text.split(tokenizer.mask_token) if isinstance(text, str) else list(text)
    between = given + [""] * max(0, appended - 1)
    codes = [PLAIN] * (len(row) + appended)
    if len(between) != len(blanks) + (appended == 0):
        return codes  # the ids do not belong to this text
    runs: list[list[int]] = []
    for number, position in enumerate(blanks):
        before = between[number]
        if number and before in ("", " "):
            codes[position] = BEHIND_SPACE if before else PLAIN
            codes[blanks[number - 1] + 1 : position] = [SILENT] * (position - blanks[number - 1] - 1)
            runs[-1].append(position)
        else:
            codes[position] = _begin(tokenizer, before)
            runs.append([position])
    for first, *others in runs:
        if (
            codes[first] == BEHIND_SPACE
            and _mask_takes_space(tokenizer)
            and automaton.accepts([OWN_SPACE, *(codes[position] for position in others)])
        ):
            codes[first] = OWN_SPACE
    return codes


def _begin(tokenizer: Tokenizer, before: str) -> int:
    """Return the code of the first blank of a run from the text before it."""
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


def _mask_takes_space(tokenizer: Tokenizer) -> bool:
    if tokenizer.mask_token_id is None:
        return False
    added = tokenizer.backend.get_added_tokens_decoder().get(tokenizer.mask_token_id)
    return added is not None and bool(added.lstrip)
