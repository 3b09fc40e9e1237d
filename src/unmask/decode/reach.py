"""A network on a device without float64, asked from the host.

Decoding compares probabilities and draws in float64. Where the network's device has none (Apple's ``mps``), the loop runs on the host and
only the network over there: so the same numbers lead to the same tokens everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from unmask.devices import device_of, has_float64

_STAYS = (
    "hidden_states",
    "hidden_states_where",
    "hidden_states_at",
)  # what they return is for the network's own methods


class Reached:
    """A network whose inputs are brought to its device and whose logits are brought back to the host."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device = device_of(model)

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self._asked(self.model, given, named, stays=False)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.model, name)
        if name == "logits_at" or name in _STAYS:
            return lambda *given, **named: self._asked(found, given, named, stays=name in _STAYS)
        return found

    def _asked(self, function: Callable[..., Any], given: tuple[Any, ...], named: dict[str, Any], stays: bool) -> Any:
        there = function(
            *(_moved(x, self.device) for x in given), **{k: _moved(x, self.device) for k, x in named.items()}
        )
        return there if stays else _moved(there, torch.device("cpu"))


def _moved(x: Any, device: torch.device) -> Any:
    return x.to(device) if isinstance(x, Tensor) else x


def reached(model: Any, device: torch.device) -> Any:
    """The network, to be asked with tensors on ``device``: itself, or brought in reach of the host where its device has no float64."""
    there = device_of(model)
    return model if there == device or has_float64(there) else Reached(model)
