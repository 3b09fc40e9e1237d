"""What a decoding part reads of a step: one flag for every family of parts.

Each score, commit rule, remasking, constraint and logits processor has an attribute ``reads``. The loop skips the work that no part reads.
"""

from __future__ import annotations

from enum import Flag, auto


class Reads(Flag):
    """The inputs of a decoding part.

    Attributes:
        NOTHING: neither logits nor probabilities. A score with this value runs before the network.
        LOGITS: the logits of all candidates. If PROBABILITIES is absent, they may be unnormalised.
        PROBABILITIES: normalised log-probabilities, or ``StepView.commit_prob``. Without it the softmax is skipped.
        CONFIDENCE: scores in [0, 1]. The order must then be a confidence.

    Examples:
        >>> Reads.LOGITS in (Reads.LOGITS | Reads.PROBABILITIES)
        True
        >>> Reads.of(lambda logits: logits) == Reads.LOGITS | Reads.PROBABILITIES
        True
    """

    NOTHING = 0
    LOGITS = auto()
    PROBABILITIES = auto()
    CONFIDENCE = auto()

    @classmethod
    def of(cls, part: object) -> Reads:
        """Return the attribute ``reads`` of a part; without one, LOGITS and PROBABILITIES are assumed.

        A plain function therefore always receives normalised log-probabilities.
        """
        reads = getattr(part, "reads", None)
        return reads if isinstance(reads, cls) else cls.LOGITS | cls.PROBABILITIES
