"""Everything a decode is asked to do, as one frozen value.

Each field is an axis of its own; any score goes with any budget, any way of drawing and any forward.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from unmask.decode.block_schedule import BlockSchedule, SingleBlock
from unmask.decode.budget import Budget, UniformBudget
from unmask.decode.forwards.plain import Forward, PlainForward
from unmask.decode.logits.constraints import Constraint, Unconstrained
from unmask.decode.logits.processors import LogitsProcessor
from unmask.decode.logits.sampler import Tokens
from unmask.decode.orders.selector import Selector
from unmask.decode.remasking import NoRemasking, Remasking


@dataclass(frozen=True)
class Rules:
    """How to decode.

    A part (a score, an admission, a revision, a constraint, an adjustment) that has ``reads_probabilities = False`` promises to read
    neither ``view.certainty`` nor its ``log_probs`` as more than logits. Where all do, none are made but for observers; one that says nothing, such as a function of the
    caller's, is taken to read them.

    Attributes:
        max_steps: network evaluations a row may take part in, at most.
        selector: which blanks are revealed.
        budget: how many at each step.
        window: which blanks may be revealed yet.
        revision: which revealed tokens are hidden again.
        tokens: which token is put there.
        constraint: which tokens may stand together.
        adjustments: changes of the logits, in order, before they are scored.
        forward: how the network is asked.
        allow_eos: whether EOS may be placed (after all given text only).
        stop_at_eos: once all before an EOS is filled, fill what follows it with EOS and let the row go: the text is the same
            and the rest of the evaluations are saved.

    Raises:
        ValueError: ``max_steps`` below 1, a revision by confidence under an order that measures none, or a
            revision of what blocks or ``stop_at_eos`` take as final.
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

    @property
    def reads_probabilities(self) -> bool:
        """Whether anything but observers reads how likely tokens are. Drawing one does not: logits are enough for it."""
        parts = (
            self.selector.score,
            self.selector.commit_rule,
            self.remasking,
            self.constraint,
            *self.logits_processors,
        )
        return self.selector.needs_logits or any(getattr(part, "reads_probabilities", True) for part in parts)

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise ValueError(f"max_steps={self.max_steps} leaves no network evaluation to decode with: give 1 or more.")
        if self.stop_at_eos and not isinstance(self.remasking, NoRemasking):
            raise ValueError(
                "stop_at_eos takes the text before an EOS as final, and a revision may still change it. Choose one."
            )
        if not isinstance(self.block_schedule, SingleBlock) and not isinstance(self.remasking, NoRemasking):
            raise ValueError(
                "A block is finished when the next begins, and a revision would open it again. Choose blocks or remasking."
            )
        if self.remasking.needs_confidence and not self.selector.needs_logits:
            raise ValueError(
                f"{type(self.remasking).__name__} compares tokens by confidence, and the order ({type(self.selector.score).__name__}) "
                "measures none. Choose a confidence: top_prob, prob_diff or entropy."
            )
