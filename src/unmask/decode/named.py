"""``make_rules``: decoding options by name.

``unmask.decode.rules.Rules`` takes the same choices as objects. The names are those of ``unmask.decode.families``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from torch import Tensor

from unmask.contracts import MLMModel, SpecialIds
from unmask.decode.block_schedule import Blocks, BlockSchedule, SingleBlock
from unmask.decode.budget import (
    AncestralBudget,
    Budget,
    MinOnePerStep,
    OnePerStep,
    ScheduleBudget,
    ScheduleWithRemasking,
    UniformBudget,
)
from unmask.decode.families import CACHES, COMMIT_RULES, COMPOSED_ORDERS, ORDERS, REMASKING
from unmask.decode.forwards.compiled import CompiledForward
from unmask.decode.forwards.plain import Forward, GuidedForward, PlainForward
from unmask.decode.logits.automaton import Automaton
from unmask.decode.logits.constraints import Constraint, Unconstrained
from unmask.decode.logits.processors import EosLast, ForbiddenIds, LogitsProcessor, RepetitionPenalty
from unmask.decode.logits.sampler import Tokens
from unmask.decode.orders.commit_rules import CommitRule, NonAdjacent, TopK
from unmask.decode.orders.critics import NetworkCritic
from unmask.decode.orders.scores import DraftScore, OrderBy, RandomOrder, Score
from unmask.decode.orders.selector import Selector
from unmask.decode.remasking import NoRemasking, Remasking
from unmask.decode.rules import Rules
from unmask.decode.view import StepView
from unmask.ops.schedule import Schedule, as_schedule, linear
from unmask.suggestions import nearest

ScheduleLike = str | Schedule | Callable[[Tensor], Tensor]
OrderLike = str | Score | DraftScore | Callable[[StepView], Tensor]


def make_order(order: OrderLike) -> Score | DraftScore:
    """Return the score of an order.

    Args:
        order: a name of ``unmask.decode.families.ORDERS``; a ``Score`` or ``DraftScore``; or a function of a ``StepView`` that returns
            scores ``[b, L]``, highest first.

    Raises:
        ValueError: an unknown name.

    Examples:
        >>> make_order("left_to_right")
        LeftToRight()
    """
    if not isinstance(order, str):
        if hasattr(order, "judge") or hasattr(order, "reads"):
            return cast("Score | DraftScore", order)
        return OrderBy(order)
    if order not in ORDERS:
        known = [*ORDERS, *COMPOSED_ORDERS]
        raise ValueError(f"There is no order {order!r}.{nearest(order, known)} Choose one of {', '.join(known)}.")
    return make_order(ORDERS.choose(order)())


def make_rules(
    max_steps: int,
    *,
    order: OrderLike = "random",
    threshold: float | None = None,
    temperature: float = 1.0,
    top_p: float | None = None,
    block_length: int | None = None,
    cache: str | Forward | None = None,
    special: SpecialIds | None = None,
    schedule: ScheduleLike | None = None,
    order_temperature: float = 0.0,
    critic: str | None = None,
    critic_model: MLMModel | None = None,
    cumulative_error: float | None = None,
    factor: float | None = None,
    entropy_bound: float | None = None,
    commit_rule: CommitRule | tuple[str, float] | None = None,
    non_adjacent: bool = False,
    remask: str | Remasking | None = None,
    remask_rate: float = 0.1,
    remask_until: float | None = None,
    remask_hold: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    forbidden_ids: Sequence[int] = (),
    required_ids: Sequence[int] = (),
    constraint: Constraint | None = None,
    logits_processors: Sequence[LogitsProcessor] = (),
    allow_eos: bool = True,
    eos_last: bool = False,
    stop_at_eos: bool = False,
    guidance: float = 0.0,
    aligned_blocks: bool = False,
    cache_refresh: int | None = None,
    compiled: bool = False,
) -> Rules:
    """Make decoding rules from options.

    Args:
        max_steps: forward passes per row, at most (NFE).
        order: which masked position is unmasked first: a name of ``unmask.decode.families`` (``ORDERS``, ``COMPOSED_ORDERS``); a
            ``Score`` object; or a function of a ``StepView`` that returns scores ``[b, L]``, highest first.
        threshold: unmask every position with at least this confidence, in [0, 1], instead of a fixed number per step.
        temperature: sampling temperature of the tokens; 0 is greedy.
        top_p: sample from the smallest set of tokens with this total probability, or None.
        block_length: unmask blocks of this many positions from left to right; None = one block.
        cache: reuse of keys and values, a name of ``CACHES`` or a ``Forward``; None = none.

    Other Parameters:
        special: special ids; required by ``repetition_penalty``, ``required_ids``, ``guidance``, ``eos_last`` and ``order="critic"``.
        schedule: how many positions per step: a name, a ``Schedule``, or a function of time. None = uniform.
        order_temperature: temperature of the choice of positions; 0 takes the highest scores.
        critic: with ``order="critic"``: ``"hidden"`` (mask each token in turn, the default) or ``"shown"`` (one pass, nothing masked).
        critic_model: with ``order="critic"``: the network that rates tokens, with the same ids.
        cumulative_error, factor, entropy_bound: other commit rules by confidence; at most one commit rule.
        commit_rule: a ``CommitRule`` object, or the name of one in ``COMMIT_RULES`` and its bound.
        non_adjacent: unmask at most one position per contiguous masked span and step, as far as the budget allows.
        remask: masks unmasked tokens again: a name of ``REMASKING`` or a ``Remasking``; None = never.
        remask_rate: probability parameter eta of ReMDM.
        remask_until: ReMDM remasks only while the unmasked fraction is below this (ReMDM-switch); None = to the end.
        remask_hold: for half of the steps, only remask at this unmasked fraction (ReMDM-loop); None = never.
        top_k, min_p: further filters of the sampled tokens (``Tokens``).
        repetition_penalty: above 1 lowers the logits of tokens that occur in the row already.
        forbidden_ids, required_ids: ordinary ids that are never placed, or placed at least once.
        constraint: a ``Constraint`` on tokens that occur together, instead of ``required_ids``.
        logits_processors: further functions of the logits, applied before the ones above.
        allow_eos: False forbids EOS.
        eos_last: EOS only after all masked positions before it are filled.
        stop_at_eos: stop decoding a row at an EOS with no masked position before it.
        guidance: weight of classifier-free guidance; 0 = none.
        aligned_blocks: count blocks from each row's first token, like a block-causal network, instead of its first masked position.
        cache_refresh: recompute whole rows every this many forward passes, not only when a block opens; requires an approximate cache.
        compiled: run the network through ``torch.compile`` in a few static shapes (``CompiledForward``), for accelerators; not with a cache.

    Returns:
        The rules, for ``fill_canvas`` or ``MLMPredictor(rules=...)``.

    Raises:
        ValueError: options that contradict each other, lie outside their range, or lack the special ids.

    Examples:
        >>> from unmask import make_rules
        >>> rules = make_rules(32, order="top_prob", threshold=0.9, temperature=0.0)
        >>> rules.max_steps, rules.selector.commit_rule.min_confidence
        (32, 0.9)
        >>> rules = make_rules(32, order=lambda view: -view.canvas.positions)  # left to right, as a function
    """
    chosen_rule = _commit_rule(
        commit_rule,
        {
            "threshold": threshold,
            "cumulative_error": cumulative_error,
            "factor": factor,
            "entropy_bound": entropy_bound,
        },
    )
    if constraint is not None and required_ids:
        raise ValueError(
            "required_ids is a constraint of its own, and constraint= was given too. Build the product automaton, or drop one."
        )
    if non_adjacent and order in ("ancestral", "first_hitting"):
        raise ValueError(
            f"non_adjacent chooses the positions that are unmasked together, and order={order!r} leaves no choice. Drop one."
        )
    commits = chosen_rule or TopK()
    forward = _forward(guidance, cache, cache_refresh, compiled, special)
    return Rules(
        max_steps=max_steps,
        selector=Selector(
            _score(order, critic, critic_model, remask, special, allow_eos, forbidden_ids),
            NonAdjacent(commits) if non_adjacent else commits,
            order_temperature,
        ),
        budget=_budget(order, None if schedule is None else as_schedule(schedule), chosen_rule, remask, remask_hold),
        block_schedule=_block_schedule(block_length, aligned_blocks, forward),
        remasking=_remasking(remask, remask_rate, remask_until),
        tokens=Tokens(temperature, top_k, top_p, min_p),
        constraint=_constraint(constraint, required_ids, special),
        logits_processors=(
            *logits_processors,
            *_logits_processors(special, repetition_penalty, forbidden_ids, eos_last),
        ),
        forward=forward,
        allow_eos=allow_eos,
        stop_at_eos=stop_at_eos,
    )


def _score(
    order: OrderLike,
    critic: str | None,
    model: MLMModel | None,
    remask: str | Remasking | None,
    special: SpecialIds | None,
    allow_eos: bool,
    forbidden: Sequence[int],
) -> Score | DraftScore:
    if order == "critic":
        if model is None:
            raise ValueError(
                "order='critic' rates sampled tokens with a network: give critic_model, the decoding network or another one."
            )
        return NetworkCritic(
            model,
            _require_special(special, "order='critic'"),
            critic or "hidden",
            remask == "mask_predict",
            allow_eos,
            tuple(forbidden),
        )
    if critic is not None or model is not None:
        raise ValueError(
            f"critic and critic_model choose the network that rates tokens, and the order {order!r} has none. Give order='critic', or drop them."
        )
    if order in ("ancestral", "first_hitting"):
        return RandomOrder()
    return make_order(order)


def _commit_rule(rule: CommitRule | tuple[str, float] | None, bounds: dict[str, float | None]) -> CommitRule | None:
    given: dict[str, CommitRule | float] = {name: bound for name, bound in bounds.items() if bound is not None}
    if isinstance(rule, tuple):
        given[rule[0]] = rule[1]
    elif rule is not None:
        given["commit_rule"] = rule
    if len(given) > 1:
        raise ValueError(
            f"{' and '.join(given)} were given, and each decides how many positions a step unmasks. Choose one."
        )
    return next(
        (COMMIT_RULES.choose(name)(part) if isinstance(part, float | int) else part for name, part in given.items()),
        None,
    )


def _budget(
    order: OrderLike,
    schedule: Schedule | None,
    commit_rule: CommitRule | None,
    remask: str | Remasking | None,
    hold: float | None,
) -> Budget:
    if hold is not None and remask is None:
        raise ValueError(
            f"remask_hold={hold} repeats steps to remask tokens, and remask is None, so nothing is remasked: give remask, or drop remask_hold."
        )
    if order == "first_hitting":
        if schedule is not None or remask is not None or commit_rule is not None:
            raise ValueError(
                "order='first_hitting' unmasks one token per step, which leaves nothing for a schedule, a commit rule or remasking. Drop them, "
                "or choose order='random'."
            )
        return OnePerStep()
    if order == "ancestral":
        return AncestralBudget(schedule or linear)
    if remask is not None:
        return ScheduleWithRemasking(schedule or linear, hold)
    if schedule is not None:
        return ScheduleBudget(schedule)
    return UniformBudget() if commit_rule is None else MinOnePerStep()


def _block_schedule(block_length: int | None, aligned: bool, forward: Forward) -> BlockSchedule:
    inner = forward.inner if isinstance(forward, GuidedForward) else forward
    needs_blocks: bool = getattr(inner, "needs_aligned_blocks", False)
    if block_length is not None:
        return Blocks(block_length, aligned or needs_blocks)
    if needs_blocks:
        raise ValueError(
            "The block cache completes one attention block after the other, and block_length is None: give the causal_block that the "
            "network was trained with. A network without one has no exact cache: choose prefix, dual, vicinity or delayed."
        )
    if aligned:
        raise ValueError(
            "aligned_blocks decides where blocks begin, and without block_length there are none: give block_length, or drop it."
        )
    return SingleBlock()


def _remasking(remask: str | Remasking | None, rate: float, until: float | None) -> Remasking:
    if isinstance(remask, str):
        return REMASKING.choose(remask)(rate, 1.0 if until is None else until)
    if until is not None:
        raise ValueError(
            f"remask_until={until} ends ReMDM's remasking, and remask is {remask!r}: choose one of cap, rescale and confidence, or drop it."
        )
    return NoRemasking() if remask is None else remask


def _constraint(constraint: Constraint | None, required: Sequence[int], special: SpecialIds | None) -> Constraint:
    if required:
        return Automaton.requiring(required, _require_special(special, "required_ids"))
    return Unconstrained() if constraint is None else constraint


def _logits_processors(
    special: SpecialIds | None, penalty: float, forbidden: Sequence[int], eos_last: bool
) -> tuple[LogitsProcessor, ...]:
    processors: list[LogitsProcessor] = []
    if penalty != 1.0:
        processors.append(RepetitionPenalty(penalty, _require_special(special, "repetition_penalty")))
    if forbidden:
        processors.append(ForbiddenIds(tuple(forbidden)))
    if eos_last:
        processors.append(EosLast(_require_special(special, "eos_last")))
    return tuple(processors)


def _forward(
    guidance: float, cache: str | Forward | None, refresh: int | None, compiled: bool, special: SpecialIds | None
) -> Forward:
    if refresh is not None and not isinstance(cache, str):
        raise ValueError(
            f"cache_refresh={refresh} is the interval of a named cache, and there is none: give cache, or drop cache_refresh."
        )
    if cache is not None and compiled:
        raise ValueError(
            f"The {cache} cache runs different positions at every step, and compiled steps have static shapes: too many programs would be compiled. "
            "Give cache, or compiled=True (--compile), not both."
        )
    inner: Forward = CompiledForward() if compiled else PlainForward()
    if cache is not None:
        inner = CACHES.choose(cache)(refresh) if isinstance(cache, str) else cache
    return inner if guidance == 0 else GuidedForward(guidance, _require_special(special, "guidance"), inner)


def _require_special(special: SpecialIds | None, option: str) -> SpecialIds:
    if special is None:
        raise ValueError(f"{option} needs the special ids: give special=SpecialIds.of(tokenizer).")
    return special
