"""Instructions in rows of tokens: traces such as ``push rbp [NEXT] mov eax dword [ rbp - 4 ]``.

``[NEXT]`` is the last token of an instruction. Two numbers give the position of a token

    push  rbp  [NEXT]   mov  eax  dword  [  rbp  -  4  ]
     0     0     0       1    1     1    1   1   1  1  1      instruction
     0     1     2       0    1     2    3   4   5  6  7      argument

and restart with every segment of a packed row. Both are counted over real tokens in one pass over the batch. A masked
``[NEXT]`` would shift them; collators never mask one.

Instructions and operands are also units of masking (``Corruption.granularity``):

    push | rbp | [NEXT]   mov | eax | dword [ rbp - 4 ]                                            operands
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unmask.ops.segments import segment_starts

InstructionPositions = tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]


def instruction_positions(
    ids: Int[Tensor, "batch seq"],
    next_token_id: int,
    attention_mask: Bool[Tensor, "batch seq"] | None = None,
    segment_ids: Int[Tensor, "batch seq"] | None = None,
) -> InstructionPositions:
    """Return the instruction and argument index of every token.

    Args:
        ids: int64 ``[B, L]``.
        next_token_id: id of ``[NEXT]``.
        attention_mask: True = real token; others are not counted. None = all are real.
        segment_ids: packed rows: both indices restart at every segment.

    Returns:
        Two int64 ``[B, L]``; 0 at padding.
    """
    real = torch.ones_like(ids, dtype=torch.bool) if attention_mask is None else attention_mask
    ends = real & (ids == next_token_id)
    place = real.long().cumsum(-1) - real.long()  # real tokens before this one
    instruction = ends.long().cumsum(-1) - ends.long()
    begin = torch.where(ends, place + 1, 0).cummax(-1).values  # of the instruction after this token
    begin = torch.cat([torch.zeros_like(begin[:, :1]), begin[:, :-1]], dim=-1)
    if segment_ids is not None:
        fresh = segment_starts(segment_ids)
        instruction = instruction - torch.where(fresh, instruction, 0).cummax(-1).values
        begin = torch.maximum(begin, torch.where(fresh, place, 0).cummax(-1).values)
    return instruction * real, (place - begin) * real


def _first_of_unit(starts: Bool[Tensor, "batch seq"]) -> Int[Tensor, "batch seq"]:
    """Return the index of the last start at or before each position; a row starts with a unit."""
    index = torch.arange(starts.shape[1], device=starts.device).expand(starts.shape)
    return torch.where(starts, index, 0).cummax(-1).values


def _instruction_starts(ids: Tensor, next_token_id: int, eligible: Tensor) -> Tensor:
    """Return True after every ``[NEXT]`` and wherever eligibility changes."""
    starts = torch.ones_like(eligible)
    starts[:, 1:] = (ids[:, :-1] == next_token_id) | (eligible[:, 1:] != eligible[:, :-1])
    return starts


@dataclass(frozen=True)
class WholeInstructions:
    """Granularity of instructions, without their ``[NEXT]``.

    Attributes:
        next_token_id: id of ``[NEXT]``.
    """

    next_token_id: int

    def __call__(self, ids: Int[Tensor, "batch seq"], eligible: Bool[Tensor, "batch seq"]) -> Int[Tensor, "batch seq"]:
        """Return the index of the first token of each token's instruction."""
        return _first_of_unit(_instruction_starts(ids, self.next_token_id, eligible))


@dataclass(frozen=True, eq=False)
class WholeOperands:
    """Granularity of mnemonics and operands: a register, a signed integer, all of ``dword [ rbp - 4 ]``, ``rel 14``.

    Attributes:
        next_token_id: id of ``[NEXT]``.
        starts_word: bool ``[V]``, True = the token begins a word; others continue one.
        opens, closes: bool ``[V]``, brackets.
        leads: bool ``[V]``, True = the word belongs to the operand after it (``dword``, ``rel``).
    """

    next_token_id: int
    starts_word: Bool[Tensor, " vocab"]
    opens: Bool[Tensor, " vocab"]
    closes: Bool[Tensor, " vocab"]
    leads: Bool[Tensor, " vocab"]

    def __call__(self, ids: Int[Tensor, "batch seq"], eligible: Bool[Tensor, "batch seq"]) -> Int[Tensor, "batch seq"]:
        """Return the index of the first token of each token's operand."""
        edges = _instruction_starts(ids, self.next_token_id, eligible)
        opened = (self.opens[ids].long() - self.closes[ids].long()).cumsum(-1)
        before = torch.cat([torch.zeros_like(opened[:, :1]), opened[:, :-1]], dim=-1)
        # A bracket that is masked or outside the window affects its own instruction only.
        inside = before > before.gather(-1, _first_of_unit(edges))
        starts = self.starts_word[ids] & ~inside
        starts[:, 1:] &= ~self.leads[ids[:, :-1]]
        return _first_of_unit(starts | edges)
