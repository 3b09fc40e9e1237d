"""What stands at hidden positions: position by position, or a whole run at once (SpanBERT)."""

import pytest
import torch
from scipy.stats import chisquare

from unmask.ops.corruption import span_corruption
from unmask.ops.replacement import Replacement, ordinary_ids
from unmask.randomness import Noise

MASK, VOCAB, SPECIAL = 1, 12, (0, 1, 2)
ORDINARY = ordinary_ids(VOCAB, SPECIAL)
WHOLE = Replacement(MASK, 0.5, 0.3, ORDINARY, runs=True)


def test_a_run_is_masked_randomised_or_kept_together_at_the_rates():
    """Runs of five with gaps between: kinds by chi-square over runs, none of two kinds, random tokens even and independent."""
    rows, runs = 3000, 4
    chosen = torch.tensor([True] * 5 + [False]).repeat(rows, runs)
    ids = torch.full(chosen.shape, 11)  # a token that is drawn rarely enough to tell kept from random
    made = WHOLE(ids, chosen, Noise(torch.arange(rows))).view(rows * runs, 6)
    assert (made[:, 5] == 11).all()
    made = made[:, :5]
    masked, kept = (made == MASK).all(-1), (made == 11).all(-1)
    drawn = made[~masked & ~kept]
    assert not (drawn == MASK).any()  # no run is half masked
    counts = [int(masked.sum()), len(drawn), int(kept.sum())]
    assert chisquare(counts, [share * rows * runs for share in (0.5, 0.3, 0.2)]).pvalue > 1e-3
    assert chisquare(torch.bincount(drawn.flatten(), minlength=VOCAB)[3:]).pvalue > 1e-3
    pairs = torch.bincount((drawn[:, 0] - 3) * 9 + drawn[:, 1] - 3, minlength=81)
    assert chisquare(pairs).pvalue > 1e-3


def test_runs_are_separated_by_gaps_and_rows():
    """Two runs of a row, and the same run of two rows, have kinds of their own."""
    chosen = torch.tensor([[True, True, False, True, True]]).expand(4000, 5)
    made = WHOLE(torch.full((4000, 5), 11), chosen, Noise(torch.arange(4000)))
    first, second = made[:, 0] == MASK, made[:, 3] == MASK
    together = torch.bincount(first.long() * 2 + second.long(), minlength=4)
    assert chisquare(together).pvalue > 1e-3  # masked with probability one half each
    assert chisquare(torch.bincount(first[1:].long() * 2 + first[:-1].long(), minlength=4)).pvalue > 1e-3


def test_positions_are_replaced_independently_by_default():
    chosen = torch.ones(500, 2, dtype=torch.bool)
    alone = Replacement(MASK, 0.5, 0.3, ORDINARY)(torch.full((500, 2), 11), chosen, Noise(torch.arange(500)))
    assert ((alone[:, 0] == MASK) != (alone[:, 1] == MASK)).any()


def test_span_corruption_takes_spanberts_replacement():
    """Every hidden run of the whole corruption has one kind; its random tokens are ordinary."""
    corruption = span_corruption(MASK, 0.3, replacement=WHOLE)
    ids = torch.full((800, 30), 11)
    noisy, scored, _ = corruption(ids, torch.ones_like(ids, dtype=torch.bool), Noise(torch.arange(800)))
    border = (scored[:, 1:] & scored[:, :-1]).nonzero()
    a, b = noisy[:, :-1][border[:, 0], border[:, 1]], noisy[:, 1:][border[:, 0], border[:, 1]]
    assert len(border) > 1000 and torch.equal(a == MASK, b == MASK)
    assert not torch.isin(noisy[scored & (noisy != MASK)], torch.tensor(SPECIAL)).any()


@pytest.mark.parametrize("arguments, message", [
    ({"mask_replace_prob": -0.1}, "mask_replace_prob=-0.1"),
    ({"mask_replace_prob": 0.8, "random_replace_prob": 0.3, "ordinary_ids": ORDINARY}, "at most 1"),
    ({"mask_replace_prob": 0.8, "random_replace_prob": 0.1}, "ordinary_ids"),
])  # fmt: skip
def test_impossible_replacement_fractions_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        Replacement(MASK, **arguments)


def test_masks_are_written_as_a_choice_would_write_them():
    """By arithmetic, which wraps around at the ends of int64."""
    ids = torch.tensor([[5, -(2**63), 2**63 - 1, 0, -7]])
    for chosen in (torch.tensor([[True, True, True, False, False]]), torch.tensor([[False, False, False, True, True]])):
        for mask in (MASK, -1, 2**40):
            made = Replacement(mask)(ids, chosen, Noise(torch.tensor([0])))
            assert torch.equal(made, torch.where(chosen, mask, ids))


def test_ordinary_ids_are_one_tensor_for_equal_arguments():
    assert ordinary_ids(VOCAB, (2, 1, 0, 99)) is ordinary_ids(VOCAB, SPECIAL)
    assert ordinary_ids(VOCAB, (1,)).tolist() == [0, *range(2, VOCAB)]
