"""Learned positions tell apart what rotary distances do not, and are refused where they would be lost."""

import pytest
import torch

from unmask.export.hub_weights import hub_sizes
from unmask.models.learned_positions import LearnedPositionMLMModel
from unmask.models.networks import ARCHITECTURES, describe_network
from unmask.models.rotary_mlm import RotaryTransformerMLMModel

SIZES = {"num_embeddings": 12, "d_model": 16, "num_layers": 1, "nhead": 2, "max_length": 6, "dropout": 0.0}


def test_a_fully_masked_row_has_equal_cells_without_them():
    ids = torch.ones(1, 6, dtype=torch.int64)
    for network, alike in ((RotaryTransformerMLMModel, True), (LearnedPositionMLMModel, False)):
        logits = network(**SIZES).eval()(ids)[0]
        assert torch.allclose(logits[0], logits[5], atol=1e-6) == alike


def test_a_checkpoint_keeps_them_and_an_export_refuses_them():
    network = LearnedPositionMLMModel(**SIZES).eval()
    config = describe_network(network)
    again = ARCHITECTURES[config.pop("architecture")](config, network.state_dict()).eval()
    ids = torch.tensor([[5, 1, 7]])
    assert torch.equal(again(ids), network(ids))
    with pytest.raises(ValueError, match="learned_positions"):
        hub_sizes(network)
