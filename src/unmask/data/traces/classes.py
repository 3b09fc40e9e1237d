"""The class of each token of a trace, for reports by class.

    mnemonic   the first word of an instruction, and the one after a prefix (``rep stosq``, ``lock xadd``)
    register   rax, xmm0, v0.16b, …      immediate   the groups of an integer and its sign
    bracket    [ ] { } ( ) !             operator    + - * inside brackets
    size       byte, dword, xmmword, …   special     [MASK], [NEXT] and the like
    other      rel, ext, shifts, conditions, and the pieces of words outside the vocabulary

Most classes depend on the id alone. A mnemonic depends on its position, so rows are classified as a whole. Ids are
integer ``[…, L]``.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmask.data.tokenizing.tokenizers import Tokenizer

TOKEN_CLASSES = ("special", "mnemonic", "register", "immediate", "bracket", "operator", "size", "other")
_SPECIAL, _MNEMONIC, _IMMEDIATE = (TOKEN_CLASSES.index(name) for name in ("special", "mnemonic", "immediate"))

_SIZES = frozenset(
    ["byte", "word", "dword", "fword", "qword", "tbyte", "xword", "oword", "xmmword", "ymmword", "zmmword"]
)
_PREFIXES = frozenset(
    ["rep", "repe", "repz", "repne", "repnz", "lock", "xacquire", "xrelease", "notrack", "bnd", "data16", "addr32"]
)
_REGISTER = re.compile(
    r"[re]?(?:[abcd]x|[sd]i|[sb]p|ip)|[abcd][lh]|(?:[sd]i|[sb]p)l|[cdefgs]s|r(?:[89]|1[0-5])[bwd]?|[er]?flags|[er]iz"
    r"|[xyz]?mm(?:[12]?[0-9]|3[01])|st(?:[0-7]|\([0-7]\))?|bnd[0-3]|[cd]r(?:[0-9]|1[0-5])|fp[0-7]|k[0-7]"
    r"|[xwvbhsdqzp](?:[12]?[0-9]|3[01])(?:\.(?:[0-9]{0,2}[bhsdq]))?(?:/[mz])?|[xw]zr|wsp|fp|lr|nzcv|fpcr|fpsr|ffr|za[bdhqs]?[0-9]*(?:\.[bhsdq])?"
)


class TokenClasses:
    """Classes of the tokens of a trace tokenizer.

    Args:
        tokenizer: a trace tokenizer.

    Attributes:
        by_id: int64 ``[V]``, index into ``TOKEN_CLASSES`` regardless of position; a mnemonic is ``other``.

    Examples:
        >>> from unmask.data.traces.classes import TokenClasses
        >>> from unmask.data.traces.trace_tokenizer import trace_tokenizer
        >>> tokenizer = trace_tokenizer(["mov eax 7 [NEXT] ret"] * 2)
        >>> TokenClasses(tokenizer).names(tokenizer.encode("mov eax 7"))
        ['mnemonic', 'register', 'immediate']
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        special = set(tokenizer.all_special_ids)
        texts = [tokenizer.token_text(id) for id in range(len(tokenizer))]
        self.by_id: NDArray[Any] = np.array(
            [_SPECIAL if id in special else _class_of(text.strip()) for id, text in enumerate(texts)]
        )
        self._ends_instruction = np.array([id in special and id != tokenizer.mask_token_id for id in range(len(texts))])
        self._spaced = np.array([text.startswith(" ") for text in texts])
        self._prefix = np.array([text.strip() in _PREFIXES for text in texts])
        self._digits = np.array([text.isascii() and text.isdigit() for text in texts])
        self._sign = np.array([text in ("-", " -") for text in texts])

    def __call__(self, ids: Any) -> NDArray[np.int64]:
        """Return the class of every token's word, int64 ``[…, L]``.

        An instruction begins at the start of a row and after every special token except the mask.

        Args:
            ids: integer ``[…, L]``.
        """
        ids = np.asarray(ids)
        classes = self.by_id[ids]
        special = classes == _SPECIAL
        first = np.ones(ids.shape, dtype=bool)  # of an instruction
        first[..., 1:] = self._ends_instruction[ids[..., :-1]]
        begins = first | special | self._spaced[ids]  # a word
        negative = self._sign[ids[..., :-1]] & self._digits[ids[..., 1:]] & ~begins[..., 1:]
        classes[..., :-1][negative] = _IMMEDIATE
        mnemonic = first & ~special
        for _ in range(2):  # prefixes
            mnemonic[..., 1:] |= mnemonic[..., :-1] & self._prefix[ids[..., :-1]] & ~special[..., 1:]
        classes[mnemonic] = _MNEMONIC
        beginning = np.maximum.accumulate(np.where(begins, np.arange(ids.shape[-1]), 0), axis=-1)
        return np.take_along_axis(classes, beginning, axis=-1)

    def names(self, ids: Any) -> list[str]:
        """Return the names of the classes of one row."""
        return [TOKEN_CLASSES[number] for number in self(ids)]


def _class_of(text: str) -> int:
    return TOKEN_CLASSES.index(_class_name(text))


def _class_name(text: str) -> str:
    if text.isascii() and text.isdigit():
        return "immediate"
    if text in ("+", "-", "*"):
        return "operator"
    if text and set(text) <= set("[]{}()!"):
        return "bracket"
    if text in _SIZES:
        return "size"
    return "register" if _REGISTER.fullmatch(text) else "other"
