"""``DecodingOptions``: the keyword options of ``TrainedModel.fill``, ``generate`` and ``stream``, for type checkers.

``unmask.make_rules`` describes the options; ``steps`` and ``regex`` are further ones. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

from unmask.contracts import MLMModel, SpecialIds
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.decode.forwards.plain import Forward
from unmask.decode.left_to_right import order_for, rules_for_network
from unmask.decode.logits.characters import WholeCharacters
from unmask.decode.logits.constraints import Constraint
from unmask.decode.logits.processors import LogitsProcessor
from unmask.decode.named import ScheduleLike, make_rules
from unmask.decode.orders.commit_rules import CommitRule
from unmask.decode.remasking import Remasking
from unmask.decode.rules import Rules
from unmask.text.generation_defaults import GenerationDefaults
from unmask.text.patterns import pattern_automaton


class DecodingOptions(TypedDict, total=False):
    """How to decode: options of :func:`unmask.make_rules`, all of them optional.

    Attributes:
        steps: forward passes per row, at most; absent = one per blank.
        regex: a pattern for the text of the blanks.

    Examples:
        >>> careful: DecodingOptions = {"threshold": 0.9, "top_p": 0.95}
        >>> make_rules(8, order="top_prob", **careful).selector.commit_rule.min_confidence
        0.9
        >>> # model.generate("A prompt", order="top_prob", **careful)
    """

    steps: int | None
    regex: str | None
    threshold: float | None
    top_p: float | None
    block_length: int | None
    cache: str | Forward | None
    special: SpecialIds | None
    schedule: ScheduleLike | None
    order_temperature: float
    critic: str | None
    critic_model: MLMModel | None
    cumulative_error: float | None
    factor: float | None
    entropy_bound: float | None
    commit_rule: CommitRule | tuple[str, float] | None
    non_adjacent: bool
    remask: str | Remasking | None
    remask_rate: float
    remask_until: float | None
    remask_hold: float | None
    top_k: int | None
    min_p: float | None
    repetition_penalty: float
    forbidden_ids: Sequence[int]
    required_ids: Sequence[int]
    constraint: Constraint | None
    logits_processors: Sequence[LogitsProcessor]
    allow_eos: bool
    eos_last: bool
    stop_at_eos: bool
    guidance: float
    aligned_blocks: bool
    cache_refresh: int | None
    compiled: bool


def rules_of_options(
    tokenizer: Tokenizer,
    *,
    model: Any = None,
    steps: int | None = None,
    regex: str | None = None,
    tuned: GenerationDefaults | None = None,
    **options: Any,
) -> Callable[[int], Rules]:
    """Return the decoding rules for a number of blanks, as :class:`DecodingOptions` describes them.

    Args:
        tokenizer: the tokenizer; its special tokens are never chosen, and characters stay whole.
        model: the network; an autoregressive one decodes from left to right.
        steps: forward passes per row, at most; None = one per blank.
        regex: a pattern for the text of the blanks.
        tuned: number of steps where ``steps`` is None.
        options: of :func:`unmask.make_rules`.
    """
    constraint = options.pop("constraint", None)
    if regex is not None:
        constraint = pattern_automaton(tokenizer, regex)
    elif constraint is None and not options.get("required_ids"):
        constraint = WholeCharacters.of(tokenizer)
    options = {"special": SpecialIds.of(tokenizer), "allow_eos": False, "constraint": constraint} | options

    if "order" in options:
        options["order"] = order_for(model, options["order"])

    def rules_for(blanks: int) -> Rules:
        most = blanks if tuned is None else tuned.steps(blanks)
        return rules_for_network(model, make_rules(most if steps is None else steps, **options))

    return rules_for
