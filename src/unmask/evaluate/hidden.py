"""Masking of every window by keyed noise, and measurement of the model at the masked tokens.

One pass masks exactly ``k`` of a window's ``n`` tokens, ``k = ceil(rate(u) n)``, with ``u`` spread evenly over all
windows of the pass: systematic sampling, the lowest variance of those measured (docs/theory.md, "Variance of the
estimate"). Passes have independent offsets, so their spread measures the Monte-Carlo error. The masked positions depend on
the seed, the pass and the content of the windows only: not on the order of the documents, the batch, the padding or the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from unmask import allocator
from unmask.contracts import MLMModel, SpecialIds
from unmask.devices import device_of
from unmask.evaluate.suitability import check_masked
from unmask.evaluate.windows import Windows, batches, stack
from unmask.nn.modes import eval_mode
from unmask.nn.projection import logits_in_chunks
from unmask.ops.mask_rates import MaskRate
from unmask.ops.position_sampling import PositionSampler, fixed_count
from unmask.randomness import Noise, low_discrepancy, row_keys

Measure = Callable[[Float[Tensor, "scored vocab"], Int[Tensor, " scored"]], Float[Tensor, " scored"]]
Progress = Callable[[int, int], None]  # tokens done, all tokens

LARGEST_LOGITS = 2**23  # numbers per piece of logits: 32 MiB of float32


@dataclass(frozen=True)
class HiddenSums:
    """Sums of measures over the masked tokens of each window, by pass.

    Attributes:
        sums: float64 ``[M, R, W]`` for ``M`` measures and ``R`` passes.
        hidden: int64 ``[R, W]``, number of masked tokens.
        scorable: int64 ``[W]``, number of maskable tokens.
        p_mask: float64 ``[R, W]``, probability of each maskable token to be masked; 1 for windows without one.
    """

    sums: NDArray[np.float64]
    hidden: NDArray[np.int64]
    scorable: NDArray[np.int64]
    p_mask: NDArray[np.float64]


def measure_at(
    model: MLMModel, batch: dict[str, Tensor], where: Tensor, targets: Tensor, measures: Sequence[Measure]
) -> Tensor:
    """Return every measure at the positions of ``where`` ``[B, L]``: float64 ``[M, scored]`` on the CPU."""
    pieces: list[Tensor] = []
    start = 0
    for logits in logits_in_chunks(model, batch, where, LARGEST_LOGITS):
        true_ids = targets[start : start + len(logits)]
        start += len(logits)
        pieces.append(torch.stack([measure(logits, true_ids) for measure in measures]).cpu().double())
    return torch.cat(pieces, dim=1) if pieces else torch.zeros(len(measures), 0, dtype=torch.float64)


def measure_hidden(
    model: MLMModel,
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
    sampler: PositionSampler = fixed_count,
) -> HiddenSums:
    """Return sums of the measures over the masked tokens.

    Args:
        model: any ``MLMModel``.
        windows: the rows.
        special: special ids: the mask id, and the ids that are never masked.
        measures: functions of logits ``[n, V]`` and true ids ``[n]``.
        mask_rate: mask-rate law, such as ``UniformMaskRate(0)`` or ``ConstantMaskRate(0.15)``.

    Other Parameters:
        samples: passes over all windows.
        seed: of the noise.
        batch_tokens: padded tokens per forward pass; affects speed and memory, not the numbers.
        device: None = the model's own.
        progress: callback ``(tokens done, all tokens)``, called after every batch.
        sampler: which tokens to mask at a rate, each with the same probability: ``fixed_count`` or ``bernoulli``.

    Raises:
        ValueError: no token can be scored, a row contains the mask token, or ``samples`` is not positive.
    """
    sums = np.zeros((len(measures), samples, len(windows)))
    hidden = np.zeros((samples, len(windows)), dtype=np.int64)
    p_mask = np.ones((samples, len(windows)))
    check_masked(model)
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
            sampler=sampler,
        ):
            values = measure_at(model, part.batch, part.where, part.ids[part.where], measures)
            row = part.where.nonzero()[:, 0].cpu()
            per_row = torch.zeros(len(measures), len(part.ids), dtype=torch.float64).index_add(1, row, values)
            sums[:, part.passes, part.windows] = per_row.numpy()
            hidden[part.passes, part.windows] = part.where.sum(-1).cpu().numpy()
            p_mask[part.passes, part.windows] = part.p_mask
    return HiddenSums(sums, hidden, windows.scorable(SpecialIds.of(special)), p_mask)


class HiddenBatch(NamedTuple):
    """Windows with part of their tokens masked.

    Attributes:
        passes, windows: int64 ``[B]``, pass and window of each row.
        ids: clean, int64 ``[B, L]``.
        where: True = masked, bool ``[B, L]``.
        batch: the model's input: ``input_ids`` and ``attention_mask``.
        p_mask: float64 ``[B]``, probability of each maskable token of a row to be masked.
    """

    passes: NDArray[np.int64]
    windows: NDArray[np.int64]
    ids: Int[Tensor, "batch seq"]
    where: Bool[Tensor, "batch seq"]
    batch: dict[str, Tensor]
    p_mask: NDArray[np.float64]


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
    sampler: PositionSampler = fixed_count,
) -> Iterator[HiddenBatch]:
    """Yield every pass over every window, in batches of similar length; arguments and errors as of
    :func:`measure_hidden`.
    """
    if samples < 1:
        raise ValueError(
            f"samples={samples} is the number of passes over the documents: give at least 1, such as samples=4."
        )
    special = SpecialIds.of(special)
    scorable = windows.scorable(special)
    if not scorable.any():
        raise ValueError(
            f"There is nothing to score: the {windows.n_documents} held-out documents contain no ordinary token. "
            "Give documents that contain text."
        )
    keys, places = (torch.from_numpy(each) for each in windows.noise_keys(special))
    pass_of, window_of = (index.ravel() for index in np.indices((samples, len(windows))))
    lengths = np.where(scorable > 0, windows.lengths, 0)[window_of]
    at = torch.device(device)
    done, total = 0, int(lengths.sum())
    for index in batches(lengths, batch_tokens):
        index = index[lengths[index] > 0]
        if not len(index):
            break  # sorted by length: all remaining windows have no scorable token
        passes, numbers = pass_of[index], window_of[index]
        ids, real, maskable = stack(
            [windows.rows[i] for i in numbers],
            special,
            torch.device("cpu"),
            None if windows.answers is None else [windows.answers[i] for i in numbers],
        )
        epoch, place = torch.from_numpy(passes), torch.from_numpy(numbers)
        rates = mask_rate(low_discrepancy(seed, epoch, places[place]))
        where, p_mask = sampler(rates, maskable, Noise(row_keys(seed, epoch, keys[place])))
        batch = {"input_ids": ids.masked_fill(where, special.mask).to(at), "attention_mask": real.to(at)}
        p = p_mask.masked_fill(~maskable, 0.0).amax(-1).double().numpy()  # the same at every maskable token
        yield HiddenBatch(passes, numbers, ids.to(at), where.to(at), batch, p)
        allocator.watch.look()
        done += int(lengths[index].sum())
        if progress is not None:
            progress(done, total)
