"""A forward that asks through compiled programs and in few shapes, so that an accelerator need not be told each step anew.

Eagerly, every step launches each operation of each layer, and its shapes are its own: rows finish, blanks are filled. Here a step is
two programs of ``torch.compile`` (on an accelerator CUDA graphs), and shapes are rounded up, so that few programs serve a decode:

    encoder      rows to a power of two, at most the decode's: the last row is repeated; all columns of the canvas, padding too
    projection   positions that are read to a power of two, 16 at least: the first of the canvas is read again

What was filled in is cut off the answer, which is that of the plain forward to rounding. A decode of ``B`` rows that reads ``N`` positions at
most has ``1 + log2 B`` encoders and ``1 + log2 N / 16`` projections at the very most, logarithms rounded up; twice as many encoders where some of its
rows are padded and others are not. Canvases of each other width, and other networks, have encoders of their own.

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

from unmask.decode.block_schedule import BlockSchedule
from unmask.decode.view import StepView
from unmask.nn.execution import can_compile
from unmask.nn.rotary import refuse_beyond

FEWEST = 16  # positions that are read: an accelerator reads one in the same time

Program = Callable[..., Tensor]


@dataclass(frozen=True)
class CompiledForward:
    """The model as it is, compiled."""

    passes: int = field(default=1, init=False)

    def start(self, rows: int, block_schedule: BlockSchedule) -> BucketedSession:
        return BucketedSession(rows)


@dataclass(frozen=True)
class BucketedSession:
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
            ValueError: the model does not say what its logits are a product of, or a row is longer than it was made for.
        """
        _check(model, view)
        rows, index = self._filled(view), where.flatten().nonzero()[:, 0]
        ids, real, positions = (x[rows] for x in (view.ids, view.canvas.attention_mask, view.canvas.positions))
        encoder, projection = _programs(ids.device.type)
        hidden = encoder(model, ids, None if bool(real.all()) else real, positions)
        size = max(_power(len(index)), FEWEST)
        # Reading copies: the next program may write where this one wrote, and so may the next step's.
        logits = projection(model, hidden.flatten(0, 1)[F.pad(index, (0, size - len(index)))])[: len(index)]
        return logits if logits.device.type == "cpu" else logits.clone()

    def _filled(self, view: StepView) -> Tensor:
        """The numbers of the rows to run: those of the view, and the last of them again."""
        rows = len(view.rows)
        return torch.arange(min(_power(rows), self.rows), device=view.ids.device).clamp(max=rows - 1)


def encode(model: Any, ids: Tensor, real: Tensor | None, positions: Tensor) -> Tensor:
    """Hidden states ``[b, L, D]``; ``real`` is None where nothing is padding."""
    return model.hidden_states(ids, real, positions)  # type: ignore[no-any-return]


def project(model: Any, states: Tensor) -> Tensor:
    """Logits ``[N, V]`` of some states ``[N, D]``."""
    return F.linear(*model.projection_of(states))


@cache
def _programs(device_type: str) -> tuple[Program, Program]:
    if not can_compile(device_type):
        warnings.warn(
            "Compiled steps want a C++ compiler, and there is none here: steps run uncompiled, to the same tokens. Install g++ (or name "
            "one in CXX), or decode without compiling.",
            stacklevel=2,
        )
        return encode, project
    return compiled(mode=None if device_type == "cpu" else "reduce-overhead")


def compiled(**options: Any) -> tuple[Program, Program]:
    """:func:`encode` and :func:`project` through ``torch.compile``: a program for every shape, as many as there are."""

    def of(function: Program) -> Program:
        program = torch.compile(function, fullgraph=True, dynamic=False, **options)

        def run(*given: Any) -> Tensor:
            with torch._dynamo.config.patch(recompile_limit=1 << 10, accumulated_recompile_limit=1 << 10):
                return program(*given)  # type: ignore[no-any-return]

        return run

    return of(encode), of(project)


def _check(model: Any, view: StepView) -> None:
    if not (hasattr(model, "hidden_states") and hasattr(model, "projection_of")):
        raise ValueError(
            f"A compiled step runs a network's encoder and its vocabulary projection as programs of their own, and {type(model).__name__} does not name "
            "them: it has no methods hidden_states and projection_of. Decode it uncompiled (compiled=False), or use RotaryTransformerMLMModel."
        )
    limit = getattr(model, "max_length", None)
    if isinstance(limit, int):
        refuse_beyond(view.canvas.positions, limit)


def _power(number: int) -> int:
    """The smallest power of two that is not below a number."""
    return 1 << max(number - 1, 0).bit_length()
