"""Hide part of every window by keyed noise and measure the model at the hidden tokens.

One pass hides exactly ``k`` of a window's ``n`` tokens, ``k = ceil(level(u) n)``, with ``u`` spread evenly over all
windows of the pass (systematic sampling: the lowest variance of those measured, docs/theory.md, variance). Passes have independent
offsets, so their spread measures the Monte-Carlo error. What is hidden depends on ``(seed, pass, window)`` alone: not on
the batch, the padding or the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from unmask import allocator
from unmask.contracts import SpecialIds
from unmask.devices import device_of
from unmask.evaluate.windows import Windows, batches, stack
from unmask.nn.modes import eval_mode
from unmask.nn.projection import logits_in_chunks
from unmask.ops.mask_rates import MaskRate
from unmask.ops.position_sampling import fixed_count
from unmask.randomness import Noise, low_discrepancy, row_keys

Measure = Callable[[Float[Tensor, "scored vocab"], Int[Tensor, " scored"]], Float[Tensor, " scored"]]
Progress = Callable[[int, int], None]  # tokens read, tokens to read

LARGEST_LOGITS = 2**23  # numbers in one piece of logits: 32 MiB of float32


@dataclass(frozen=True)
class HiddenSums:
    """What was measured: sums over the hidden tokens of each window, pass by pass.

    Attributes:
        sums: float64 ``[M, R, W]`` for ``M`` measures and ``R`` passes.
        hidden: int64 ``[R, W]``, how many tokens were hidden.
        scorable: int64 ``[W]``, how many could have been.
    """

    sums: NDArray[np.float64]
    hidden: NDArray[np.int64]
    scorable: NDArray[np.int64]


def measure_at(
    model: Any, batch: dict[str, Tensor], where: Tensor, targets: Tensor, measures: Sequence[Measure]
) -> Tensor:
    """Every measure at the positions of ``where`` ``[B, L]``: float64 ``[M, scored]`` on the CPU."""
    pieces: list[Tensor] = []
    start = 0
    for logits in logits_in_chunks(model, batch, where, LARGEST_LOGITS):
        wanted = targets[start : start + len(logits)]
        start += len(logits)
        pieces.append(torch.stack([measure(logits, wanted) for measure in measures]).cpu().double())
    return torch.cat(pieces, dim=1) if pieces else torch.zeros(len(measures), 0, dtype=torch.float64)


def measure_hidden(
    model: Any,
    windows: Windows,
    special: SpecialIds,
    measures: Sequence[Measure],
    mask_rate: MaskRate,
    *,
    samples: int,
    seed: int,
    batch_tokens: int,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> HiddenSums:
    """Sums of the measures over the hidden tokens.

    Args:
        model: any ``MLMModel``.
        windows: the rows.
        special: ids that are never hidden; its mask is what hides.
        measures: functions of logits ``[n, V]`` and true ids ``[n]``.
        level: uniforms to shares hidden, such as ``UniformLevel(0)`` or ``ConstantLevel(0.15)``.
        samples: passes over all windows.
        seed: of the noise.
        batch_tokens: padded tokens in one evaluation of the model; changes speed and memory, not the numbers.
        device: where to run; the model's own by default.
        progress: called after every batch.

    Raises:
        ValueError: no token can be scored, a row contains the mask token, or ``samples`` is not positive.
    """
    sums = np.zeros((len(measures), samples, len(windows)))
    hidden = np.zeros((samples, len(windows)), dtype=np.int64)
    with eval_mode(model):
        for part in hide_in_batches(
            windows,
            special,
            mask_rate,
            samples=samples,
            seed=seed,
            batch_tokens=batch_tokens,
            device=device or device_of(model),
            progress=progress,
        ):
            values = measure_at(model, part.batch, part.where, part.ids[part.where], measures)
            row = part.where.nonzero()[:, 0].cpu()
            per_row = torch.zeros(len(measures), len(part.ids), dtype=torch.float64).index_add(1, row, values)
            sums[:, part.passes, part.windows] = per_row.numpy()
            hidden[part.passes, part.windows] = part.where.sum(-1).cpu().numpy()
    return HiddenSums(sums, hidden, windows.scorable(SpecialIds.of(special)))


class HiddenBatch(NamedTuple):
    """Windows with part of their tokens hidden.

    Attributes:
        passes, windows: int64 ``[B]``, which pass and which window each row is.
        ids: clean, int64 ``[B, L]``.
        where: True = hidden, bool ``[B, L]``.
        batch: what the model sees: ``input_ids`` and ``attention_mask``.
    """

    passes: NDArray[np.int64]
    windows: NDArray[np.int64]
    ids: Int[Tensor, "batch seq"]
    where: Bool[Tensor, "batch seq"]
    batch: dict[str, Tensor]


def hide_in_batches(
    windows: Windows,
    special: SpecialIds,
    mask_rate: MaskRate,
    *,
    samples: int,
    seed: int,
    batch_tokens: int,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Iterator[HiddenBatch]:
    """Every pass over every window, in batches of similar length; arguments and errors as in :func:`measure_hidden`."""
    if samples < 1:
        raise ValueError(
            f"samples is {samples}; evaluation needs at least one pass over the documents, such as samples=4."
        )
    special = SpecialIds.of(special)
    scorable = windows.scorable(special)
    if not scorable.any():
        raise ValueError(
            f"There is nothing to score: the {windows.n_documents} held-out documents contain no ordinary token. "
            "Give documents with text in them."
        )
    pass_of, window_of = (index.ravel() for index in np.indices((samples, len(windows))))
    lengths = np.where(scorable > 0, windows.lengths, 0)[window_of]
    at = torch.device(device)
    done, total = 0, int(lengths.sum())
    for index in batches(lengths, batch_tokens):
        index = index[lengths[index] > 0]
        if not len(index):
            break  # the longest come first: only windows without a scorable token are left
        passes, numbers = pass_of[index], window_of[index]
        ids, real, may_hide = stack([windows.rows[i] for i in numbers], special, torch.device("cpu"))
        epoch, place = torch.from_numpy(passes), torch.from_numpy(numbers)
        shares = mask_rate(low_discrepancy(seed, epoch, place))
        where, _ = fixed_count(shares, may_hide, Noise(row_keys(seed, epoch, place)))
        seen = {"input_ids": ids.masked_fill(where, special.mask).to(at), "attention_mask": real.to(at)}
        yield HiddenBatch(passes, numbers, ids.to(at), where.to(at), seen)
        allocator.watch.look()
        done += int(lengths[index].sum())
        if progress is not None:
            progress(done, total)
