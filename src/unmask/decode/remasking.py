"""Remasking: which unmasked tokens are masked again.

Remasking needs no second loop. The step's choice includes the tokens unmasked so far; for each token masked again, one more position is
unmasked. So after every step exactly the budget's count is unmasked, with or without remasking.

    NoRemasking   unmasked tokens stay
    ReMDM         each is masked independently with probability min(eta, largest) or eta * largest   (ReMDM, 2503.00307)
    MaskPredict   the least confident of all tokens, old and new                                     (Mask-Predict, 1904.09324)

The largest possible probability is ``(1 - alpha_s) / alpha_t``, in counts ``(to_fill - target_count) / revealed``: more would leave too few masked
positions to reach the target. Nothing is remasked in the last step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unmask.decode.reads import Reads
from unmask.decode.view import StepView
from unmask.ops.selection import select_top
from unmask.randomness import Stream


@runtime_checkable
class Remasking(Protocol):
    """Which unmasked tokens to mask again.

    An optional attribute ``reads`` says what the strategy reads (``Reads``). ``Reads.CONFIDENCE`` requires an order by confidence.

    Attributes:
        min_reveals: positions that each row of a step unmasks at least: 1, or 0 if the target count may stay the same.

    Examples:
        >>> import torch
        >>> class Doubtful:  # mask tokens again that were placed with a probability below 0.1
        ...     min_reveals = 1
        ...     reads = Reads.PROBABILITIES
        ...     def acts(self, view):
        ...         return torch.ones_like(view.rows, dtype=torch.bool)
        ...     def hide(self, view, confidence):
        ...         return view.revealed & (view.commit_prob < 0.1)
        >>> isinstance(Doubtful(), Remasking)
        True
    """

    @property
    def min_reveals(self) -> int: ...

    def acts(self, view: StepView) -> Bool[Tensor, " rows"]:
        """Return the rows that need a forward pass in this step."""
        ...

    def hide(self, view: StepView, confidence: Float[Tensor, "rows seq"]) -> Bool[Tensor, "rows seq"]:
        """Return the unmasked positions to mask again; ``confidence`` is the score of the candidates."""
        ...


@dataclass(frozen=True)
class NoRemasking:
    """Unmasked tokens stay."""

    min_reveals: int = field(default=1, init=False)
    reads: ClassVar[Reads] = Reads.NOTHING

    def acts(self, view: StepView) -> Bool[Tensor, " rows"]:
        """Return all rows."""
        return torch.ones_like(view.rows, dtype=torch.bool)

    def hide(self, view: StepView, confidence: Float[Tensor, "rows seq"]) -> Bool[Tensor, "rows seq"]:
        """Return no position."""
        return torch.zeros_like(view.to_fill)


@dataclass(frozen=True)
class _Eta:
    """A remasking probability with one parameter.

    Attributes:
        eta: in [0, 1].

    Raises:
        ValueError: eta outside [0, 1].
    """

    eta: float

    def __post_init__(self) -> None:
        _require_fraction("eta", self.eta)


@dataclass(frozen=True)
class ReMDMCap(_Eta):
    """ReMDM-cap: probability ``min(eta, largest)``."""

    def __call__(self, largest: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """Return the probability from the largest possible one."""
        return largest.clamp(max=self.eta)


@dataclass(frozen=True)
class ReMDMRescale(_Eta):
    """ReMDM-rescale: probability ``eta * largest``."""

    def __call__(self, largest: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """Return the probability from the largest possible one."""
        return self.eta * largest


@dataclass(frozen=True)
class ReMDM:
    """Mask unmasked tokens again independently, limited to what the target count allows.

    Attributes:
        rate: largest possible probability ``[b]`` -> probability of remasking a token: ``ReMDMCap``, ``ReMDMRescale``,
            or any function that does not exceed its argument.
        by_confidence: distribute that probability by ``softmax(-commit_prob)``, so that tokens placed with low probability
            are masked more often (ReMDM-conf; fewer tokens are masked in total).
        until: remask only while the unmasked fraction is below this value (ReMDM-switch).

    Raises:
        ValueError: ``until`` outside [0, 1].
    """

    rate: Callable[[Float[Tensor, " rows"]], Float[Tensor, " rows"]]
    by_confidence: bool = False
    until: float = 1.0
    min_reveals: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        _require_fraction("until", self.until)

    @property
    def reads(self) -> Reads:
        """``commit_prob`` if ``by_confidence``, else nothing."""
        return Reads.PROBABILITIES if self.by_confidence else Reads.NOTHING

    def acts(self, view: StepView) -> Bool[Tensor, " rows"]:
        """Return the rows below their target count, and those with a token to mask again."""
        below_target = view.target_count > view.revealed.sum(-1)
        return below_target | self._sampled(view).any(-1)

    def hide(self, view: StepView, confidence: Float[Tensor, "rows seq"]) -> Bool[Tensor, "rows seq"]:
        """Return the sampled positions."""
        return self._sampled(view)

    def _sampled(self, view: StepView) -> Bool[Tensor, "rows seq"]:
        revealed, to_fill = view.revealed.sum(-1), view.to_fill.sum(-1)
        room = (to_fill - view.target_count).clamp(min=0)
        largest = (room.double() / revealed.clamp(min=1)).clamp(max=1.0)
        active = revealed < self.until * to_fill
        rate = (self.rate(largest) * active)[:, None].expand(view.ids.shape)
        if self.by_confidence:
            assert view.commit_prob is not None
            doubt = (-view.commit_prob.double()).masked_fill(~view.revealed, -torch.inf)
            rate = rate * doubt.softmax(-1).nan_to_num(0.0)
        noise = view.noise.per_token(Stream.REVISION, view.ids.shape[1])
        return select_top(-noise, view.revealed & (noise < rate), room)


@dataclass(frozen=True)
class MaskPredict:
    """Keep the target count of the most confident tokens: old ones by the probability they were placed with, new ones by their score.

    Old and new compare best if the order is the top probability.
    """

    min_reveals: int = field(default=0, init=False)
    reads: ClassVar[Reads] = Reads.CONFIDENCE | Reads.PROBABILITIES

    def acts(self, view: StepView) -> Bool[Tensor, " rows"]:
        """Return the rows below their target count."""
        return view.target_count > view.revealed.sum(-1)

    def hide(self, view: StepView, confidence: Float[Tensor, "rows seq"]) -> Bool[Tensor, "rows seq"]:
        """Return the unmasked tokens that are not among the most confident."""
        assert view.commit_prob is not None
        confidences = torch.where(view.revealed, view.commit_prob.to(confidence.dtype), confidence)
        kept = select_top(confidences, view.revealed | view.candidates, view.target_count)
        return view.revealed & ~kept


def remdm_cap(rate: float, until: float) -> ReMDM:
    """Return ReMDM-cap with ``eta = rate``."""
    return ReMDM(ReMDMCap(rate), until=until)


def remdm_rescale(rate: float, until: float) -> ReMDM:
    """Return ReMDM-rescale with ``eta = rate``."""
    return ReMDM(ReMDMRescale(rate), until=until)


def remdm_confidence(rate: float, until: float) -> ReMDM:
    """Return ReMDM-conf on ReMDM-rescale with ``eta = rate``."""
    return ReMDM(ReMDMRescale(rate), by_confidence=True, until=until)


def mask_predict(rate: float, until: float) -> MaskPredict:
    """Return Mask-Predict, which has no rate.

    Raises:
        ValueError: ``until`` below 1.
    """
    if until != 1.0:
        raise ValueError(
            f"remask_until={until} ends ReMDM's remasking, and mask_predict has no such option: choose one of cap, rescale and confidence, "
            "or drop it."
        )
    return MaskPredict()


def _require_fraction(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}={value} of a remasking is outside [0, 1]: give a fraction in that range.")
