"""Orders of a grid, by hand."""

import pytest
import torch

from unmask.decode.orders.grid import GRID_ORDERS, Grid


@pytest.mark.parametrize("order", GRID_ORDERS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (8, 8), (5, 2)])
def test_an_order_is_a_permutation(order, height, width):
    rank = Grid(height, width).rank(order)
    assert torch.equal(rank.sort().values, torch.arange(height * width))


def test_orders_by_hand():
    grid = Grid(3, 3)
    assert grid.rank("rows").tolist() == list(range(9))
    assert grid.rank("columns").view(3, 3).tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    assert grid.rank("diagonals").view(3, 3).tolist() == [[0, 1, 3], [2, 4, 6], [5, 7, 8]]
    centre = grid.rank("centre_out").view(3, 3)
    assert centre[1, 1] == 0 and set(centre[[0, 0, 2, 2], [0, 2, 0, 2]].tolist()) == {5, 6, 7, 8}


@pytest.mark.parametrize("side", [4, 8, 16])
def test_coarse_to_fine_starts_with_a_coarser_grid(side):
    rank = Grid(side, side).rank("coarse_to_fine").view(side, side)
    spacing = side
    while spacing > 1:
        count = (side // spacing) ** 2
        assert (rank < count).nonzero().tolist() == [
            [r, c] for r in range(0, side, spacing) for c in range(0, side, spacing)
        ]
        spacing //= 2


def test_invalid_grids_and_orders_are_refused():
    with pytest.raises(ValueError, match="has none"):
        Grid(0, 3)
    with pytest.raises(ValueError, match="no order 'spiral'"):
        Grid(2, 2).rank("spiral")
