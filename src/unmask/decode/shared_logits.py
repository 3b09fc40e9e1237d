"""One forward pass for plain forward requests of several decodes, in shapes for which company changes no bit (``unmask.decode.continuous``).

Shapes: ``[b, L]`` of one request, ``[N, V]`` of its logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from unmask.contracts import MLMModel
from unmask.decode.forward_request import ForwardRequest
from unmask.decode.forwards.plain import real_columns
from unmask.decode.view import StepView
from unmask.nn.projection import logits_where

FEWEST_READS = 8
FEWEST_TOKENS = 16
WIDTH = 32


def drops_padding(model: object) -> bool:
    """Tell whether a network runs each row at its own length, so that padding takes part in no product."""
    return bool(getattr(model, "drops_padding", False))


def width_of(request: ForwardRequest) -> int:
    """Return the width of a request's rows, rounded up."""
    span = real_columns(request.view.canvas.attention_mask)
    width: int = span.stop - span.start
    return -(-width // WIDTH) * WIDTH


def shared_logits(model: MLMModel, requests: Sequence[ForwardRequest]) -> list[Float[Tensor, "scored vocab"]]:
    """Run the rows of plain forward requests in one forward pass, and return the logits of each request."""
    width = max(map(width_of, requests))
    ids, real, positions = (
        torch.cat([_padded(part, width) for part in parts])
        for parts in zip(*(_parts(request.view) for request in requests), strict=True)
    )
    index, kept, counts, first = [], [], [], 0
    for request in requests:
        where = request.where[:, real_columns(request.view.canvas.attention_mask)]
        row, column = where.nonzero(as_tuple=True)
        flat = (row + first) * width + column
        per_row = where.sum(-1)
        repeats = (FEWEST_READS - per_row).clamp(min=0) * (per_row > 0)
        begins = per_row.cumsum(0) - per_row
        padding = flat[begins.clamp(max=max(len(flat) - 1, 0)).repeat_interleave(repeats)]
        index += [flat, padding]
        kept += [torch.ones_like(flat, dtype=torch.bool), torch.zeros_like(padding, dtype=torch.bool)]
        counts.append(len(flat))
        first += len(where)
    lacking = FEWEST_TOKENS - int(real.sum())
    if lacking > 0:
        again = torch.arange(len(ids)).repeat(1 + -(-lacking // max(int(real.sum()), 1)))
        ids, real, positions = (part[again.to(part.device)] for part in (ids, real, positions))
    inputs = {"input_ids": ids, "attention_mask": real, "positions": positions}
    logits = logits_where(model, inputs, torch.cat(index))[torch.cat(kept)]
    return list(torch.split(logits, counts))


def _parts(view: StepView) -> tuple[Tensor, Tensor, Tensor]:
    span = real_columns(view.canvas.attention_mask)
    return view.ids[:, span], view.canvas.attention_mask[:, span], view.canvas.positions[:, span]


def _padded(part: Tensor, width: int) -> Tensor:
    return F.pad(part, (0, width - part.shape[1]))
