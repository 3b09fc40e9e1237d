"""Tied weights: two names in a state dict, one tensor in memory, saved once.

A name that is missing from a file is restored if and only if its parameter shares memory with a parameter that is present.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

_Module = TypeVar("_Module", bound=nn.Module)


def tied_names(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Return ``{further name: first name}`` of the tensors of a state dict that share their memory."""
    first: dict[tuple[int, tuple[int, ...]], str] = {}
    tied = {}
    for name, tensor in state.items():
        if tensor.numel():
            kept = first.setdefault((tensor.data_ptr(), tuple(tensor.shape)), name)
            if kept != name:
                tied[name] = kept
    return tied


def restore_tied(weights: dict[str, Tensor], tied: Mapping[str, str]) -> None:
    """Add the further names of tied weights to weights that were saved once.

    Args:
        weights: changed in place.
        tied: of :func:`tied_names`.
    """
    for name, first in tied.items():
        if first in weights:
            weights.setdefault(name, weights[first])


def load_weights(model: _Module, weights: Mapping[str, Tensor]) -> _Module:
    """Load weights into a module and return it; every parameter must be loaded, under any of its names.

    Raises:
        RuntimeError: weights of other shapes, a parameter without weights, or weights without a parameter.
    """
    missing, unexpected = model.load_state_dict(dict(weights), strict=False)
    tied = tied_names(model.state_dict())
    groups = {name: tied.get(name, name) for name in model.state_dict()}
    loaded = {group for name, group in groups.items() if name not in missing}
    absent = sorted(name for name in missing if groups[name] not in loaded)
    if absent or unexpected:
        raise RuntimeError(
            f"missing {absent[:3]}, unexpected {list(unexpected)[:3]}. The files come from different models."
        )
    return model
