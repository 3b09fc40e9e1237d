"""Corruptions by name: each is one answer to level, choice and replacement (``unmask.ops.scheme``).

``*_corruption`` builds a :class:`Corruption`, the value that collators take, whose noise is keyed by row. ``corrupt_*``
applies one to tensors at once, with noise from a generator, and answers ``(noisy_input_ids, noise_mask, p_mask)``. Its
rates are independent from row to row and from block to block; evenly spread ones are an option of collators and configs.

    corrupt_uniform          rate U(eps, 1), coins, [MASK]                         LLaDA, MDLM
    corrupt_blockwise        rate U(eps, 1) per row or block, weighted count       later positions more often
    corrupt_scheduled        rate(t), exactly ceil(rate * n)                       MaskGIT
    corrupt_bert             15%, coins, 80/10/10                                  BERT
    corrupt_uniform_random   rate U(eps, 1), coins, a random ordinary token        uniform-state diffusion
    corrupt_all_masked       all of it

Shapes: ids, masks and probabilities ``[B, L]``.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.contracts import Corrupted
from unmask.ops.mask_rates import ConstantMaskRate, ScheduleMaskRate, UniformMaskRate
from unmask.ops.mask_rates import MaskRate as MaskRate
from unmask.ops.position_sampling import (
    Draw,
    FixedCount,
    PositionSampler,
    WeightedCount,
    bernoulli,
    successive,
    systematic,
)
from unmask.ops.position_sampling import exact_ceil as exact_ceil
from unmask.ops.position_sampling import fixed_count as fixed_count
from unmask.ops.replacement import Replacement, ordinary_ids
from unmask.ops.schedule import Schedule, as_schedule
from unmask.ops.scheme import Corruption, Granularity
from unmask.ops.spans import Spans
from unmask.randomness import Noise


def uniform_corruption(mask_token_id: int, eps: float = 1e-3, exact: bool = False) -> Corruption:
    """Masked diffusion's corruption: a rate uniform on (eps, 1), then coins (or exactly that many).

    ``eps`` keeps ``1/p`` of a coin finite. A count needs no floor, at least one position is hidden, and with one it
    would not be uniform on ``1..n``; so exact counts leave ``eps`` out.
    """
    mask_rate = UniformMaskRate(0.0 if exact else eps)
    return Corruption(mask_rate, fixed_count if exact else bernoulli, Replacement(mask_token_id))


def scheduled_corruption(mask_token_id: int, schedule: Schedule, t_min: float = 1e-3) -> Corruption:
    """A rate drawn through a schedule at a uniform time, then coins (MDLM, MD4)."""
    return Corruption(ScheduleMaskRate(schedule, t_min), bernoulli, Replacement(mask_token_id))


def count_corruption(mask_token_id: int, schedule: Schedule) -> Corruption:
    """MaskGIT's corruption: exactly ``ceil(rate(t) * n)`` positions at a uniform time (Chang et al. 2022).

    The mean over hidden tokens is a likelihood bound for the linear schedule alone (docs/theory.md, the likelihood bound).
    """
    return Corruption(
        ScheduleMaskRate(schedule, 0.0), fixed_count, Replacement(mask_token_id), is_elbo=schedule.name == "linear"
    )


def block_diffusion_corruption(mask_token_id: int, block_size: int, eps: float = 1e-3, top: float = 1.0) -> Corruption:
    """Block diffusion's corruption: a rate of its own for each block, ``U(eps, top)``, then coins (Arriola et al. 2025)."""
    mask_rate = UniformMaskRate(eps, top)
    return Corruption(
        mask_rate, bernoulli, Replacement(mask_token_id), is_elbo=top == 1.0 and eps <= 1e-2, block_size=block_size
    )


def blockwise_corruption(
    mask_token_id: int,
    block_size: int | None = None,
    eps: float = 1e-3,
    half_life_ratio: float = 0.25,
    draw: Draw = systematic,
    min_count: int = 1,
) -> Corruption:
    """Exactly ``round(m * n)`` positions of each block, later ones more often, with their true probabilities.

    Not a likelihood bound: given how many are hidden, sets of positions are not equally likely.
    """
    choice = WeightedCount(half_life_ratio, draw, min_count, length=block_size)
    return Corruption(UniformMaskRate(eps), choice, Replacement(mask_token_id), is_elbo=False, block_size=block_size)


def span_corruption(
    mask_token_id: int,
    probability: float = 0.15,
    success: float = 0.2,
    longest: int = 10,
    replacement: Replacement | None = None,
) -> Corruption:
    """SpanBERT's corruption: runs of geometric length that cover ``probability`` of the tokens; not a bound.

    Everything hidden becomes ``[MASK]``, unless a ``replacement`` says other; SpanBERT's own is
    ``Replacement(mask, 0.8, 0.1, ordinary_ids, runs=True)``, a whole span masked, randomised or kept together.
    """
    replacement = replacement if replacement is not None else Replacement(mask_token_id)
    return Corruption(ConstantMaskRate(probability), Spans(success, longest), replacement, is_elbo=False)


def whole_words(corruption: Corruption, granularity: Granularity) -> Corruption:
    """``corruption`` with whole units hidden or kept together: words, operands, instructions.

    Levels and counts are then of units: exactly ``k`` of ``n`` hides ``k`` whole units.

    Args:
        units: a ``WordTable`` of the tokenizer, ``WholeOperands``, or ``WholeInstructions``.

    Raises:
        ValueError: the corruption chooses spans, whose lengths are in tokens.
    """
    if isinstance(corruption.selection, Spans):
        raise ValueError(
            "Spans are runs of tokens of their own lengths, which would cut units in two. Use bert_corruption, uniform_corruption or "
            "scheduled_corruption to hide whole words, operands or instructions."
        )
    return replace(corruption, granularity=granularity, is_elbo=False)


def bert_corruption(
    mask_token_id: int,
    vocab_size: int,
    special_ids: tuple[int, ...] = (),
    probability: float = 0.15,
    mask_replace_prob: float = 0.8,
    random_replace_prob: float = 0.1,
) -> Corruption:
    """BERT's 80/10/10 (Devlin et al. 2019, section 3.1): not a likelihood bound."""
    ordinary = ordinary_ids(vocab_size, (*special_ids, mask_token_id))
    replacement = Replacement(mask_token_id, mask_replace_prob, random_replace_prob, ordinary)
    return Corruption(ConstantMaskRate(probability), bernoulli, replacement, is_elbo=False)


def _apply(
    corruption: Corruption,
    input_ids: Tensor,
    loss_mask: Tensor,
    generator: torch.Generator | None,
    row_uniforms: Tensor | None = None,
) -> Corrupted:
    ids, eligible = _rows(input_ids), torch.as_tensor(loss_mask, device=input_ids.device).bool()
    if eligible.shape != ids.shape:
        raise ValueError(
            f"loss_mask says of every token whether it may be hidden, and its shape {list(eligible.shape)} is not that of the ids, "
            f"{list(ids.shape)}. Give 1 (or True) and 0 for each token."
        )
    noise = Noise.from_generator(ids.shape[0], generator, ids.device)
    noisy, chosen, p = corruption(ids, eligible, replace(noise, row_uniforms=row_uniforms))
    return Corrupted(noisy, chosen, p.contiguous())


def _rows(input_ids: Tensor) -> Int[Tensor, "batch seq"]:
    if input_ids.dim() != 2 or input_ids.is_floating_point() or input_ids.dtype == torch.bool:
        raise ValueError(
            f"Ids to corrupt are integers [batch, length], and these are {input_ids.dtype} {list(input_ids.shape)}. Give one row as ids[None], "
            "and rows of unequal length to a collator."
        )
    return input_ids.long()


def corrupt_uniform(
    input_ids: Tensor,
    loss_mask: Tensor,
    mask_token_id: int,
    eps: float = 1e-3,
    generator: torch.Generator | None = None,
) -> Corrupted:
    """Hide each supervised position with a rate drawn per row from ``U(eps, 1)`` (LLaDA, 2502.09992).

    Args:
        input_ids: ``[B, L]``, clean, of any integer type; the noisy ids are int64.
        loss_mask: ``[B, L]``, bool or 0/1; positions with 0 are never hidden.
        mask_token_id: what hidden positions become.
        eps: smallest rate.
        generator: source of the row keys; torch's global generator if None.

    Returns:
        ``(noisy_input_ids, noise_mask, p_mask)``, each ``[B, L]``; ``p_mask`` is the row's rate everywhere.
    """
    return _apply(uniform_corruption(mask_token_id, eps), input_ids, loss_mask, generator)


def corrupt_bert(
    input_ids: Tensor,
    loss_mask: Tensor,
    mask_token_id: int,
    vocab_size: int,
    special_ids: tuple[int, ...] = (),
    probability: float = 0.15,
    mask_replace_prob: float = 0.8,
    random_replace_prob: float = 0.1,
    generator: torch.Generator | None = None,
) -> Corrupted:
    """BERT's corruption: select with ``probability``; of those, mask 80%, randomise 10%, keep 10%.

    Random tokens are drawn evenly from the ids below ``vocab_size`` that are neither ``mask_token_id`` nor in
    ``special_ids``. All selected positions are scored. Arguments and results as in :func:`corrupt_uniform`.
    """
    corruption = bert_corruption(
        mask_token_id, vocab_size, special_ids, probability, mask_replace_prob, random_replace_prob
    )
    return _apply(corruption, input_ids, loss_mask, generator)


def corrupt_blockwise(
    input_ids: Tensor,
    loss_mask: Tensor,
    mask_token_id: int,
    block_size: int | None = None,
    eps: float = 1e-3,
    half_life_ratio: float = 0.25,
    generator: torch.Generator | None = None,
) -> Corrupted:
    """Hide ``round(m * n)`` of each block's ``n`` supervised positions, ``m ~ U(eps, 1)``, later ones more often.

    The levels ``m`` of a row's blocks are independent.

    Position ``i`` of a block has the log-weight ``lambda (1 - m) i`` with ``lambda = ln 2 / (half_life_ratio * length)``,
    and positions are drawn by Gumbel top-k.

    Args:
        block_size: positions per block, each block with its own ``m``; the whole row is one block if None.
        half_life_ratio: the share of a block over which the weight doubles as ``m`` goes to 0.

    Other arguments as in :func:`corrupt_uniform`.

    Returns:
        ``(noisy_input_ids, noise_mask, p_mask)``; ``p_mask`` is the level ``m`` of each position's block. It is *not* the
        probability with which a position was hidden: a loss that weighs should take ``blockwise_corruption``, in a
        collator, whose ``p_mask`` is.
    """
    corruption = blockwise_corruption(mask_token_id, block_size, eps, half_life_ratio, successive, min_count=0)
    return _apply(replace(corruption, selection=_stating_rate(corruption.selection)), input_ids, loss_mask, generator)


def _stating_rate(choice: PositionSampler) -> PositionSampler:
    """``choice`` that reports the level in place of its probabilities."""

    def stated(mask_rate: Tensor, eligible: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        return choice(mask_rate, eligible, noise)[0], mask_rate[:, None].expand(eligible.shape)

    return stated


def corrupt_scheduled(
    input_ids: Tensor,
    loss_mask: Tensor,
    mask_token_id: int,
    schedule: str | Schedule = "cosine",
    times: Float[Tensor, " batch"] | None = None,
    generator: torch.Generator | None = None,
) -> Corrupted:
    """Hide exactly ``ceil(rate(t) * n)`` of a row's ``n`` supervised positions (MaskGIT, Chang et al. 2022).

    Args:
        schedule: name, object or function ``t -> fraction hidden``. MaskGIT's cosine is ``"cosine"``.
        times: ``[B]`` in [0, 1]; uniform if None.

    Other arguments as in :func:`corrupt_uniform`. ``p_mask`` is the realised share ``k / n``.
    """
    corruption = replace(count_corruption(mask_token_id, as_schedule(schedule)), selection=FixedCount(min_count=0))
    return _apply(corruption, input_ids, loss_mask, generator, None if times is None else times.double())


def corrupt_uniform_random(
    input_ids: Tensor,
    loss_mask: Tensor,
    vocab_size: int,
    special_ids: tuple[int, ...] = (),
    eps: float = 1e-3,
    generator: torch.Generator | None = None,
) -> Corrupted:
    """Replace positions by random ordinary tokens, at a rate drawn per row from ``U(eps, 1)``.

    Tokens are drawn evenly from the ids below ``vocab_size`` that are not in ``special_ids``; name the mask token among
    them. A position may be given its own token again, and is scored all the same. Otherwise as :func:`corrupt_uniform`.
    """
    # Nothing is masked, so the mask's id is never written; -1 is no token.
    replacement = Replacement(
        -1, mask_replace_prob=0.0, random_replace_prob=1.0, ordinary_ids=ordinary_ids(vocab_size, special_ids)
    )
    return _apply(
        Corruption(UniformMaskRate(eps), bernoulli, replacement, is_elbo=False), input_ids, loss_mask, generator
    )


def corrupt_all_masked(input_ids: Tensor, loss_mask: Tensor, mask_token_id: int) -> Corrupted:
    """Hide every supervised position; ``p_mask`` is 1."""
    return _apply(Corruption(ConstantMaskRate(1.0), bernoulli, Replacement(mask_token_id)), input_ids, loss_mask, None)
