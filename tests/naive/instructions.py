"""Instructions read one token at a time: where each token stands, and which tokens make an operand."""

from __future__ import annotations


def places(ids: list[int], real: list[bool], segments: list[int], next_id: int) -> list[tuple[int, int]]:
    """(instruction, argument) of every token of a row; (0, 0) at padding."""
    found = []
    instruction = argument = 0
    segment = None
    for id, is_real, here in zip(ids, real, segments, strict=True):
        if not is_real:
            found.append((0, 0))
            continue
        if here != segment:
            instruction, argument, segment = 0, 0, here
        found.append((instruction, argument))
        argument += 1
        if id == next_id:
            instruction, argument = instruction + 1, 0
    return found


def operands(words: list[str], leads: set[str]) -> list[list[str]]:
    """The operands of one instruction, brackets with what is inside them and a leading word with what follows it."""
    found: list[list[str]] = []
    depth, joined = 0, False
    for word in words:
        if depth == 0 and not joined:
            found.append([])
        found[-1].append(word)
        depth += word == "["
        depth -= word == "]"
        joined = word in leads
    return found
