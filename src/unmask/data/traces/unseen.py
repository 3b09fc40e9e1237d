"""Detect words of a prompt that are not in the vocabulary of a trace tokenizer, and suggest a likelier spelling.

The tokenizer spells such words in bytes, so filling raises no error but means little. Most come from another notation.
Intel syntax (``mov eax, dword ptr [rbp-0x4]``) can be rewritten word by word. AT&T syntax (``movl -4(%rbp), %eax``) is
refused, because its operands have the opposite order.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from unmask.data.traces.instruction_text import InstructionText

_AT_AND_T = re.compile(r"(?:(?<![^\s,(*])%[a-z]{2}[a-z0-9]*\b|(?<![^\s,*])\$-?(?:0x[0-9a-f]+|[0-9]+)\b)", re.IGNORECASE)
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_TIGHT_SIGN = re.compile(r"(?<=[\w\]])([+\-*])(?=\w)")  # rbp-4 in brackets
_ALWAYS_WORDS = frozenset([" 0", " 999", " [", " ]"])  # in every trace vocabulary
_MOST_NAMED = 8


def unseen_words(tokenizer: Any, texts: Iterable[str]) -> str | None:
    """Return a warning about words that are not in a trace tokenizer's vocabulary.

    Args:
        tokenizer: any tokenizer; only trace tokenizers (``unmask.data.traces.trace_tokenizer``) are checked.
        texts: prompts.

    Returns:
        One paragraph, or None without such words.

    Raises:
        ValueError: a text is in AT&T syntax.
    """
    if getattr(tokenizer, "next_token_id", None) is None:
        return None
    spaced = [text for text in map(tokenizer.token_text, range(len(tokenizer))) if text.startswith(" ")]
    if not set(spaced) >= _ALWAYS_WORDS:
        return None
    known = {text[1:] for text in spaced}
    special = re.compile(
        "|".join(re.escape(text) for text in sorted(tokenizer.special_tokens.values(), key=len, reverse=True))
    )
    unseen: dict[str, None] = {}
    for text in texts:
        plain = special.sub(" ", text)
        match = _AT_AND_T.search(plain)
        if match is not None and match[0] not in known:
            raise ValueError(
                f"{match[0]!r} is AT&T syntax, the default of objdump, but traces have Intel's order: the destination "
                "first, without % and $, every sign a word. For `movl $0x10,-4(%rbp)` write `mov dword [ rbp - 4 ] "
                "16`; `unmask disassemble FILE -o traces.parquet` writes complete traces."
            )
        for word in plain.split():
            hexadecimal = word.lower().startswith("0x")
            if hexadecimal or not (word in known or word[0].isdigit() or _NUMBER.fullmatch(word)):
                unseen.setdefault(word)
    if not unseen:
        return None
    named = [f"{word!r}{_suggestion(word, known)}" for word in list(unseen)[:_MOST_NAMED]]
    more = f" and {len(unseen) - len(named)} more" if len(unseen) > len(named) else ""
    return (
        f"These words are rare or absent in the model's training data: {', '.join(named)}{more}. They are spelled in "
        "bytes, and tokens filled beside them are unreliable."
    )


def _suggestion(word: str, known: set[str]) -> str:
    if word.lower() == "ptr":
        return " (leave it out)"
    respelled = InstructionText("x86-64").words(_TIGHT_SIGN.sub(r" \1 ", word.lower()))
    if respelled and respelled != [word] and all(part in known or _NUMBER.fullmatch(part) for part in respelled):
        return f" (write {' '.join(respelled)!r})"
    words = [w for w in known if not w.isdigit()]
    close = difflib.get_close_matches(word.lower(), sorted(words), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""
