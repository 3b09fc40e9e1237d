"""Masking granularity of traces: whole operands or whole instructions."""

from __future__ import annotations

from typing import Any, Literal

import torch

from unmask.data.traces.classes import TOKEN_CLASSES, TokenClasses
from unmask.ops.instructions import WholeInstructions, WholeOperands

_LEADING = TOKEN_CLASSES.index("size")  # beside `rel`, the prefix of a distance


def trace_granularity(
    tokenizer: Any, granularity: Literal["operand", "instruction"]
) -> WholeOperands | WholeInstructions:
    """Return the masking granularity of a corruption over traces, for ``unmask.ops.corruption.whole_words``.

    Args:
        tokenizer: a trace tokenizer (``unmask.data.traces.trace_tokenizer``).
        granularity: ``"operand"``: a mnemonic, a register, an integer, all of ``dword [ rbp - 4 ]``. ``"instruction"``:
            everything up to ``[NEXT]``.

    Raises:
        ValueError: the tokenizer has no ``[NEXT]``.
    """
    next_id = require_next(tokenizer, f"objective.granularity={granularity}")
    if granularity == "instruction":
        return WholeInstructions(next_id)
    texts = [tokenizer.token_text(id) for id in range(len(tokenizer))]

    def where(*words: str) -> torch.Tensor:
        return torch.tensor([text.strip() in words for text in texts])

    spaced = torch.tensor([text.startswith(" ") for text in texts])
    leads = torch.from_numpy(TokenClasses(tokenizer).by_id == _LEADING) | where("rel")
    return WholeOperands(next_id, spaced & ~where("!"), where("[", "{"), where("]", "}"), leads)


def require_next(tokenizer: Any, setting: str) -> int:
    """Return the id of ``[NEXT]``.

    Args:
        tokenizer: any tokenizer.
        setting: the setting that requires the token, for the error message.

    Raises:
        ValueError: the tokenizer has no such token.
    """
    next_id = getattr(tokenizer, "next_token_id", None)
    if next_id is None:
        raise ValueError(
            f"{setting} applies to instructions, but this tokenizer has no [NEXT] token between them. Train on "
            "instruction traces (`unmask disassemble PATH -o traces.parquet`), whose tokenizer has one, or leave the "
            "setting at its default."
        )
    return int(next_id)
