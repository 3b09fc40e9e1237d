"""``Rules``: all choices of a decode, as one frozen value.

Each field is an independent axis: any score works with any budget, any sampler and any forward.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import cached_property

from unmask.decode.block_schedule import BlockSchedule, SingleBlock
from unmask.decode.budget import Budget, UniformBudget
from unmask.decode.forwards.plain import Forward, PlainForward
from unmask.decode.logits.constraints import Constraint, Unconstrained
from unmask.decode.logits.processors import LogitsProcessor
from unmask.decode.logits.sampler import Tokens
from unmask.decode.orders.selector import Selector
from unmask.decode.reads import Reads
from unmask.decode.remasking import NoRemasking, Remasking


@dataclass(frozen=True)
class Rules:
    """How to decode.

    If no part reads probabilities (``Reads``), the softmax is skipped, except for observers. Parts without the attribute ``reads``, such
    as plain functions, are assumed to read them.

    Args:
        max_steps: forward passes per row, at most (NFE).
        selector: which masked positions are unmasked.
        budget: how many per step.
        block_schedule: which positions may be unmasked yet: all, or block by block.
        remasking: which unmasked tokens are masked again.
        tokens: how tokens are sampled.
        constraint: which tokens may occur together.
        logits_processors: functions of the logits, applied in order before scoring and sampling.
        forward: how the network is run.
        allow_eos: True permits EOS (after all given text only).
        left_to_right: refuse any order but one token a step from left to right, which autoregressive networks need; set for them.
        stop_at_eos: once no masked position precedes an EOS, fill the rest of the row with EOS and stop decoding it. The
            text is the same, with fewer forward passes.

    Raises:
        ValueError: ``max_steps`` below 1, remasking by confidence with an order without one, or
            remasking together with blocks or ``stop_at_eos``, which treat tokens as final.

    Examples:
        >>> from unmask import Rules
        >>> from unmask.decode.budget import OnePerStep
        >>> Rules(max_steps=16, budget=OnePerStep()).max_steps
        16
    """

    max_steps: int
    selector: Selector = Selector()
    budget: Budget = UniformBudget()
    _: KW_ONLY
    block_schedule: BlockSchedule = SingleBlock()
    remasking: Remasking = NoRemasking()
    tokens: Tokens = Tokens()
    constraint: Constraint = Unconstrained()
    logits_processors: tuple[LogitsProcessor, ...] = ()
    forward: Forward = PlainForward()
    allow_eos: bool = True
    stop_at_eos: bool = False
    left_to_right: bool = False

    @cached_property
    def reads(self) -> Reads:
        """What all parts together read. Sampling a token needs logits only."""
        reads = self.selector.reads
        for part in (self.remasking, self.constraint, *self.logits_processors):
            reads |= Reads.of(part)
        return reads

    @property
    def reads_probabilities(self) -> bool:
        """True if some part reads normalised probabilities."""
        return Reads.PROBABILITIES in self.reads

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise ValueError(f"max_steps={self.max_steps} allows no forward pass: give 1 or more.")
        if self.stop_at_eos and not isinstance(self.remasking, NoRemasking):
            raise ValueError(
                "stop_at_eos treats the text before an EOS as final, and remasking may still change it. Choose one."
            )
        if not isinstance(self.block_schedule, SingleBlock) and not isinstance(self.remasking, NoRemasking):
            raise ValueError(
                "A block is final when the next one begins, and remasking would open it again. Choose blocks or remasking."
            )
        if Reads.CONFIDENCE in Reads.of(self.remasking) and not self.selector.needs_logits:
            raise ValueError(
                f"{type(self.remasking).__name__} compares tokens by confidence, and the order ({type(self.selector.score).__name__}) "
                "measures none. Choose a confidence: top_prob, prob_diff or entropy."
            )
