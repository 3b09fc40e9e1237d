"""Masked marginals add up, positions are checked, and rank correlations are those of the definition."""

import numpy as np
import pytest
import torch

from unmask.evaluate.mutations import RESIDUES, MutationEffects, mutation_effects, ranks, spearman


class Letters:
    mask_token_id, eos_token_id, all_special_ids = 20, 21, (20, 21)

    def __len__(self):
        return 22

    def encode(self, text):
        return [RESIDUES.index(letter) for letter in text]


def neighbours(x_t, *_, **__):
    """The most likely residue is the one to the left; a position that sees itself would be given away."""
    logits = torch.nn.functional.one_hot(x_t.roll(1, -1), 22).float() * 3
    return logits + 100 * torch.nn.functional.one_hot(x_t, 22) * (x_t != 20)[..., None]


def test_every_position_is_masked_alone_and_effects_add_up():
    effects = mutation_effects(neighbours, Letters(), "ACDC", batch_tokens=10)
    assert effects.single[1, RESIDUES.index("A")] == pytest.approx(3.0)
    assert effects.of("C2A:D3C") == pytest.approx(6.0) and effects.of("C2C") == 0.0


@pytest.mark.parametrize(
    ("mutant", "message"), [("A3C", "has C"), ("A9C", "no residue"), ("3C", "written as"), ("AxC", "written as")]
)
def test_mutants_of_another_sequence_are_refused(mutant, message):
    with pytest.raises(ValueError, match=message):
        MutationEffects("MKC", np.zeros((3, 20))).of(mutant)


def test_rank_correlation():
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [2.5, 0.0, 2.5, 1.0]
    estimate = spearman([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 4.0, 3.0, 5.0])
    assert estimate.value == pytest.approx(0.8) and estimate.low < 0.8 <= estimate.high
    with pytest.raises(ValueError, match="at least three"):
        spearman([1.0, 2.0], [1.0, 2.0])
