"""A proxy for networks on devices without float64.

Decoding compares probabilities and draws in float64. If the network's device has none (Apple's ``mps``), the loop runs on the host and
only the network runs on the device. The same numbers then yield the same tokens everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from unmask.devices import device_of, has_float64

_STAYS = (
    "hidden_states",
    "hidden_states_where",
    "hidden_states_at",
)  # their results are inputs of the network's own methods, and stay on its device

Model = TypeVar("Model")


class Reached:
    """A network whose inputs are moved to its device and whose logits are moved back to the host.

    Args:
        model: the network.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device: torch.device = device_of(model)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network."""
        return self._run(self.model, args, kwargs, stays=False)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.model, name)
        if name == "logits_at" or name in _STAYS:
            return lambda *args, **kwargs: self._run(attribute, args, kwargs, stays=name in _STAYS)
        return attribute

    def _run(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], stays: bool) -> Any:
        result = function(
            *(_moved(x, self.device) for x in args), **{k: _moved(x, self.device) for k, x in kwargs.items()}
        )
        return result if stays else _moved(result, torch.device("cpu"))


def _moved(x: Any, device: torch.device) -> Any:
    return x.to(device) if isinstance(x, Tensor) else x


def reached(model: Model, device: torch.device) -> Model:
    """Return a network that accepts tensors on ``device``: itself, or a proxy if its own device lacks float64."""
    own = device_of(model)
    return model if own == device or has_float64(own) else cast(Model, Reached(model))
