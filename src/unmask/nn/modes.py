"""Evaluation mode that restores the mode of every submodule."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def eval_mode(model: object) -> Iterator[None]:
    """Switch a model to eval mode without gradients; every submodule returns to its own mode afterwards."""
    training = [m for m in model.modules() if m.training] if isinstance(model, nn.Module) else []
    if isinstance(model, nn.Module):
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
