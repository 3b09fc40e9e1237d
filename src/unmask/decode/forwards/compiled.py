"""Compiled forward: two ``torch.compile`` programs with bucketed shapes, to avoid launch overhead on accelerators.

Run eagerly, every step launches each operation of each layer, with shapes of its own, since rows finish and positions fill up. Here a step is
two programs (CUDA graphs on an accelerator). Shapes are rounded up to powers of two, so that few programs serve a decode:

    encoder      rows up to a power of two, at most the decode's rows, by repeating the last row; all columns, padding included
    projection   requested positions up to a power of two, 16 at least, by repeating the first position of the canvas

Logits of the repeated entries are dropped, and the others equal the plain forward's up to rounding. A decode of ``B`` rows with at most ``N`` requested
positions compiles at most ``ceil(log2 B) + 1`` encoders and ``ceil(log2(N / 16)) + 1`` projections. The number of encoders doubles if some
rows are padded and others are not. Other canvas widths and other networks compile programs of their own.

Shapes: ids ``[b, L]`` in, logits ``[N, V]`` out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from unmask.contracts import HiddenStates, MLMModel, Projection, offers_projection
from unmask.decode.block_schedule import BlockSchedule
from unmask.decode.view import StepView
from unmask.nn.execution import can_compile
from unmask.nn.rotary import refuse_beyond

FEWEST = 16  # smallest bucket of positions: one position takes as long on an accelerator

Program = Callable[..., Tensor]


@dataclass(frozen=True)
class CompiledForward:
    """The model's encoder and projection through ``torch.compile``."""

    def start(self, rows: int, block_schedule: BlockSchedule) -> BucketedSession:
        """Return the session of one decode."""
        return BucketedSession(rows)


@dataclass
class BucketedSession:
    """The session of one decode.

    Attributes:
        rows: rows of the decode, the maximum of any call.
        unpadded: True once all rows are known to have no padding and to fit into the network; no later call needs to
            read that from the device again.
    """

    rows: int
    unpadded: bool = False

    def positions(self, view: StepView) -> int:
        """Return the number of real tokens that a call with this view processes, repeated rows included."""
        rows = self._bucket(view)
        if self.unpadded:
            return (len(view.rows) if rows is None else len(rows)) * view.ids.shape[1]
        return int(_of(view.canvas.attention_mask, rows).sum())

    def __call__(
        self, model: MLMModel, view: StepView, where: Bool[Tensor, "rows seq"]
    ) -> Float[Tensor, "scored vocab"]:
        """Return the logits at ``where``.

        Raises:
            ValueError: the model has no separate projection, or a row is longer than its ``max_length``.
        """
        if not self.unpadded:
            _check(model, view)
        rows, index = self._bucket(view), where.flatten().nonzero()[:, 0]
        ids, real, positions = (_of(x, rows) for x in (view.ids, view.canvas.attention_mask, view.canvas.positions))
        encoder, projection = _programs(ids.device.type)
        unpadded = self.unpadded or bool(real.all())
        self.unpadded = unpadded and (self.unpadded or len(view.rows) == self.rows)
        hidden = encoder(model, ids, None if unpadded else real, positions)
        size = max(_power(len(index)), FEWEST)
        # Copy: CUDA graphs reuse output buffers in the next call.
        logits = projection(model, hidden.flatten(0, 1)[F.pad(index, (0, size - len(index)))])[: len(index)]
        return logits if logits.device.type == "cpu" else logits.clone()

    def _bucket(self, view: StepView) -> Tensor | None:
        """Return the indices of the rows to run: those of the view, then repetitions of the last; None = just those."""
        rows = len(view.rows)
        size = min(_power(rows), self.rows)
        return None if size == rows else torch.arange(size, device=view.ids.device).clamp(max=rows - 1)


def encode(model: HiddenStates, ids: Tensor, real: Tensor | None, positions: Tensor) -> Tensor:
    """Return the hidden states ``[b, L, D]``; ``real`` is None without padding."""
    return model.hidden_states(ids, real, positions)


def project(model: Projection, states: Tensor) -> Tensor:
    """Return the logits ``[N, V]`` of states ``[N, D]``."""
    return F.linear(*model.projection_of(states))


@cache
def _programs(device_type: str) -> tuple[Program, Program]:
    if not can_compile(device_type):
        warnings.warn(
            "Compiled steps need a C++ compiler, and none is installed: steps run uncompiled, with the same tokens. Install g++ (or set "
            "CXX), or decode without --compile.",
            stacklevel=2,
        )
        return encode, project
    return compiled(mode=None if device_type == "cpu" else "reduce-overhead")


def compiled(**options: Any) -> tuple[Program, Program]:
    """Return :func:`encode` and :func:`project` through ``torch.compile``, one program per shape, without a limit on their number."""

    def of(function: Program) -> Program:
        program = torch.compile(function, fullgraph=True, dynamic=False, **options)

        def run(*arguments: Any) -> Tensor:
            with torch._dynamo.config.patch(recompile_limit=1 << 10, accumulated_recompile_limit=1 << 10):
                return program(*arguments)

        return run

    return of(encode), of(project)


def _of(values: Tensor, rows: Tensor | None) -> Tensor:
    return values if rows is None else values[rows]


def _check(model: MLMModel, view: StepView) -> None:
    if not offers_projection(model):
        raise ValueError(
            f"A compiled step runs the encoder and the vocabulary projection as separate programs, and {type(model).__name__} does not expose "
            "them: it has no methods hidden_states and projection_of. Decode it uncompiled (compiled=False), or use RotaryTransformerMLMModel."
        )
    limit = getattr(model, "max_length", None)
    if isinstance(limit, int):
        refuse_beyond(view.canvas.positions, limit)


def _power(number: int) -> int:
    """Return the smallest power of two that is at least ``number``."""
    return 1 << max(number - 1, 0).bit_length()
