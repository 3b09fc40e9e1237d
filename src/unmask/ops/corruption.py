"""Forward corruption: clean tokens in, noisy tokens out.

Every scheme answers three questions, in this order:

    level      how much of a row to hide     a constant, U(eps, 1), a schedule
    selection  which positions to hide       independent coins, or exactly k
    replace    what to put there             [MASK], a random token, itself

and each ``corrupt_*`` is one answer to each. A position that is not eligible is never hidden. All noise is
keyed by row (see ``unmask.randomness``), so a row is corrupted alike in any batch.

Shapes: ids, masks and probabilities ``[B, L]``; levels ``[B]`` in [0, 1], float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.contracts import Corrupted
from unmask.ops.schedule import Schedule
from unmask.ops.selection import bernoulli, select_top
from unmask.randomness import Noise, Stream

Level = Callable[[Float[Tensor, " batch"]], Float[Tensor, " batch"]]


@dataclass(frozen=True)
class ConstantLevel:
    """The same rate for every row (BERT's 0.15)."""

    rate: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate <= 1.0:
            raise ValueError(f"A mask rate is a probability, and {self.rate} is not: give a number from 0 to 1, such as 0.15.")

    def __call__(self, u: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        return torch.full_like(u, self.rate)


@dataclass(frozen=True)
class UniformLevel:
    """``(1 - eps) u + eps``: every rate from ``eps`` to 1 equally likely (LLaDA, Nie et al. 2025, alg. 1)."""

    eps: float = 1e-3

    def __post_init__(self) -> None:
        if not 0.0 <= self.eps < 1.0:
            raise ValueError(f"eps is the smallest mask rate and must lie in [0, 1); got {self.eps}.")

    def __call__(self, u: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        return (1 - self.eps) * u + self.eps


@dataclass(frozen=True)
class ScheduleLevel:
    """The rate of a schedule at a uniform time in ``[t_min, 1]``."""

    schedule: Schedule
    t_min: float = 1e-3

    def __call__(self, u: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        return self.schedule.rate((1 - self.t_min) * u + self.t_min)


Selection = Callable[
    [Float[Tensor, " batch"], Bool[Tensor, "batch seq"], Noise],
    tuple[Bool[Tensor, "batch seq"], Float[Tensor, "batch seq"]],
]


def coins(
    level: Float[Tensor, " batch"], eligible: Bool[Tensor, "batch seq"], noise: Noise
) -> tuple[Bool[Tensor, "batch seq"], Float[Tensor, "batch seq"]]:
    """Hide each eligible position independently with its row's level."""
    chosen = bernoulli(level, noise, eligible.shape[1]) & eligible
    return chosen, level[:, None].expand(eligible.shape)


def exact_count(
    level: Float[Tensor, " batch"], eligible: Bool[Tensor, "batch seq"], noise: Noise
) -> tuple[Bool[Tensor, "batch seq"], Float[Tensor, "batch seq"]]:
    """Hide exactly ``k`` of the ``n`` eligible positions, uniformly; ``k = ceil(level * n)``, at least one.

    Given ``k``, each eligible position is hidden with probability ``k / n``: that is the ``p`` returned, so
    ``1/p`` weighs like ``n/k``. With levels uniform on (0, 1), ``k`` is uniform on ``1..n``.
    """
    free = eligible.sum(-1)
    k = exact_ceil(level * free).clamp(min=1)
    chosen = select_top(noise.per_token(Stream.SELECTION, eligible.shape[1]), eligible, k)
    p = torch.minimum(k, free).double() / free.clamp(min=1)
    return chosen, p[:, None].expand(eligible.shape)


def exact_ceil(count: Float[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """The ceiling of a product of a rate and a count, forgiving its rounding: ``0.07 * 100`` is 7, not 8."""
    return torch.ceil(count * (1 - 2.0**-48)).long()


@dataclass(frozen=True)
class Replacement:
    """What to put at the chosen positions: ``[MASK]``, a random ordinary token, or the token itself.

    Attributes:
        mask_token_id: id of ``[MASK]``; never drawn as a random token.
        mask_rate, random_rate: shares of the chosen positions that are masked or randomised; the rest keep
            their token (and are scored all the same).
        ordinary_ids: int64 ``[n]``, the ids a random token may be; needed if ``random_rate > 0``.
    """

    mask_token_id: int
    mask_rate: float = 1.0
    random_rate: float = 0.0
    ordinary_ids: Int[Tensor, " ordinary"] | None = None

    def __post_init__(self) -> None:
        if self.mask_rate < 0 or self.random_rate < 0 or self.mask_rate + self.random_rate > 1 + 1e-9:
            raise ValueError(
                f"Of the chosen positions a share mask_rate={self.mask_rate} is masked and a share "
                f"random_rate={self.random_rate} is randomised: both must be at least 0 and their sum at most 1."
            )
        if self.random_rate > 0 and (self.ordinary_ids is None or len(self.ordinary_ids) == 0):
            raise ValueError("Random replacement needs ordinary_ids: the ids of the vocabulary that are not special.")

    def __call__(
        self, input_ids: Int[Tensor, "batch seq"], chosen: Bool[Tensor, "batch seq"], noise: Noise
    ) -> Int[Tensor, "batch seq"]:
        if self.mask_rate >= 1.0:
            return input_ids.masked_fill(chosen, self.mask_token_id)
        kind = noise.per_token(Stream.KIND, input_ids.shape[1])
        noisy = input_ids.masked_fill(chosen & (kind < self.mask_rate), self.mask_token_id)
        if self.random_rate > 0:
            assert self.ordinary_ids is not None
            ordinary = self.ordinary_ids.to(input_ids.device)
            draw = (noise.per_token(Stream.TOKEN, input_ids.shape[1]) * len(ordinary)).long()
            randomised = chosen & (kind >= self.mask_rate) & (kind < self.mask_rate + self.random_rate)
            noisy = torch.where(randomised, ordinary[draw], noisy)
        return noisy


@dataclass(frozen=True)
class Corruption:
    """One answer to each of the three questions.

    Attributes:
        level: row uniforms ``[B]`` -> mask rates ``[B]``.
        selection: rates, eligible, noise -> chosen positions and their probabilities.
        replacement: what goes to the chosen positions.
        is_bound: True where the ``1/p``-weighted loss is a likelihood bound, so that bits per token may be
            reported from it.
    """

    level: Level
    selection: Selection
    replacement: Replacement
    is_bound: bool = True

    def __call__(
        self, input_ids: Int[Tensor, "batch seq"], eligible: Bool[Tensor, "batch seq"], noise: Noise
    ) -> Corrupted:
        """Hide part of each row.

        Args:
            input_ids: int64 ``[B, L]``, clean.
            eligible: bool ``[B, L]``, True where a token may be hidden.
            noise: the rows' keyed noise.

        Returns:
            Noisy ids, the scored positions (a subset of ``eligible``), and the probability with which each
            position of the row is hidden if eligible (float32, the same for eligible and other positions).
        """
        chosen, p = self.selection(self.level(noise.per_row(Stream.LEVEL)), eligible, noise)
        return Corrupted(self.replacement(input_ids, chosen, noise), chosen, p.float())


def ordinary_ids(vocab_size: int, special_ids: tuple[int, ...]) -> Int[Tensor, " ordinary"]:
    """The ids of a vocabulary that are not special, ascending."""
    keep = torch.ones(vocab_size, dtype=torch.bool)
    keep[[i for i in special_ids if i < vocab_size]] = False
    return keep.nonzero()[:, 0]


def uniform_corruption(mask_token_id: int, eps: float = 1e-3, exact: bool = False) -> Corruption:
    """Masked diffusion's corruption: a rate uniform on (eps, 1), then coins (or exactly that many).

    ``eps`` keeps ``1/p`` of a coin finite. A count needs no floor, at least one position is hidden, and with one it
    would not be uniform on ``1..n``; so exact counts leave ``eps`` out.
    """
    level = UniformLevel(0.0 if exact else eps)
    return Corruption(level, exact_count if exact else coins, Replacement(mask_token_id))


def scheduled_corruption(mask_token_id: int, schedule: Schedule, t_min: float = 1e-3) -> Corruption:
    """A rate drawn through a schedule at a uniform time, then coins (MDLM, MD4)."""
    return Corruption(ScheduleLevel(schedule, t_min), coins, Replacement(mask_token_id))


def bert_corruption(
    mask_token_id: int,
    vocab_size: int,
    special_ids: tuple[int, ...] = (),
    probability: float = 0.15,
    mask_rate: float = 0.8,
    random_rate: float = 0.1,
) -> Corruption:
    """BERT's 80/10/10 (Devlin et al. 2019, section 3.1): not a likelihood bound."""
    ordinary = ordinary_ids(vocab_size, (*special_ids, mask_token_id))
    replacement = Replacement(mask_token_id, mask_rate, random_rate, ordinary)
    return Corruption(ConstantLevel(probability), coins, replacement, is_bound=False)


def _apply(
    corruption: Corruption,
    input_ids: Int[Tensor, "batch seq"],
    loss_mask: Tensor,
    generator: torch.Generator | None,
) -> Corrupted:
    noise = Noise.from_generator(input_ids.shape[0], generator, input_ids.device)
    return corruption(input_ids, loss_mask.bool(), noise)


def corrupt_uniform(
    input_ids: Int[Tensor, "batch seq"],
    loss_mask: Tensor,
    mask_token_id: int,
    eps: float = 1e-3,
    generator: torch.Generator | None = None,
) -> Corrupted:
    """Hide each supervised position with a rate drawn per row from ``U(eps, 1)`` (LLaDA, 2502.09992).

    Args:
        input_ids: int64 ``[B, L]``, clean.
        loss_mask: ``[B, L]``, bool or 0/1; positions with 0 are never hidden.
        mask_token_id: what hidden positions become.
        eps: smallest rate.
        generator: source of the row keys; torch's global generator if None.

    Returns:
        ``(noisy_input_ids, noise_mask, p_mask)``, each ``[B, L]``; ``p_mask`` is the row's rate everywhere.
    """
    return _apply(uniform_corruption(mask_token_id, eps), input_ids, loss_mask, generator)


def corrupt_bert(
    input_ids: Int[Tensor, "batch seq"],
    loss_mask: Tensor,
    mask_token_id: int,
    vocab_size: int,
    special_ids: tuple[int, ...] = (),
    probability: float = 0.15,
    mask_rate: float = 0.8,
    random_rate: float = 0.1,
    generator: torch.Generator | None = None,
) -> Corrupted:
    """BERT's corruption: select with ``probability``; of those, mask 80%, randomise 10%, keep 10%.

    Random tokens are drawn evenly from the ids below ``vocab_size`` that are neither ``mask_token_id`` nor in
    ``special_ids``. All selected positions are scored. Arguments and results as in :func:`corrupt_uniform`.
    """
    corruption = bert_corruption(mask_token_id, vocab_size, special_ids, probability, mask_rate, random_rate)
    return _apply(corruption, input_ids, loss_mask, generator)
