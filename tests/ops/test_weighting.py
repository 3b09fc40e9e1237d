"""The variance of a loss as an estimate, by hand."""

import torch

from unmask.ops.weighting import ratio_variance


def variance(sums, counts):
    return float(ratio_variance(torch.tensor(sums, dtype=torch.float64), torch.tensor(counts, dtype=torch.float64)))


def test_the_variance_of_a_ratio_is_that_of_its_rows_residuals():
    """Loss 2; residuals -2 and 2; n / (n - 1) times 8, over the square of 4 tokens."""
    assert variance([2.0, 6.0], [2.0, 2.0]) == 1.0
    assert variance([2.0, 6.0, 4.0], [1.0, 3.0, 2.0]) == 0.0  # rows of unequal length that agree
    assert variance([3.0], [2.0]) == 0.0 and variance([0.0, 0.0], [0.0, 0.0]) == 0.0
