"""Token classes for the evaluation of instruction traces, with registers that need long memory.

The register popped by an epilogue is the one pushed by the prologue; no token near it determines it.
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
    """``TokenClasses`` with the registers after ``pop`` as a class of their own; numbers are indices into
    ``TRACE_CLASSES``.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.classes: TokenClasses = TokenClasses(tokenizer)
        self._pop = np.array([tokenizer.token_text(id).strip() == "pop" for id in range(len(tokenizer))])

    def __call__(self, ids: Any) -> NDArray[np.int64]:
        """Return the class of every token of rows ``[…, L]``."""
        ids = np.asarray(ids)
        classes = self.classes(ids)
        after_pop = np.zeros(ids.shape, dtype=bool)
        after_pop[..., 1:] = self._pop[ids[..., :-1]]
        return np.where(after_pop & (classes == TRACE_CLASSES.index("register")), TRACE_CLASSES.index(POPPED), classes)
