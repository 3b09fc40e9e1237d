"""Corruption of tensors in one call: ``corrupt_*`` returns ``(noisy_input_ids, noise_mask, p_mask)``.

Noise comes from a generator. Mask rates are independent across rows and blocks; collators and configs can spread them
evenly (``unmask.ops.time_sampling``).

    corrupt_uniform          rate U(eps, 1), Bernoulli, [MASK]                     LLaDA, MDLM
    corrupt_blockwise        rate U(eps, 1) per row or block, weighted count       later positions more often
    corrupt_scheduled        rate(t), exactly ceil(rate * n)                       MaskGIT
    corrupt_bert             15%, Bernoulli, 80/10/10                              BERT
    corrupt_uniform_random   rate U(eps, 1), Bernoulli, random ordinary token      uniform-state diffusion
    corrupt_all_masked       every eligible position

Shapes: ids, masks and probabilities ``[B, L]``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.arrays import as_array, as_tensor, spread, to_float32
from unmask.contracts import Corrupted
from unmask.ops.corruption import bert_corruption, blockwise_corruption, count_corruption, uniform_corruption
from unmask.ops.mask_rates import UniformMaskRate
from unmask.ops.position_sampling import FixedCount, PositionSampler, WeightedCount, bernoulli
from unmask.ops.replacement import Replacement, ordinary_ids
from unmask.ops.schedule import Schedule, as_schedule
from unmask.ops.scheme import Corruption
from unmask.ops.selection import sample_weighted
from unmask.randomness import Noise

# Corruptions are constants: a call costs a look-up in place of five objects and their checks.
_uniform, _bert = lru_cache(maxsize=16)(uniform_corruption), lru_cache(maxsize=16)(bert_corruption)


def _apply(
    corruption: Corruption,
    input_ids: Tensor,
    loss_mask: Tensor,
    generator: torch.Generator | None,
    row_uniforms: Tensor | None = None,
) -> Corrupted:
    ids, eligible = _checked(input_ids, loss_mask)
    noise = Noise.from_generator(ids.shape[0], generator, ids.device)
    if row_uniforms is not None:
        noise = replace(noise, row_uniforms=row_uniforms)
    noisy, selected, p = corruption(ids, eligible, noise)
    return Corrupted(noisy, selected, p.contiguous())


def _checked(input_ids: Tensor, loss_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ids as int64 and the maskable positions as booleans, ``[B, L]`` both."""
    ids, eligible = _rows(input_ids), torch.as_tensor(loss_mask, device=input_ids.device).bool()
    if eligible.shape != ids.shape:
        raise ValueError(
            f"loss_mask marks the tokens that may be masked, and its shape {list(eligible.shape)} differs from that of the ids, "
            f"{list(ids.shape)}. Give 1 (or True) or 0 for each token."
        )
    return ids, eligible


def _rows(input_ids: Tensor) -> Int[Tensor, "batch seq"]:
    if input_ids.dim() != 2 or input_ids.is_floating_point() or input_ids.dtype == torch.bool:
        raise ValueError(
            f"input_ids must be integers [batch, length]; got {input_ids.dtype} {list(input_ids.shape)}. Give one row as ids[None], "
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
    """Mask each maskable position with a rate drawn per row from ``U(eps, 1)`` (LLaDA, Nie et al. 2025, alg. 1).

    Args:
        input_ids: ``[B, L]``, clean, of any integer dtype; the noisy ids are int64.
        loss_mask: ``[B, L]``, bool or 0/1; positions with 0 are never masked.
        mask_token_id: id written at masked positions.

    Other Parameters:
        eps: smallest mask rate.
        generator: source of the row keys; None = torch's global generator.

    Returns:
        ``(noisy_input_ids, noise_mask, p_mask)``, ``[B, L]`` each: int64, bool, and float32 with the row's mask rate.

    Raises:
        ValueError: ids that are not integers ``[B, L]``, or a ``loss_mask`` of another shape.

    Examples:
        >>> import torch
        >>> ids = torch.arange(5, 13)[None]
        >>> noisy, noise_mask, p_mask = corrupt_uniform(
        ...     ids, torch.ones_like(ids), mask_token_id=0, generator=torch.Generator().manual_seed(0)
        ... )
        >>> torch.equal(noisy, torch.where(noise_mask, 0, ids)), p_mask.shape
        (True, torch.Size([1, 8]))
    """
    return _apply(_uniform(mask_token_id, eps), input_ids, loss_mask, generator)


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
    """Apply BERT's masking: select with ``probability``; of the selected, mask 80%, randomise 10%, keep 10%.

    All selected positions are scored (Devlin et al. 2019, section 3.1).

    Args:
        input_ids, loss_mask, mask_token_id: as of :func:`corrupt_uniform`.
        vocab_size: random tokens are drawn evenly from the ids below it, except ``mask_token_id`` and ``special_ids``.
        special_ids: ids that are never drawn as random tokens.

    Other Parameters:
        probability: mask rate of every row.
        mask_replace_prob: fraction of the selected positions that become ``mask_token_id``.
        random_replace_prob: fraction that become a random token; the rest keep their token.
        generator: source of the row keys; None = torch's global generator.

    Returns:
        ``(noisy_input_ids, noise_mask, p_mask)`` as of :func:`corrupt_uniform`.

    Examples:
        >>> import torch
        >>> ids = torch.arange(5, 13)[None]
        >>> noisy, noise_mask, p_mask = corrupt_bert(ids, torch.ones_like(ids), mask_token_id=0, vocab_size=100)
        >>> torch.equal(noisy[~noise_mask], ids[~noise_mask]), round(p_mask[0, 0].item(), 4)
        (True, 0.15)
    """
    corruption = _bert(
        mask_token_id, vocab_size, tuple(special_ids), probability, mask_replace_prob, random_replace_prob
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
    """Mask ``round(m * n)`` of each block's ``n`` maskable positions, ``m ~ U(eps, 1)``, later ones more often.

    Position ``i`` of a block has the log-weight ``lambda (1 - m) i`` with ``lambda = ln 2 / (half_life_ratio *
    length)``, and positions are drawn by Gumbel top-k (Kool et al. 2019). The rates ``m`` of a row's blocks are
    independent.

    Args:
        input_ids, loss_mask, mask_token_id: as of :func:`corrupt_uniform`.
        block_size: positions per block, each block with its own ``m``; None = one block per row.

    Other Parameters:
        eps: smallest mask rate.
        half_life_ratio: fraction of a block over which the weight doubles as ``m`` goes to 0.
        generator: source of the row keys; None = torch's global generator.

    Returns:
        ``(noisy_input_ids, noise_mask, p_mask)``; ``p_mask`` is the rate ``m`` of each position's block, *not* its
        inclusion probability. For a weighted loss use ``blockwise_corruption``, whose ``p_mask`` is.

    Examples:
        >>> import torch
        >>> ids = torch.arange(5, 13)[None]
        >>> noisy, noise_mask, m = corrupt_blockwise(ids, torch.ones_like(ids), mask_token_id=0, block_size=4)
        >>> noise_mask.view(2, 4).sum(-1).tolist() == (4 * m[0, ::4]).round().tolist()  # exact counts in each block
        True
    """
    return _apply(_blockwise(mask_token_id, block_size, eps, half_life_ratio), input_ids, loss_mask, generator)


@lru_cache(maxsize=16)
def _blockwise(mask_token_id: int, block_size: int | None, eps: float, half_life_ratio: float) -> Corruption:
    weighted = WeightedCount(half_life_ratio, min_count=0, length=block_size)
    return replace(blockwise_corruption(mask_token_id, block_size, eps), selection=_stating_rate(weighted))


def _stating_rate(weighted: WeightedCount) -> PositionSampler:
    """Return Gumbel top-k by the weights of ``weighted``, with mask rates in place of probabilities."""

    def stated(mask_rate: Tensor, eligible: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        log_w, k = weighted.weights(mask_rate, eligible, single=True)
        return sample_weighted(log_w, k, eligible, noise), as_tensor(
            spread(to_float32(as_array(mask_rate)), eligible.shape[1])
        )

    return stated


def corrupt_scheduled(
    input_ids: Tensor,
    loss_mask: Tensor,
    mask_token_id: int,
    schedule: str | Schedule = "cosine",
    times: Float[Tensor, " batch"] | None = None,
    generator: torch.Generator | None = None,
) -> Corrupted:
    """Mask exactly ``ceil(rate(t) * n)`` of a row's ``n`` maskable positions (MaskGIT, Chang et al. 2022).

    Args:
        input_ids, loss_mask, mask_token_id: as of :func:`corrupt_uniform`.
        schedule: a name of ``unmask.ops.schedule.SCHEDULES``, a :class:`Schedule`, or a function ``t -> mask rate``.
        times: ``[B]`` in [0, 1]; None = uniform.

    Other Parameters:
        generator: source of the row keys; None = torch's global generator.

    Returns:
        ``(noisy_input_ids, noise_mask, p_mask)``; ``p_mask`` is the realised fraction ``k / n``.

    Raises:
        ValueError: as :func:`corrupt_uniform` and :func:`unmask.as_schedule`.

    Examples:
        >>> import torch
        >>> ids = torch.arange(5, 15)[None]
        >>> times = torch.tensor([0.5])
        >>> noisy, noise_mask, p_mask = corrupt_scheduled(ids, torch.ones_like(ids), mask_token_id=0, times=times)
        >>> int(noise_mask.sum())  # ceil(10 cos(pi/4))
        8
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
    """Replace positions with random ordinary tokens, at a rate drawn per row from ``U(eps, 1)`` (D3PM, uniform state).

    A position may draw its own token; it is scored all the same.

    Args:
        input_ids, loss_mask: as of :func:`corrupt_uniform`.
        vocab_size: tokens are drawn evenly from the ids below it, except ``special_ids``.
        special_ids: ids that are never drawn; include the mask token.

    Other Parameters:
        eps: smallest rate.
        generator: source of the row keys; None = torch's global generator.

    Returns:
        ``(noisy_input_ids, noise_mask, p_mask)`` as of :func:`corrupt_uniform`.

    Examples:
        >>> import torch
        >>> ids = torch.full((1, 8), 7)
        >>> noisy, noise_mask, p_mask = corrupt_uniform_random(ids, torch.ones_like(ids), 10, special_ids=(0, 1))
        >>> bool((noisy >= 2).all()), bool((noisy[~noise_mask] == 7).all())
        (True, True)
    """
    # No position becomes [MASK] here; -1 is not a token id.
    # Nothing is masked, so the mask's id is never written; -1 is no token.
    replacement = Replacement(
        -1, mask_replace_prob=0.0, random_replace_prob=1.0, ordinary_ids=ordinary_ids(vocab_size, special_ids)
    )
    return _apply(Corruption(UniformMaskRate(eps), bernoulli, replacement), input_ids, loss_mask, generator)


def corrupt_all_masked(input_ids: Tensor, loss_mask: Tensor, mask_token_id: int) -> Corrupted:
    """Mask every maskable position.

    Args:
        input_ids, loss_mask, mask_token_id: as of :func:`corrupt_uniform`.

    Returns:
        ``(noisy_input_ids, noise_mask, p_mask)``; ``p_mask`` is 1.

    Examples:
        >>> import torch
        >>> corrupt_all_masked(torch.tensor([[5, 6, 7]]), torch.tensor([[0, 1, 1]]), mask_token_id=0).noisy_input_ids
        tensor([[5, 0, 0]])
    """
    ids, eligible = _checked(input_ids, loss_mask)
    noisy = torch.where(eligible, mask_token_id, ids)
    return Corrupted(noisy, eligible.clone(), torch.ones(ids.shape, device=ids.device))
