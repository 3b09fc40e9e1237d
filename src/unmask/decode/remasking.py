"""Second thoughts: which revealed tokens are hidden again.

Remasking is no loop of its own. A revision widens the step's choice to the tokens revealed so far; for each it hides, one
blank more is revealed, so that after every step exactly the budget's number is revealed, whatever was revised.

    NoRevision   revealed tokens stay
    Remasking    each is hidden by a coin, min(eta, most possible) or eta * most possible   (ReMDM, 2503.00307)
    KeepSurest   of all tokens, old and new, the least sure are hidden                      (Mask-Predict, 1904.09324)

Most possible is ``(1 - alpha_s) / alpha_t``, in counts ``(wanted - target) / revealed``: more would leave too few blanks to
reach the target. Nothing is hidden in the last step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unmask.decode.view import StepView
from unmask.ops.selection import select_top
from unmask.randomness import Stream


@runtime_checkable
class Remasking(Protocol):
    """Which revealed tokens to hide again.

    Attributes:
        least: how few blanks an unfinished row that takes part reveals: 1, or 0 where its target may stand still.
        needs_confidence: whether the candidates' scores must be confidences.
    """

    @property
    def min_reveals(self) -> int: ...

    @property
    def needs_confidence(self) -> bool: ...

    def acts(self, view: StepView) -> Bool[Tensor, " rows"]:
        """The rows that need the network in this step."""
        ...

    def hide(self, view: StepView, confidence: Float[Tensor, "rows seq"]) -> Bool[Tensor, "rows seq"]:
        """The revealed positions to hide; ``confidence`` is the score of the candidates."""
        ...


@dataclass(frozen=True)
class NoRemasking:
    """Revealed tokens stay."""

    min_reveals: int = field(default=1, init=False)
    needs_confidence: bool = field(default=False, init=False)
    reads_probabilities: ClassVar[bool] = False

    def acts(self, view: StepView) -> Bool[Tensor, " rows"]:
        return torch.ones_like(view.rows, dtype=torch.bool)

    def hide(self, view: StepView, confidence: Float[Tensor, "rows seq"]) -> Bool[Tensor, "rows seq"]:
        return torch.zeros_like(view.to_fill)


@dataclass(frozen=True)
class ReMDMCap:
    """ReMDM-cap: the same small probability throughout, where it is possible.

    Attributes:
        eta: in [0, 1].
    """

    eta: float

    def __post_init__(self) -> None:
        _share("eta", self.eta)

    def __call__(self, most: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        return most.clamp(max=self.eta)


@dataclass(frozen=True)
class ReMDMRescale:
    """ReMDM-rescale: a share of what is possible.

    Attributes:
        eta: in [0, 1].
    """

    eta: float

    def __post_init__(self) -> None:
        _share("eta", self.eta)

    def __call__(self, most: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        return self.eta * most


@dataclass(frozen=True)
class ReMDM:
    """Coins over the revealed tokens, cut to what the target leaves room for.

    Attributes:
        rate: the most that is possible ``[b]`` -> the probability with which a token is hidden: ``Capped``, ``Rescaled``,
            or any function that does not exceed it.
        by_confidence: share that probability out by ``softmax(-certainty)``, so that tokens placed with little probability
            are hidden first (ReMDM-conf; fewer tokens are hidden in all).
        until: remask only while the share of revealed tokens is below this (ReMDM-switch).
    """

    rate: Callable[[Float[Tensor, " rows"]], Float[Tensor, " rows"]]
    by_confidence: bool = False
    until: float = 1.0
    min_reveals: int = field(default=0, init=False)
    needs_confidence: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        _share("until", self.until)

    @property
    def reads_probabilities(self) -> bool:
        return self.by_confidence

    def acts(self, view: StepView) -> Bool[Tensor, " rows"]:
        behind = view.target_count > view.revealed.sum(-1)
        return behind | self._coins(view).any(-1)

    def hide(self, view: StepView, confidence: Float[Tensor, "rows seq"]) -> Bool[Tensor, "rows seq"]:
        return self._coins(view)

    def _coins(self, view: StepView) -> Bool[Tensor, "rows seq"]:
        revealed, to_fill = view.revealed.sum(-1), view.to_fill.sum(-1)
        room = (to_fill - view.target_count).clamp(min=0)
        most = (room.double() / revealed.clamp(min=1)).clamp(max=1.0)
        active = revealed < self.until * to_fill
        rate = (self.rate(most) * active)[:, None].expand(view.ids.shape)
        if self.by_confidence:
            assert view.commit_prob is not None
            doubt = (-view.commit_prob.double()).masked_fill(~view.revealed, -torch.inf)
            rate = rate * doubt.softmax(-1).nan_to_num(0.0)
        noise = view.noise.per_token(Stream.REVISION, view.ids.shape[1])
        return select_top(-noise, view.revealed & (noise < rate), room)


@dataclass(frozen=True)
class MaskPredict:
    """Keep the target's number of all tokens, old by the probability they were placed with and new by their confidence.

    Old and new compare best when the order is top probability.
    """

    min_reveals: int = field(default=0, init=False)
    needs_confidence: bool = field(default=True, init=False)
    reads_probabilities: ClassVar[bool] = True

    def acts(self, view: StepView) -> Bool[Tensor, " rows"]:
        return view.target_count > view.revealed.sum(-1)

    def hide(self, view: StepView, confidence: Float[Tensor, "rows seq"]) -> Bool[Tensor, "rows seq"]:
        assert view.commit_prob is not None
        sure = torch.where(view.revealed, view.commit_prob.to(confidence.dtype), confidence)
        kept = select_top(sure, view.revealed | view.candidates, view.target_count)
        return view.revealed & ~kept


def _share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}={value} of a remasking is a share and must lie in [0, 1].")
