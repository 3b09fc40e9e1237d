"""A pretended device without float64, such as Apple's: tensors that are said to be on ``meta`` and live on the CPU.

Float64 on it, and tensors of two devices in one operation, raise. (``meta`` is the one other device that every build of torch has.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from unmask import devices

THERE = torch.device("meta")
_aten = torch.ops.aten
_MOVES = {_aten._to_copy.default, _aten.copy_.default}
_INDEXED = {
    _aten.index.Tensor,
    _aten.index_put_.default,
    _aten.index_put.default,
    _aten._index_put_impl_.default,
}  # by host indices, as everywhere


class There(torch.Tensor):
    """A tensor of the pretended device."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> There:
        if held.dtype in (torch.float64, torch.complex128):
            raise TypeError("This device has no float64.")
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=THERE,
            requires_grad=False,
        )
        made.held = held
        return made

    def tolist(self) -> Any:
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


def _run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    there = [x for x in tensors if isinstance(x, There)]
    at = kwargs.get("device")
    to_there = bool(there) if at is None else torch.device(at).type == THERE.type
    if there and function not in _MOVES | _INDEXED and any(x.dim() for x in tensors if not isinstance(x, There)):
        raise RuntimeError(f"Expected all tensors to be on the same device: {function}")
    if function is _aten._local_scalar_dense.default:
        to_there = False
    if function is _aten.copy_.default:
        to_there = isinstance(args[0], There)
    given, named = tree_map(lambda x: x.held if isinstance(x, There) else x, (args, kwargs))
    if at is not None:
        named["device"] = torch.device("cpu")
    if "pin_memory" in named:
        named["pin_memory"] = False
    out = function(*given, **named)
    if function is _aten.copy_.default or (
        function.__name__.split(".")[0].endswith("_") and isinstance(args[0], There)
    ):
        return args[0]
    return tree_map(lambda x: There(x) if isinstance(x, torch.Tensor) and to_there else x, out)


class _Factories(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


@contextmanager
def without_float64() -> Iterator[torch.device]:
    """While this lasts, ``tensor.to(device)`` and ``torch.zeros(..., device=device)`` work for the device it gives."""
    tensor, autocast, is_enabled = torch.tensor, torch.autocast, torch.is_autocast_enabled
    with pytest.MonkeyPatch.context() as patch, _Factories():
        patch.setattr(devices, "_WITHOUT_FLOAT64", (*devices._WITHOUT_FLOAT64, THERE.type))
        # What never reaches a dispatch mode, or is not made for wrapped tensors.
        patch.setattr(torch, "tensor", lambda data, *, device="cpu", **options: tensor(data, **options).to(device))
        patch.setattr(torch, "is_autocast_enabled", lambda kind="cpu": kind != THERE.type and is_enabled(kind))
        patch.setattr(
            torch,
            "autocast",
            lambda kind, *given, **named: nullcontext() if kind == THERE.type else autocast(kind, *given, **named),
        )
        patch.setattr(torch, "inference_mode", lambda mode=True: torch.no_grad() if mode else nullcontext())
        yield THERE
