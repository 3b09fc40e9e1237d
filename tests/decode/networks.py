"""Small networks that are sure enough of themselves for orders to differ."""

import torch

from unmask.models.rotary_mlm import RotaryTransformerMLMModel


def sure(seed=0, *sizes, **options):
    """Random, in float64; ``sizes`` are vocabulary, width, layers and heads."""
    torch.manual_seed(seed)
    model = RotaryTransformerMLMModel(*sizes, **options).double()
    model.head.projection.weight.data.mul_(20)
    return model
