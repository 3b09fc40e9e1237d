"""What of a trace is hidden together: its operands or its instructions, from the tokenizer of the traces."""

from __future__ import annotations

from typing import Any, Literal

import torch

from unmask.data.traces.classes import TOKEN_CLASSES, TokenClasses
from unmask.ops.instructions import WholeInstructions, WholeOperands

_LEADING = TOKEN_CLASSES.index("size")  # and `rel`, which says that the integer after it is a distance


def trace_granularity(tokenizer: Any, grain: Literal["operand", "instruction"]) -> WholeOperands | WholeInstructions:
    """The units of a corruption (``unmask.ops.corruption.whole_words``) over traces.

    Args:
        tokenizer: of traces (``unmask.data.traces.trace_tokenizer``).
        grain: ``"operand"`` = a mnemonic, a register, an integer, all of ``dword [ rbp - 4 ]``; ``"instruction"`` = up to
            ``[NEXT]``.

    Raises:
        ValueError: the tokenizer has no ``[NEXT]``.
    """
    next_id = require_next(tokenizer, f"objective.granularity={grain}")
    if grain == "instruction":
        return WholeInstructions(next_id)
    texts = [tokenizer.token_text(id) for id in range(len(tokenizer))]

    def where(*words: str) -> torch.Tensor:
        return torch.tensor([text.strip() in words for text in texts])

    spaced = torch.tensor([text.startswith(" ") for text in texts])
    leads = torch.from_numpy(TokenClasses(tokenizer).by_id == _LEADING) | where("rel")
    return WholeOperands(next_id, spaced & ~where("!"), where("[", "{"), where("]", "}"), leads)


def require_next(tokenizer: Any, wanted_by: str) -> int:
    """The id of ``[NEXT]``, or a ``ValueError`` that says what needs it."""
    found = getattr(tokenizer, "next_token_id", None)
    if found is None:
        raise ValueError(
            f"{wanted_by} is about instructions, and this tokenizer has no [NEXT] token to tell them apart. Train on instruction traces "
            "(`unmask disassemble PATH -o traces.parquet`), whose tokenizer has one, or leave the setting at its default."
        )
    return int(found)
