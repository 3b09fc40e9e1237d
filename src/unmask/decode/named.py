"""Decoding options by name: the one place of this floor where a word becomes an object.

Everything here can be said with the objects themselves (``unmask.decode.rules``); this is for predictors and command lines,
whose options are words and numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from unmask.contracts import SpecialIds
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
from unmask.decode.forwards.block_cached import BlockCachedForward
from unmask.decode.forwards.cached import CACHES, CachedForward
from unmask.decode.forwards.compiled import CompiledForward
from unmask.decode.forwards.plain import Forward, GuidedForward, PlainForward
from unmask.decode.logits.constraints import Automaton, Constraint, Unconstrained
from unmask.decode.logits.processors import EosLast, ForbiddenIds, LogitsProcessor, RepetitionPenalty
from unmask.decode.logits.sampler import Tokens
from unmask.decode.orders.commit_rules import (
    CommitRule,
    CumulativeError,
    EntropyBound,
    Factor,
    NonAdjacent,
    Threshold,
    TopK,
)
from unmask.decode.orders.critics import NetworkCritic
from unmask.decode.orders.scores import ConfidenceOrder, DraftScore, DrawnProbability, LeftToRight, RandomOrder, Score
from unmask.decode.orders.selector import Selector
from unmask.decode.remasking import MaskPredict, NoRemasking, Remasking, ReMDM, ReMDMCap, ReMDMRescale
from unmask.decode.rules import Rules
from unmask.ops.confidence import CONFIDENCES
from unmask.ops.schedule import Schedule, as_schedule, linear
from unmask.suggestions import nearest

ORDERS: dict[str, Score | DraftScore] = {
    "random": RandomOrder(),
    "left_to_right": LeftToRight(),
    "drawn_prob": DrawnProbability(),
    **{name: ConfidenceOrder(measure) for name, measure in CONFIDENCES.items()},
}
COMMIT_RULES: dict[str, Callable[[float], CommitRule]] = {
    "threshold": Threshold,
    "cumulative_error": CumulativeError,
    "factor": Factor,
    "entropy_bound": EntropyBound,
}
REMASKING: dict[str, Callable[[float, float], Remasking]] = {
    "cap": lambda eta, until: ReMDM(ReMDMCap(eta), until=until),
    "rescale": lambda eta, until: ReMDM(ReMDMRescale(eta), until=until),
    "confidence": lambda eta, until: ReMDM(ReMDMRescale(eta), by_confidence=True, until=until),
    "mask_predict": lambda eta, until: MaskPredict(),
}

ScheduleLike = str | Schedule | Callable[[Tensor], Tensor]


def make_order(name: str) -> Score | DraftScore:
    """The order of a name of ``ORDERS``.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in ORDERS:
        raise ValueError(
            f"There is no order {name!r}.{nearest(name, ORDERS)} Choose one of {', '.join(ORDERS)}, critic."
        )
    return ORDERS[name]


def make_rules(
    max_steps: int,
    *,
    special: SpecialIds | None = None,
    order: str = "random",
    order_temperature: float = 0.0,
    critic: str | None = None,
    critic_model: Any = None,
    threshold: float | None = None,
    cumulative_error: float | None = None,
    factor: float | None = None,
    entropy_bound: float | None = None,
    non_adjacent: bool = False,
    schedule: ScheduleLike | None = None,
    ancestral: bool = False,
    first_hitting: bool = False,
    block_length: int | None = None,
    aligned_blocks: bool = False,
    remask: str | None = None,
    remask_rate: float = 0.1,
    remask_until: float | None = None,
    remask_hold: float | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    forbidden_ids: Sequence[int] = (),
    required_ids: Sequence[int] = (),
    constraint: Constraint | None = None,
    guidance: float = 0.0,
    cache: str | None = None,
    cache_refresh: int | None = None,
    compiled: bool = False,
    allow_eos: bool = True,
    eos_last: bool = False,
    stop_at_eos: bool = False,
    logits_processors: Sequence[LogitsProcessor] = (),
) -> Rules:
    """Rules from plain options.

    Args:
        max_steps: network evaluations a row may take part in, at most.
        special: special ids; needed by ``repetition_penalty``, ``required_ids``, ``guidance`` and ``eos_last``.
        order: a name of ``ORDERS``, or ``"critic"``: draw everywhere, then keep what ``critic_model`` believes.
        critic: how it is asked, ``"hidden"`` (each token hidden in turn) or ``"shown"`` (all at once); None is ``"hidden"``.
        critic_model: the network that judges: the one that decodes, or another with the same ids.
        order_temperature: of the choice of places; 0 takes the best.
        threshold, cumulative_error, factor, entropy_bound: admission by confidence; one of them at most.
        apart: one token a step in each run of neighbouring blanks, as far as the budget allows.
        schedule: drives the budget: a name, a ``Schedule``, or a function of time. None = even.
        ancestral: every blank draws its own step from the schedule (linear if none): goes with the random order.
        first_hitting: one token a step: exact.
        block_length: finish one block of so many positions after the other; None = everywhere at once.
        aligned_blocks: count them from each row's first token, as a block-causal network does, and not from its first blank.
        remask: ``"cap"``, ``"rescale"``, ``"confidence"`` (ReMDM) or ``"mask_predict"``; None keeps what is revealed.
        remask_rate: eta of the first three.
        remask_until: those three remask only while a smaller share than this is revealed (ReMDM-switch); None = to the end.
        remask_hold: for half of the steps, stand still at this share revealed and only revise (ReMDM-loop); None = never.
        temperature, top_k, top_p, min_p: of the tokens (``Tokens``).
        repetition_penalty: above 1 discourages tokens that already stand in the row.
        forbidden_ids, required_ids: ordinary ids that never, or at least once, are placed.
        constraint: an automaton of your own (instead of ``required_ids``).
        guidance: weight of classifier-free guidance; 0 = none.
        cache: ``"block"`` (``BlockCachedForward``: exact, for block-causal networks; aligns the blocks), ``"prefix"``, ``"dual"``,
            ``"vicinity"`` or ``"delayed"`` (``CachedForward``: approximate); None = every row is run whole.
        cache_refresh: run a row whole every so many evaluations, not only when a block opens; needs a cache.
        compiled: ask through ``torch.compile``, in few shapes (``CompiledForward``): for accelerators; not with a cache.
        allow_eos, eos_last, stop_at_eos: whether EOS may be placed, only after complete text, and ends the work on a row.
        adjustments: further changes of the logits, before all others.

    Raises:
        ValueError: options that contradict each other, lie outside their range, or lack the special ids.
    """
    commit_rule = _one_of(
        {"threshold": threshold, "cumulative_error": cumulative_error, "factor": factor, "entropy_bound": entropy_bound}
    )
    if constraint is not None and required_ids:
        raise ValueError(
            "required_ids makes a constraint of its own, and one was given. Build the product automaton, or drop one."
        )
    if non_adjacent and (ancestral or first_hitting):
        raise ValueError(
            "apart chooses which blanks are revealed together, and one token a step, or a time of its own for each, leaves no choice."
        )
    commits = commit_rule or TopK()
    return Rules(
        max_steps=max_steps,
        selector=Selector(
            _score(order, critic, critic_model, remask, special, allow_eos, forbidden_ids),
            NonAdjacent(commits) if non_adjacent else commits,
            order_temperature,
        ),
        budget=_budget(
            None if schedule is None else as_schedule(schedule),
            ancestral,
            first_hitting,
            commit_rule,
            remask,
            remask_hold,
            order,
        ),
        block_schedule=_block_schedule(block_length, aligned_blocks or cache == "block", cache),
        remasking=_remasking(remask, remask_rate, remask_until),
        tokens=Tokens(temperature, top_k, top_p, min_p),
        constraint=_constraint(constraint, required_ids, special),
        logits_processors=(
            *logits_processors,
            *_logits_processors(special, repetition_penalty, forbidden_ids, eos_last),
        ),
        forward=_forward(guidance, cache, cache_refresh, compiled, special),
        allow_eos=allow_eos,
        stop_at_eos=stop_at_eos,
    )


def _score(
    order: str,
    critic: str | None,
    model: Any,
    remask: str | None,
    special: SpecialIds | None,
    allow_eos: bool,
    forbidden: Sequence[int],
) -> Score | DraftScore:
    if order == "critic":
        if model is None:
            raise ValueError(
                "order='critic' keeps what a network believes: give critic_model, the network that decodes or another one."
            )
        return NetworkCritic(
            model,
            _need(special, "order='critic'"),
            critic or "hidden",
            remask == "mask_predict",
            allow_eos,
            tuple(forbidden),
        )
    if critic is not None or model is not None:
        raise ValueError(
            f"critic and critic_model say who judges drawn tokens, and the order {order!r} has no judge. Give order='critic', or drop them."
        )
    return make_order(order)


def _one_of(bounds: dict[str, float | None]) -> CommitRule | None:
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} were given, and each says how many tokens a step admits. Choose one.")
    return next((COMMIT_RULES[name](bound) for name, bound in given.items()), None)


def _budget(
    schedule: Schedule | None,
    ancestral: bool,
    first_hitting: bool,
    commit_rule: CommitRule | None,
    remask: str | None,
    hold: float | None,
    order: str,
) -> Budget:
    if hold is not None and remask is None:
        raise ValueError(
            f"remask_hold={hold} stands still to revise what is revealed, and nothing is remasked: give remask, or drop it."
        )
    if ancestral and order != "random":
        raise ValueError(f"Ancestral sampling reveals in random order, and the order is {order!r}. Drop one of them.")
    if first_hitting and (ancestral or schedule is not None or remask is not None or commit_rule is not None):
        raise ValueError(
            "first_hitting reveals one token a step: it leaves nothing for a schedule, an admission or remasking to decide."
        )
    if first_hitting:
        return OnePerStep()
    if ancestral:
        return AncestralBudget(schedule or linear)
    if remask is not None:
        return ScheduleWithRemasking(schedule or linear, hold)
    if schedule is not None:
        return ScheduleBudget(schedule)
    return UniformBudget() if commit_rule is None else MinOnePerStep()


def _block_schedule(block_length: int | None, aligned: bool, cache: str | None) -> BlockSchedule:
    if block_length is not None:
        return Blocks(block_length, aligned)
    if cache == "block":
        raise ValueError(
            "The block cache finishes one attention block after the other, and block_length is None: give the causal_block that the "
            "network was trained with. A network without one has no exact cache: choose prefix, dual, vicinity or delayed."
        )
    if aligned:
        raise ValueError("aligned_blocks says where blocks begin, and there are none: give block_length, or drop it.")
    return SingleBlock()


def _remasking(remask: str | None, rate: float, until: float | None) -> Remasking:
    if until is not None and remask in (None, "mask_predict"):
        raise ValueError(
            f"remask_until={until} ends the remasking of cap, rescale and confidence, and remask is {remask!r}: choose one of them, or drop it."
        )
    if remask is None:
        return NoRemasking()
    if remask not in REMASKING:
        raise ValueError(
            f"There is no remasking {remask!r}.{nearest(remask, REMASKING)} Choose one of {', '.join(REMASKING)}, or None."
        )
    return REMASKING[remask](rate, 1.0 if until is None else until)


def _constraint(constraint: Constraint | None, required: Sequence[int], special: SpecialIds | None) -> Constraint:
    if required:
        return Automaton.requiring(required, _need(special, "required_ids"))
    return Unconstrained() if constraint is None else constraint


def _logits_processors(
    special: SpecialIds | None, penalty: float, forbidden: Sequence[int], eos_last: bool
) -> tuple[LogitsProcessor, ...]:
    found: list[Any] = []
    if penalty != 1.0:
        found.append(RepetitionPenalty(penalty, _need(special, "repetition_penalty")))
    if forbidden:
        found.append(ForbiddenIds(tuple(forbidden)))
    if eos_last:
        found.append(EosLast(_need(special, "eos_last")))
    return tuple(found)


def _forward(
    guidance: float, cache: str | None, refresh: int | None, compiled: bool, special: SpecialIds | None
) -> Forward:
    if cache is None and refresh is not None:
        raise ValueError(
            f"cache_refresh={refresh} says how often a cache is refreshed, and there is none: give cache, or drop it."
        )
    if cache == "block" and refresh is not None:
        raise ValueError(
            f"The block cache is exact, so there is nothing for cache_refresh={refresh} to refresh: drop it."
        )
    if cache is not None and cache not in ("block", *CACHES):
        raise ValueError(
            f"There is no cache {cache!r}. Choose block (exact, for block-causal networks), {', '.join(CACHES)}, or None."
        )
    if cache is not None and compiled:
        raise ValueError(
            f"The {cache} cache runs another part of each row at every step, and compiled steps have static shapes: the programs would be too many. "
            "Give cache, or compiled=True (--compile), not both."
        )
    inner: Forward = CompiledForward() if compiled else PlainForward()
    if cache is not None:
        inner = BlockCachedForward() if cache == "block" else CachedForward(cache, refresh)
    return inner if guidance == 0 else GuidedForward(guidance, _need(special, "guidance"), inner)


def _need(special: SpecialIds | None, option: str) -> SpecialIds:
    if special is None:
        raise ValueError(f"{option} has to know the special ids: give special=SpecialIds.of(tokenizer).")
    return special
