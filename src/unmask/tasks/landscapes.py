"""Landscapes at a lake: generated pictures of 16 × 16 cells, with rules that can be checked cell by cell.

    sky    day, dusk or night, one third each; dusk has two bands, night has stars
    light  a sun or a moon of 2 × 2 cells, matching the hour
    land   mountains behind hills; both change by at most one cell from column to column; summits have snow
    lake   the five lowest rows mirror the five above them, in wet colours; stars are not mirrored

:func:`laws` checks the rules. Picture ``i`` is a pure function of ``(seed, i)``.

Shapes: ids int64 ``[N, 256]``, cells in reading order.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unmask.randomness import fold, row_keys, uniform

SIDE, SHORE = 16, 11  # rows 0 to 10 are in the air, 11 to 15 are water
DAY, DUSK_HIGH, DUSK_LOW, NIGHT, SUN, LOW_SUN, MOON, STAR, MOUNTAIN, SNOW, HILL = range(11)
WET = {DAY: 11, DUSK_LOW: 12, NIGHT: 13, STAR: 13, MOUNTAIN: 14, SNOW: 15, HILL: 16}
COLOURS = 17  # ids 0 to 16
PALETTE = (
    (126, 196, 238), (116, 78, 140), (244, 150, 104), (22, 28, 66), (255, 222, 74), (255, 96, 64), (240, 240, 222), (250, 244, 180),
    (98, 104, 132), (248, 250, 252), (58, 122, 84), (96, 160, 206), (200, 116, 92), (16, 22, 52), (74, 82, 108), (206, 214, 222), (44, 94, 72),
)  # fmt: skip
LAWS = ("sky", "light", "land", "lake")
_BAND, _SNOW_FROM = 4, 6
_MOUNTAIN, _HILL = (3, 6), (1, 2)


def pictures(count: int, seed: int = 0, first: int = 0) -> Int[Tensor, "count cells"]:
    """Return pictures number ``first .. first + count - 1`` of a seed."""
    keys = row_keys(seed, 0, torch.arange(first, first + count))

    def chance(name: int, *shape: int) -> Tensor:
        """Return uniforms ``[count, *shape]`` of the stream ``name``."""
        size = int(torch.tensor(shape).prod()) if shape else 1
        own = fold(fold(keys, name)[:, None].expand(count, size), torch.arange(size).expand(count, size))
        return uniform(own).view(count, *shape)

    hour = (chance(1) * 3).long()
    row, column = torch.arange(SIDE), torch.arange(SIDE)
    dusk = torch.where(row < _BAND, DUSK_HIGH, DUSK_LOW)[None, :, None].expand(count, SIDE, SIDE)
    night = torch.where(chance(2, SIDE, SIDE) < 1 / 16, STAR, NIGHT)
    cells = torch.where((hour == 0)[:, None, None], DAY, torch.where((hour == 1)[:, None, None], dusk, night))

    top, left = 1 + (chance(3) * 3).long(), 1 + (chance(4) * 13).long()
    inside = ((row - top[:, None]) // 2 == 0)[:, :, None] & ((column - left[:, None]) // 2 == 0)[:, None, :]
    cells = torch.where(inside, torch.tensor([SUN, LOW_SUN, MOON])[hour][:, None, None], cells)

    for name, colour, (low, high) in ((5, MOUNTAIN, _MOUNTAIN), (6, HILL, _HILL)):
        height = _walk(chance(name, SIDE), low, high)
        depth = SHORE - row[:, None]  # height above the water, from 1 at the shore
        cells = torch.where((depth >= 1) & (depth <= height[:, None, :]), colour, cells)
        if colour == MOUNTAIN:
            cells = torch.where((depth == height[:, None, :]) & (height >= _SNOW_FROM)[:, None, :], SNOW, cells)
    return _mirrored(cells).flatten(1)


def _walk(chance: Tensor, low: int, high: int) -> Int[Tensor, "count columns"]:
    """Return heights with a uniform start and steps of -1, 0 or 1, kept within bounds."""
    height = [low + (chance[:, 0] * (high - low + 1)).long()]
    for step in chance[:, 1:].unbind(1):
        height.append((height[-1] + (step * 3).long() - 1).clamp(low, high))
    return torch.stack(height, 1)


def _mirrored(cells: Int[Tensor, "count height width"]) -> Int[Tensor, "count height width"]:
    """Return the cells with the water computed from the land and sky above it."""
    wet = torch.full((COLOURS + 1,), -1)
    wet[list(WET)] = torch.tensor(list(WET.values()))
    above = cells[:, 2 * SHORE - SIDE : SHORE].flip(1)
    return torch.cat([cells[:, :SHORE], wet[above.clamp(0, COLOURS)]], 1)


def laws(ids: Int[Tensor, "count cells"]) -> dict[str, Bool[Tensor, " count"]]:
    """Return which pictures follow each rule of ``LAWS``, and ``"all"``; ids other than colours break the rules they
    touch.
    """
    cells = ids.view(-1, SIDE, SIDE)
    air = cells[:, :SHORE]
    row = torch.arange(SHORE)[:, None]

    def every(what: Tensor) -> Tensor:
        return what.flatten(1).all(-1)

    is_sky = torch.isin(air, torch.tensor([DAY, DUSK_HIGH, DUSK_LOW, NIGHT, STAR]))
    banded = torch.where(row < _BAND, DUSK_HIGH, DUSK_LOW)
    hours = [~is_sky | (air == DAY), ~is_sky | (air == banded), ~is_sky | (air == NIGHT) | (air == STAR)]
    at_hour = torch.stack([every(h) for h in hours], 1)  # (N, 3)
    sky = at_hour.any(1)

    is_light = torch.isin(air, torch.tensor([SUN, LOW_SUN, MOON]))
    squares = is_light[:, :-1, :-1] & is_light[:, 1:, :-1] & is_light[:, :-1, 1:] & is_light[:, 1:, 1:]
    right_one = torch.stack([every(~is_light | (air == colour)) for colour in (SUN, LOW_SUN, MOON)], 1)
    light = (is_light.sum((1, 2)) == 4) & (squares.sum((1, 2)) == 1) & (right_one & at_hour).any(1)

    hill, mountain = (air == HILL), (air == MOUNTAIN) | (air == SNOW)
    hill_height, height = hill.sum(1), (hill | mountain).sum(1)
    depth = SHORE - row
    stacked = every(hill == (depth <= hill_height[:, None])) & every((hill | mountain) == (depth <= height[:, None]))
    snowy = every((air == SNOW) == ((depth == height[:, None]) & (height >= _SNOW_FROM)[:, None]))
    land = stacked & snowy
    for line, (low, high) in ((hill_height, _HILL), (height, _MOUNTAIN)):
        land = land & every((line >= low) & (line <= high)) & every(line.diff(dim=1).abs() <= 1)

    lake = every(_mirrored(cells)[:, SHORE:] == cells[:, SHORE:])
    return {"sky": sky, "light": light, "land": land, "lake": lake, "all": sky & light & land & lake}
