"""What a model of instruction traces is asked about: the classes of tokens, and registers that take a long memory.

A register that an epilogue pops is the one that the prologue pushed: nothing near it says which.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.data.traces.classes import TOKEN_CLASSES, TokenClasses

POPPED = "popped register"
TRACE_CLASSES = (*TOKEN_CLASSES, POPPED)


class TraceClasses:
    """``TokenClasses`` with the registers after ``pop`` set apart; numbers are places in ``TRACE_CLASSES``."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.classes = TokenClasses(tokenizer)
        self._pop = np.array([tokenizer.token_text(id).strip() == "pop" for id in range(len(tokenizer))])

    def __call__(self, ids: Any) -> NDArray[np.int64]:
        """The class of every token of rows ``[…, L]``."""
        ids = np.asarray(ids)
        found = self.classes(ids)
        after_pop = np.zeros(ids.shape, dtype=bool)
        after_pop[..., 1:] = self._pop[ids[..., :-1]]
        return np.where(after_pop & (found == TRACE_CLASSES.index("register")), TRACE_CLASSES.index(POPPED), found)
