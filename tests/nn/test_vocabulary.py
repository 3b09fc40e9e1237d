"""Ids beyond the embedding are named, in every network of this package."""

import pytest
import torch

from unmask import MLMPredictor, RotaryTransformerMLMModel, SpecialIds
from unmask.nn.vocabulary import refuse_unknown_ids


def test_the_first_wrong_id_and_the_size_are_named():
    refuse_unknown_ids(torch.tensor([[0, 29]]), 30)
    refuse_unknown_ids(torch.zeros(0, 4, dtype=torch.int64), 30)
    refuse_unknown_ids(torch.tensor([[5, -100]]), 30, torch.tensor([[True, False]]))
    for wrong in (30, 33, -1):
        with pytest.raises(ValueError, match=f"token id {wrong}, and this model's embedding has ids 0 to 29"):
            refuse_unknown_ids(torch.tensor([[5, wrong]]), 30)


def test_another_device_is_not_waited_for():
    class Elsewhere(torch.Tensor):
        device = torch.device("cuda")

    ids = torch.tensor([[5, 99]]).as_subclass(Elsewhere)
    refuse_unknown_ids(ids, 30)
    with pytest.raises(ValueError, match="token id 99"):
        refuse_unknown_ids(ids, 30, wait=True)


def test_a_network_and_a_predictor_refuse_them():
    net = RotaryTransformerMLMModel(30, 32, 1, 2, mask_idx=4, max_length=16)
    for mask in (None, torch.tensor([[True, True, True, False]])):
        with pytest.raises(ValueError, match="token id 33"):
            net(torch.tensor([[5, 33, 4, 0]]), mask)
    with pytest.raises(ValueError, match="token id 33"):
        MLMPredictor(3, model=net, special=SpecialIds(mask=4, vocab_size=35, pad=0)).predict(
            {"input_ids": torch.tensor([[5, 33, 4]])}
        )
