"""Generated landscapes keep their laws, and the check sees every law broken."""

import pytest
import torch

from unmask.tasks.landscapes import COLOURS, DAY, HILL, LAWS, MOON, PALETTE, SIDE, SUN, laws, pictures


def test_pictures_keep_their_laws_and_are_their_own():
    made = pictures(2000)
    assert made.shape == (2000, SIDE * SIDE) and made.min() >= 0 and made.max() < COLOURS == len(PALETTE)
    kept = laws(made)
    assert set(kept) == {*LAWS, "all"} and all(bool(k.all()) for k in kept.values())
    assert torch.equal(pictures(5, first=100), made[100:105])
    assert len(made.unique(dim=0)) > 1990 and not torch.equal(pictures(5, seed=1), made[:5])
    hours = torch.stack([(made == colour).any(1) for colour in (SUN, 5, MOON)], 1).double().mean(0)
    assert (hours - 1 / 3).abs().max() < 4 * (2 / 9 / 2000) ** 0.5


@pytest.mark.parametrize(
    ("law", "cell", "colour"),
    [
        ("sky", (0, 0), 1),
        ("light", (0, 15), SUN),
        ("land", (10, 3), DAY),
        ("land", (4, 8), HILL),
        ("lake", (15, 7), 16),
        ("lake", (12, 0), DAY),
        ("land", (10, 0), COLOURS),
    ],
)
def test_a_spoilt_cell_breaks_its_law(law, cell, colour):
    day = pictures(400)
    day = day[(day == SUN).any(1)]
    spoilt = day.clone().view(-1, SIDE, SIDE)
    changed = spoilt[:, *cell] != colour
    spoilt[:, *cell] = colour
    kept = laws(spoilt.flatten(1))
    assert not kept[law][changed].any() and not kept["all"][changed].any()


def test_independent_cells_keep_no_law():
    made = pictures(500)
    shuffled = torch.stack([made[torch.randperm(500), i] for i in range(SIDE * SIDE)], 1)
    assert not laws(shuffled)["all"].any()
