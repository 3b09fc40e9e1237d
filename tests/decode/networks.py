"""Small networks with peaked distributions, for which orders differ."""

import torch

from unmask.models.rotary_mlm import RotaryTransformerMLMModel


def sure(seed=0, *sizes, **options):
    """Return a random network in float64; ``sizes`` are vocabulary, width, layers and heads."""
    torch.manual_seed(seed)
    model = RotaryTransformerMLMModel(*sizes, **options).double()
    model.head.projection.weight.data.mul_(20)
    return model
