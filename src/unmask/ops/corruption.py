"""Corruptions by name: combinations of a mask-rate law, a position sampler and a replacement (``unmask.ops.scheme``).

``*_corruption`` returns a :class:`Corruption` for collators, with noise keyed by row. ``unmask.ops.corrupt`` has the same
as functions of tensors. Only masks alone at all rates, independent or with the counts of the linear schedule, give a
likelihood bound (docs/theory.md, "The likelihood bound").
"""

from __future__ import annotations

from dataclasses import replace

from unmask.ops.mask_rates import ConstantMaskRate, ScheduleMaskRate, UniformMaskRate
from unmask.ops.position_sampling import (
    Draw,
    WeightedCount,
    bernoulli,
    fixed_count,
    systematic,
)
from unmask.ops.replacement import Replacement, ordinary_ids
from unmask.ops.schedule import Schedule
from unmask.ops.scheme import Corruption, Granularity
from unmask.ops.spans import Spans


def uniform_corruption(mask_token_id: int, eps: float = 1e-3, exact: bool = False) -> Corruption:
    """Return masked diffusion's corruption: a rate uniform on (eps, 1), then Bernoulli masking (LLaDA, MDLM).

    Args:
        mask_token_id: id of ``[MASK]``.
        eps: smallest mask rate; it keeps ``1/p`` finite.
        exact: mask exactly ``ceil(rate * n)`` positions instead. At least one position is masked, so ``eps`` is not
            used: with it the count would not be uniform on ``1..n``.
    """
    mask_rate = UniformMaskRate(0.0 if exact else eps)
    return Corruption(mask_rate, fixed_count if exact else bernoulli, Replacement(mask_token_id))


def scheduled_corruption(mask_token_id: int, schedule: Schedule, t_min: float = 1e-3) -> Corruption:
    """Return a corruption at the rate of a schedule at a uniform time, with Bernoulli masking (MDLM, MD4)."""
    return Corruption(ScheduleMaskRate(schedule, t_min), bernoulli, Replacement(mask_token_id))


def count_corruption(mask_token_id: int, schedule: Schedule) -> Corruption:
    """Return MaskGIT's corruption: exactly ``ceil(rate(t) * n)`` positions at a uniform time (Chang et al. 2022).

    The mean loss over masked tokens is a likelihood bound under the linear schedule only (docs/theory.md, "The
    likelihood bound").
    """
    return Corruption(ScheduleMaskRate(schedule, 0.0), fixed_count, Replacement(mask_token_id))


def block_diffusion_corruption(mask_token_id: int, block_size: int, eps: float = 1e-3, top: float = 1.0) -> Corruption:
    """Return block diffusion's corruption: a rate ``U(eps, top)`` for each block, Bernoulli (Arriola et al. 2025)."""
    return Corruption(UniformMaskRate(eps, top), bernoulli, Replacement(mask_token_id), block_size=block_size)


def blockwise_corruption(
    mask_token_id: int,
    block_size: int | None = None,
    eps: float = 1e-3,
    half_life_ratio: float = 0.25,
    draw: Draw = systematic,
    min_count: int = 1,
) -> Corruption:
    """Return a corruption of exactly ``round(m * n)`` positions of each block, later positions more often.

    Its ``p_mask`` holds inclusion probabilities. It is no likelihood bound: masked sets of one size are not equally
    likely. Options as of :class:`unmask.ops.position_sampling.WeightedCount`.
    """
    selection = WeightedCount(half_life_ratio, draw, min_count, length=block_size)
    return Corruption(UniformMaskRate(eps), selection, Replacement(mask_token_id), block_size=block_size)


def span_corruption(
    mask_token_id: int,
    probability: float = 0.15,
    success: float = 0.2,
    longest: int = 10,
    replacement: Replacement | None = None,
) -> Corruption:
    """Return SpanBERT's masking: runs of geometric length that cover ``probability`` of the tokens (Joshi et al. 2020).

    Args:
        mask_token_id: id of ``[MASK]``.
        probability: mask rate of every row.
        success: success probability of the geometric lengths.
        longest: largest length of a span, in tokens.
        replacement: None = ``[MASK]`` everywhere. SpanBERT itself masks, randomises or keeps whole spans:
            ``Replacement(mask, 0.8, 0.1, ordinary_ids, runs=True)``.
    """
    replacement = replacement if replacement is not None else Replacement(mask_token_id)
    return Corruption(ConstantMaskRate(probability), Spans(success, longest), replacement)


def whole_words(corruption: Corruption, granularity: Granularity) -> Corruption:
    """Return ``corruption`` with all tokens of a word, operand or instruction masked together.

    Mask rates and counts then refer to units: exactly ``k`` of ``n`` masks ``k`` units.

    Args:
        corruption: any corruption but spans.
        granularity: a ``WordTable`` of the tokenizer, ``WholeOperands``, or ``WholeInstructions``.

    Raises:
        ValueError: the corruption selects spans, whose lengths are in tokens.
    """
    if isinstance(corruption.selection, Spans):
        raise ValueError(
            "Spans are runs of tokens with lengths of their own, which would cut words in two. Use bert_corruption, "
            "uniform_corruption or scheduled_corruption to mask whole words, operands or instructions."
        )
    return replace(corruption, granularity=granularity)


def bert_corruption(
    mask_token_id: int,
    vocab_size: int,
    special_ids: tuple[int, ...] = (),
    probability: float = 0.15,
    mask_replace_prob: float = 0.8,
    random_replace_prob: float = 0.1,
) -> Corruption:
    """Return BERT's 80/10/10 masking (Devlin et al. 2019, section 3.1); arguments as of :func:`corrupt_bert`."""
    ordinary = ordinary_ids(vocab_size, (*special_ids, mask_token_id))
    replacement = Replacement(mask_token_id, mask_replace_prob, random_replace_prob, ordinary)
    return Corruption(ConstantMaskRate(probability), bernoulli, replacement)
