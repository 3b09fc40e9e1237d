"""Symmetries of sudoku: other puzzles of the same difficulty, drawn by keys.

Digits are renamed; bands, rows within a band, stacks and columns within a stack are permuted; grids of square boxes are
also transposed. A 9 × 9 puzzle has up to 1.2e12 such copies. Copy ``i`` is a pure function of its key.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Int
from torch import Tensor

from unmask.randomness import fold, uniform

_ROWS, _COLUMNS, _NAMES, _TURN = 1, 2, 3, 4


def box_of(cells: int) -> tuple[int, int]:
    """Return height and width of a box of a grid with this many cells.

    Raises:
        ValueError: no grid of 4 × 4, 6 × 6 or 9 × 9.
    """
    boxes = {16: (2, 2), 36: (2, 3), 81: (3, 3)}
    if cells not in boxes:
        raise ValueError(f"A sudoku has 16, 36 or 81 cells, and this row has {cells} tokens.")
    return boxes[cells]


def _lines(keys: Tensor, side: int, within: int) -> Tensor:
    """Return a permutation of the lines ``[N, side]`` that keeps bands of ``within`` lines together."""
    bands = side // within
    number = torch.arange(side).expand(len(keys), side)
    inside = uniform(fold(fold(keys, 1)[:, None].expand_as(number), number)).view(-1, bands, within).argsort(-1)
    band = torch.arange(bands).expand(len(keys), bands)
    order = uniform(fold(fold(keys, 2)[:, None].expand_as(band), band)).argsort(-1)
    lines = inside.gather(1, order[..., None].expand_as(inside)) + order[..., None] * within
    return lines.reshape(len(keys), side)


def symmetric_places(keys: Int[Tensor, " rows"], cells: int) -> Int[Tensor, "rows cells"]:
    """Return the cell that each cell of a copy is taken from, ``[N, cells]``."""
    height, width = box_of(cells)
    side = math.isqrt(cells)
    rows, columns = _lines(fold(keys, _ROWS), side, height), _lines(fold(keys, _COLUMNS), side, width)
    place = rows[:, :, None] * side + columns[:, None, :]
    if height == width:
        turned = (uniform(fold(keys, _TURN)) < 0.5)[:, None, None]
        place = torch.where(turned, place.transpose(1, 2), place)
    return place.reshape(len(keys), cells)


def symmetric_names(keys: Int[Tensor, " rows"], side: int) -> Int[Tensor, "rows side"]:
    """Return the new name of each digit, from 0, ``[N, side]``."""
    digit = torch.arange(side).expand(len(keys), side)
    return uniform(fold(fold(keys, _NAMES)[:, None].expand_as(digit), digit)).argsort(-1)


class SudokuAugmentation:
    """Replace rows of a supervised store by symmetric copies, new ones in every epoch (``data.augment=sudoku``).

    Args:
        digits: ids of the digits 1 to ``side``, in order.

    Raises:
        ValueError: rows (without their EOS) that are no sudoku with these digits.
    """

    def __init__(self, digits: list[int]) -> None:
        self.digits = torch.tensor(digits)

    def __call__(
        self, ids: Int[Tensor, "rows seq"], flags: Int[Tensor, "rows seq"], keys: Int[Tensor, " rows"]
    ) -> tuple[Tensor, Tensor]:
        """Return the copies of ids and flags; the last token of a row, EOS, stays.

        Args:
            ids, flags: int64 ``[N, cells + 1]``.
            keys: int64 ``[N]``.
        """
        cells = ids.shape[1] - 1
        height, width = box_of(cells)
        side = height * width
        place = symmetric_places(keys, cells)
        known = self.digits[:side]
        name = torch.full((int(max(ids.max(), known.max())) + 1,), -1)
        name[known] = torch.arange(side)
        digit = name[ids[:, :cells]]
        if (digit < 0).any():
            raise ValueError(
                "data.augment=sudoku is for rows of digits, and a row has another token. Leave the key out."
            )
        renamed = known[symmetric_names(keys, side).gather(1, digit.gather(1, place))]
        return torch.cat([renamed, ids[:, cells:]], 1), torch.cat(
            [flags[:, :cells].gather(1, place), flags[:, cells:]], 1
        )
