"""A forward that asks through one compiled program and in few shapes, so that an accelerator need not be told each step anew.

Eagerly, every step launches each operation of each layer, and its shapes are its own: rows finish, blanks are filled. Here a step is
one program of ``torch.compile`` (on an accelerator a CUDA graph), and shapes are rounded up, so that few programs serve a decode:

    rows       to a power of two, at most the decode's; a row is repeated
    columns    all of the canvas, padding too
    positions  that are read: to a power of two, 16 at least; the first one is read again

What was filled in is cut off the answer, which is that of the plain forward to rounding. A decode of ``B`` rows that reads ``N`` positions
at most compiles ``(1 + log2 B) * (1 + log2 N / 16)`` programs at the very most, rounded up, and as many as the sum of the two where neither
number ever grows; twice that where some of its rows are padded and others are not. Each other width of a canvas, and each other network, has its own.

Shapes: ids ``[b, L]`` in, logits ``[N, V]`` out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from unmask.decode.view import StepView
from unmask.decode.windows import Window
from unmask.nn.running import can_compile

FEWEST = 16  # positions that are read: an accelerator reads one in the same time


@dataclass(frozen=True)
class CompiledForward:
    """The model as it is, compiled."""

    passes: int = field(default=1, init=False)

    def start(self, rows: int, window: Window) -> InFewShapes:
        return InFewShapes(rows)


@dataclass(frozen=True)
class InFewShapes:
    """A compiled forward at work.

    Attributes:
        rows: of the decode; no call has more.
    """

    rows: int

    def positions(self, view: StepView) -> int:
        return int(view.canvas.attention_mask[self._filled(view)].sum())

    def __call__(self, model: Any, view: StepView, where: Bool[Tensor, "rows seq"]) -> Float[Tensor, "scored vocab"]:
        """Logits at ``where``.

        Raises:
            ValueError: the model cannot be asked at some positions only, or a row is longer than it was made for.
        """
        _check(model, view)
        rows, index = self._filled(view), where.flatten().nonzero()[:, 0]
        ids, real, positions = (x[rows] for x in (view.ids, view.canvas.attention_mask, view.canvas.positions))
        size = min(max(_power(len(index)), FEWEST), ids.numel())
        logits = _program(ids.device.type)(model, ids, None if bool(real.all()) else real, positions, F.pad(index, (0, size - len(index))))
        found = logits[: len(index)]
        return found if found.device.type == "cpu" else found.clone()  # a CUDA graph writes its next answer over this one

    def _filled(self, view: StepView) -> Tensor:
        """The numbers of the rows to run: those of the view, and the last of them again."""
        rows = len(view.rows)
        return torch.arange(min(_power(rows), self.rows), device=view.ids.device).clamp(max=rows - 1)


def step(model: Any, ids: Tensor, real: Tensor | None, positions: Tensor, index: Tensor) -> Tensor:
    """Logits ``[N, V]`` at a flat index ``[N]``: what is compiled."""
    features, weight, bias = model.projection_of(model.hidden_states_where(ids, index, real, positions))
    return F.linear(features, weight, bias)


@cache
def _program(device_type: str) -> Callable[..., Tensor]:
    if not can_compile(device_type):
        warnings.warn(
            "Compiled steps want a C++ compiler, and there is none here: steps run uncompiled, to the same tokens. Install g++ (or name "
            "one in CXX), or decode without compiling.",
            stacklevel=2,
        )
        return step
    return compiled(mode=None if device_type == "cpu" else "reduce-overhead")


def compiled(**options: Any) -> Callable[..., Tensor]:
    """:func:`step` through ``torch.compile``: a program for every shape, as many as there are."""
    program = torch.compile(step, fullgraph=True, dynamic=False, **options)

    def run(*given: Any) -> Tensor:
        with torch._dynamo.config.patch(recompile_limit=1 << 10, accumulated_recompile_limit=1 << 10):
            return program(*given)  # type: ignore[no-any-return]

    return run


def _check(model: Any, view: StepView) -> None:
    if not (hasattr(model, "hidden_states_where") and hasattr(model, "projection_of")):
        raise ValueError(
            f"A compiled step asks a network at some positions only, and {type(model).__name__} cannot be asked so: it has no methods "
            "hidden_states_where and projection_of. Decode it uncompiled (compiled=False), or use RotaryTransformerMLMModel."
        )
    limit, longest = getattr(model, "max_length", None), int(view.canvas.positions.max()) + 1
    if isinstance(limit, int) and longest > limit:
        raise ValueError(
            f"A row of {longest} tokens reached a model made for {limit} (max_length). Shorten the text, lower max_new_tokens, or train "
            f"a model with max_length={longest} or more."
        )


def _power(number: int) -> int:
    """The smallest power of two that is not below a number."""
    return 1 << max(number - 1, 0).bit_length()
