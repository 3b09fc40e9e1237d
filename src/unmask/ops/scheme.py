"""The three parts of a corruption: clean tokens in, noisy tokens out.

    mask rate     how many tokens of a row to mask    a constant, U(eps, 1), a schedule      unmask.ops.mask_rates
    selection     which positions to mask             Bernoulli, fixed count, spans, ...
    unmask.ops.position_sampling, .spans replacement   the new token of each position      [MASK], a random token, the
    same one   unmask.ops.replacement

A :class:`Corruption` combines one of each; named combinations are in ``unmask.ops.corruption``. Two options change the
units of these choices: rows may be cut into blocks, each with its own mask rate, and the tokens of a word may be masked
together.

Positions that are not eligible are never masked. All noise is keyed by row (``unmask.randomness``), so the corruption
of a row does not depend on its batch. Shapes: ids, masks and probabilities ``[B, L]``; mask rates ``[B]`` in [0, 1],
float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from unmask.contracts import Corrupted
from unmask.ops.mask_rates import ConstantMaskRate, MaskRate, ScheduleMaskRate
from unmask.ops.position_sampling import FixedCount, PositionSampler, WeightedCount, bernoulli
from unmask.ops.replacement import Replacement
from unmask.ops.spans import Spans
from unmask.randomness import GOLDEN_RATIO, Noise, Stream, fold
from unmask.registry import Registry

MASK_RATE_LAWS: Registry[type[MaskRate]] = Registry(
    "mask-rate law",
    {
        "schedule": (ScheduleMaskRate, "the mask rate of a schedule at a random time"),
        "constant": (ConstantMaskRate, "the same mask rate for every row (BERT)"),
    },
)
POSITION_SAMPLERS: Registry[PositionSampler | type[PositionSampler]] = Registry(
    "position sampler",
    {
        "fixed_count": (FixedCount, "exactly k positions, all subsets equally likely"),
        "bernoulli": (bernoulli, "each position independently, with the row's mask rate"),
        "weighted": (WeightedCount, "exactly k positions, later ones more often"),
        "spans": (Spans, "runs of geometric length (SpanBERT)"),
    },
)

Granularity = Callable[[Int[Tensor, "batch seq"], Bool[Tensor, "batch seq"]], Int[Tensor, "batch seq"]]


@dataclass(frozen=True)
class Corruption:
    """A mask-rate law, a position sampler and a replacement: the forward process.

    Attributes:
        mask_rate: law of the mask rates: uniforms ``[B]`` -> rates ``[B]``.
        selection: rates, eligible, noise -> selected positions and their selection probabilities, ``[B, L]`` each.
        replacement: writes ``[MASK]`` or another token at the selected positions.

    Other Parameters:
        block_size: length of the blocks that are corrupted like rows of their own, each with its own mask rate (BD3-LM,
            Arriola et al. 2025). Blocks count from the first token of each document; None = the row is one block. The
            rates of a row's blocks are independent, unless ``noise.row_uniforms`` spreads them evenly
            (``unmask.ops.time_sampling``).
        granularity: ids, eligible -> index ``[B, L]`` of the first token of each token's unit, such as its word. Only
            first tokens are selected, and the rest of a unit follows its first token; counts are counts of units
            (``unmask.ops.whole_words``, ``unmask.ops.instructions``). None = every token is a unit.
        clean_prefix: collators add the clean tokens as ``x_0`` to the batch, for blocks that attend to clean prefixes.

    Examples:
        >>> import torch
        >>> from unmask.ops.mask_rates import ConstantMaskRate
        >>> from unmask.ops.position_sampling import fixed_count
        >>> from unmask.randomness import Noise, row_keys
        >>> corruption = Corruption(ConstantMaskRate(0.5), fixed_count, Replacement(mask_token_id=0))
        >>> ids = torch.tensor([[5, 6, 7, 8]])
        >>> noise = Noise(row_keys(0, 0, torch.tensor([0])))  # seed 0, epoch 0, example 0
        >>> noisy, noise_mask, p_mask = corruption(ids, torch.ones(1, 4, dtype=torch.bool), noise)
        >>> int(noise_mask.sum()), p_mask[0, 0].item(), bool((noisy[noise_mask] == 0).all())
        (2, 0.5, True)
    """

    mask_rate: MaskRate
    selection: PositionSampler
    replacement: Replacement
    block_size: int | None = None
    granularity: Granularity | None = None
    clean_prefix: bool = False

    def __post_init__(self) -> None:
        if self.block_size is not None and self.block_size < 1:
            raise ValueError(
                f"block_size={self.block_size} is the number of tokens of a block: give at least 1, or None for one block per row."
            )

    def __call__(
        self, input_ids: Int[Tensor, "batch seq"], eligible: Bool[Tensor, "batch seq"], noise: Noise
    ) -> Corrupted:
        """Mask part of each row.

        Args:
            input_ids: int64 ``[B, L]``, clean.
            eligible: bool ``[B, L]``, True = may be masked.
            noise: keyed noise of the rows.

        Returns:
            Noisy ids, the masked positions (a subset of ``eligible``), and the probability (float32) of each eligible
            position to be masked. Probabilities at other positions are undefined.
        """
        if not input_ids.numel():  # no rows, or rows of length 0
            return Corrupted(input_ids.clone(), eligible.clone(), torch.zeros(eligible.shape, device=eligible.device))
        if self.granularity is None:
            selected, p = self._select(eligible, noise)
        else:
            unit = self.granularity(input_ids, eligible)
            first = unit == torch.arange(unit.shape[1], device=unit.device)
            selected, p = self._select(eligible & first, noise)
            selected, p = selected.gather(-1, unit) & eligible, p.gather(-1, unit)
        return Corrupted(
            self.replacement(input_ids, selected, noise), selected, p if p.dtype == torch.float32 else p.float()
        )

    def at(self, progress: Float[Tensor, " batch"]) -> Corruption:
        """Return the corruption at a training progress ``[B]`` in [0, 1] (mask-rate warm-up)."""
        return replace(self, mask_rate=self.mask_rate.at(progress))

    def _select(self, eligible: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        if self.block_size is None:
            return self.selection(self.mask_rate.draw(noise), eligible, noise)
        return self._in_blocks(eligible, noise)

    def _in_blocks(self, eligible: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Select within each block as in a row: reshape blocks ``[B, K, W]`` to rows ``[B * K, W]`` and back."""
        assert self.block_size is not None
        if noise.counters is None and noise.places is None and noise.blocks is None:
            return self._in_even_blocks(eligible, noise)
        rows, width = eligible.shape
        index = torch.arange(width, device=eligible.device).expand(rows, width)
        counters = index if noise.counters is None else noise.counters
        places = counters if noise.places is None else noise.places
        # Blocks start at every multiple of their length, counted from a document's first token.
        starts = (places % self.block_size == 0) & (places >= 0)
        block = (starts.cumsum(-1) - 1).clamp(min=0)
        offset = index - torch.where(starts, index, 0).cummax(-1).values  # of a position within its block
        blocks = int(block.max()) + 1
        number = torch.arange(blocks, device=eligible.device).expand(rows, blocks)
        inner = (block * self.block_size + offset).clamp(max=blocks * self.block_size - 1)
        real = places >= 0
        source = torch.full((rows, blocks * self.block_size + 1), -1, device=eligible.device)  # [B, K * W]
        source = source.scatter(1, torch.where(real, inner, source.shape[1] - 1), index)[:, :-1]
        inside = source >= 0
        source = source.clamp(min=0)
        folded = Noise(
            fold(fold(noise.keys, int(Stream.BLOCK))[:, None].expand(rows, blocks), number).flatten(),
            counters.gather(-1, source).view(rows * blocks, self.block_size),
        )
        selected, p = self.selection(
            self._block_rates(folded, noise.row_uniforms, blocks),
            (eligible.gather(-1, source) & inside).view(rows * blocks, self.block_size),
            folded,
        )
        return selected.view(rows, -1).gather(-1, inner) & eligible, p.reshape(rows, -1).gather(-1, inner)

    def _in_even_blocks(self, eligible: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Select as :meth:`_in_blocks` where blocks start at the multiples of their length: views in place of indices."""
        assert self.block_size is not None
        rows, width = eligible.shape
        blocks = -(-width // self.block_size)
        uneven = width % self.block_size > 0
        if uneven:
            eligible = pad(eligible, (0, blocks * self.block_size - width))
        folded = noise.of_blocks(blocks, self.block_size)
        rates = self._block_rates(folded, noise.row_uniforms, blocks)
        selected, p = self.selection(rates, eligible.reshape(-1, self.block_size), folded)
        selected, p = selected.view(rows, -1), p.reshape(rows, -1)
        return (selected[:, :width].contiguous(), p[:, :width]) if uneven else (selected, p)

    def _block_rates(self, folded: Noise, row_uniforms: Tensor | None, blocks: int) -> Float[Tensor, " rows_blocks"]:
        """Return the mask rates of all blocks, row after row."""
        if row_uniforms is None:
            u = folded.per_row(Stream.MASK_RATE)
        else:  # spread the times of a row's blocks evenly, too, in steps of the golden ratio
            steps = torch.arange(blocks, device=row_uniforms.device) * GOLDEN_RATIO
            u = (row_uniforms[:, None] + steps).frac().clamp(min=2.0**-53).flatten()
        return self.mask_rate.repeated(blocks)(u)
