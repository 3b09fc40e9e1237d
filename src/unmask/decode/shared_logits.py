"""One forward pass for plain forward requests of several decodes, in shapes for which company changes no bit (``unmask.decode.continuous``).

The numbers of tokens and of reads are rounded up to few sizes (:func:`size_of`). oneDNN generates code for every size of a product, in milliseconds,
and keeps 100 to 200 KB for each: a long service of free sizes would grow by hundreds of megabytes.

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


def size_of(count: int, least: int) -> int:
    """Round a number of rows of a product up to one of few sizes: at most an eighth more, and a multiple of ``least``.

    Sizes up to ``n`` number ``8 log2(n / least)`` at most.
    """
    step = max(least, 1 << max(count.bit_length() - 4, 0))
    return -(-count // step) * step


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
    if drops_padding(model) or real.sum() < FEWEST_TOKENS:  # a wrapped network may drop padding too
        ids, real, positions = _filled_up(ids, real, positions)
    index.append(_more_reads(torch.cat(index), real))
    kept.append(torch.zeros_like(index[-1], dtype=torch.bool))
    inputs = {"input_ids": ids, "attention_mask": real, "positions": positions}
    logits = logits_where(model, inputs, torch.cat(index))[torch.cat(kept)]
    return list(torch.split(logits, counts))


def _more_reads(index: Tensor, real: Tensor) -> Tensor:
    """Return further reads so that their number is a size, where rows have room.

    A row has room for ``FEWEST_READS``, or for one read per token: attention of a row rounds alike up to there, and not beyond.
    """
    lacking = size_of(len(index), FEWEST_READS) - len(index)
    rows, width = real.shape
    taken = (index // width).bincount(minlength=rows)
    room = (real.sum(-1).clamp(min=FEWEST_READS) - taken).clamp(min=0)
    firsts = torch.arange(rows, device=index.device) * width + real.int().argmax(-1)
    return firsts.flip(0).repeat_interleave(room.flip(0))[:lacking]


def _filled_up(ids: Tensor, real: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows, followed by copies of the longest one so that the number of real tokens is a size."""
    lengths = real.sum(-1).tolist()
    tokens, longest = sum(lengths), max(lengths)
    lacking = size_of(tokens, FEWEST_TOKENS) - tokens
    if not lacking or not longest:
        return ids, real, positions
    again = ids.new_full((-(-lacking // longest),), lengths.index(longest))
    copies = real[again]
    copies[-1] &= copies[-1].cumsum(-1) <= lacking - longest * (len(again) - 1)
    return torch.cat([ids, ids[again]]), torch.cat([real, copies]), torch.cat([positions, positions[again]])


def _parts(view: StepView) -> tuple[Tensor, Tensor, Tensor]:
    span = real_columns(view.canvas.attention_mask)
    return view.ids[:, span], view.canvas.attention_mask[:, span], view.canvas.positions[:, span]


def _padded(part: Tensor, width: int) -> Tensor:
    return F.pad(part, (0, width - part.shape[1]))
