"""How a wrapper generates, as rules of the one decoding loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask.decode.budget import ScheduleBudget, ScheduleWithRemasking
from unmask.decode.forwards.plain import Forward, PlainForward
from unmask.decode.forwards.self_conditioned import ConditionedForward
from unmask.decode.logits.sampler import Tokens
from unmask.decode.named import ORDERS
from unmask.decode.orders.grid import GRID_ORDERS, GridOrder
from unmask.decode.orders.scores import DraftScore, DrawnProbability, Score
from unmask.decode.orders.selector import Selector
from unmask.decode.remasking import MaskPredict, NoRemasking
from unmask.decode.rules import Rules
from unmask.nonautoregressive.critic import NoisyCritic
from unmask.nonautoregressive.schedules import reveal_plan

if TYPE_CHECKING:
    from unmask.nonautoregressive.wrapper import NonAutoregressiveWrapper

Order = str | Score | DraftScore


def generation_rules(
    wrapper: NonAutoregressiveWrapper,
    *,
    max_steps: int,
    order: Order | None,
    temperature: float,
    annealed: bool,
    top_k: int | None,
    noise: float,
) -> Rules:
    """The rules of ``wrapper.generate``; its arguments are explained there.

    The schedule says how many tokens stand after each step. Without revision each step reveals at least one; with it, the plan is
    kept to the letter, and what is hidden again is made up for.

    Raises:
        ValueError: an unknown order, or a revision under an order that measures no confidence.
    """
    revises, plan = wrapper.can_mask_prev_unmasked, reveal_plan(wrapper.schedule)
    return Rules(
        max_steps,
        Selector(_score(wrapper, order, noise)),
        ScheduleWithRemasking(plan) if revises else ScheduleBudget(plan),
        remasking=MaskPredict() if revises else NoRemasking(),
        tokens=Tokens(temperature, top_k=top_k, annealed=annealed),
        forward=_forward(wrapper),
        allow_eos=False,
    )


def _score(wrapper: NonAutoregressiveWrapper, order: Order | None, noise: float) -> Score | DraftScore:
    if noise < 0:
        raise ValueError(
            f"noise_level_scale={noise} multiplies the chance in a critic's judgement: give 0 (none) or more."
        )
    if order is None:
        return DrawnProbability() if wrapper.critic is None else NoisyCritic(wrapper.critic, noise)
    if not isinstance(order, str):
        return order
    if order in ORDERS:
        return ORDERS[order]
    if wrapper.grid is not None and order in GRID_ORDERS:
        return GridOrder(wrapper.grid, order)
    more = ", ".join(GRID_ORDERS) + (
        " of a grid" if wrapper.grid is not None else " (of a wrapper with layout=(height, width))"
    )
    raise ValueError(
        f"There is no order {order!r}. Choose one of {', '.join(ORDERS)}, {more}, or None for the documented one."
    )


def _forward(wrapper: NonAutoregressiveWrapper) -> Forward:
    conditioning = wrapper.conditioning
    if not conditioning.active:
        return PlainForward()
    return ConditionedForward(conditioning, conditioning.self_cond)
