"""The decoding rules of ``NonAutoregressiveWrapper.generate``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from unmask.decode.budget import ScheduleBudget, ScheduleWithRemasking
from unmask.decode.families import ORDERS
from unmask.decode.forwards.plain import Forward, PlainForward
from unmask.decode.forwards.self_conditioned import ConditionedForward
from unmask.decode.logits.sampler import Tokens
from unmask.decode.named import OrderLike, make_order
from unmask.decode.orders.grid import GRID_ORDERS, Grid, GridOrder
from unmask.decode.orders.scores import DraftScore, DrawnProbability, Score
from unmask.decode.orders.selector import Selector
from unmask.decode.remasking import MaskPredict, NoRemasking
from unmask.decode.rules import Rules
from unmask.nonautoregressive.conditioning import Conditioning
from unmask.nonautoregressive.critic import NoisyCritic
from unmask.nonautoregressive.schedules import reveal_plan
from unmask.ops.schedule import Schedule
from unmask.suggestions import nearest


@dataclass(frozen=True, eq=False)
class GenerationParts:
    """The parts of a wrapper that generation depends on.

    Attributes:
        schedule: the mask-rate schedule.
        remasks: True masks unmasked tokens again (Mask-Predict).
        critic: ids ``[B, L]`` -> logits ``[B, L]`` that each token is wrong, or None.
        grid: shape of the canvas, or None.
        conditioning: additions to the token embeddings.
    """

    schedule: Schedule
    remasks: bool
    critic: Callable[[Tensor], Tensor] | None
    grid: Grid | None
    conditioning: Conditioning


def generation_rules(
    parts: GenerationParts,
    *,
    max_steps: int,
    order: OrderLike | None,
    temperature: float,
    annealed: bool,
    top_k: int | None,
    noise: float,
) -> Rules:
    """Return the rules of ``NonAutoregressiveWrapper.generate``; its docstring describes the arguments.

    The schedule decides how many tokens are unmasked after each step. Without remasking each step unmasks at least one token. With remasking
    the counts are exact, and remasked tokens are replaced by others.

    Raises:
        ValueError: an unknown order, or remasking with an order that measures no confidence.
    """
    plan = reveal_plan(parts.schedule)
    return Rules(
        max_steps,
        Selector(_score(parts, order, noise)),
        ScheduleWithRemasking(plan) if parts.remasks else ScheduleBudget(plan),
        remasking=MaskPredict() if parts.remasks else NoRemasking(),
        tokens=Tokens(temperature, top_k=top_k, annealed=annealed),
        forward=_forward(parts.conditioning),
        allow_eos=False,
    )


def prompt_rows(
    prompt: Tensor, batch_size: int | None, length: int, mask_id: int, device: torch.device
) -> Int[Tensor, "batch seq"]:
    """Return a prompt as rows ``[B, L]``; one row is repeated ``batch_size`` times.

    Raises:
        ValueError: another row length, or another number of rows than ``batch_size``.
    """
    rows = prompt[None] if prompt.dim() == 1 else prompt
    if rows.dim() != 2 or rows.shape[1] != length or (batch_size not in (None, len(rows)) and len(rows) != 1):
        raise ValueError(
            f"A prompt is ids [B, {length}], with the mask (id {mask_id}) at positions to fill, and this one has shape "
            f"{list(prompt.shape)} for batch_size={batch_size}. Leave batch_size out, or give one row, which is repeated."
        )
    return rows.to(device).long().expand(batch_size or len(rows), -1).contiguous()


def kept_tokens(filter_thres: float | None, num_tokens: int) -> int | None:
    """Return the number of tokens that ``filter_thres`` keeps per position; None = all.

    Raises:
        ValueError: a fraction outside [0, 1).
    """
    if not filter_thres:
        return None
    if not 0.0 <= filter_thres < 1.0:
        raise ValueError(
            f"filter_thres={filter_thres} is the fraction of the vocabulary to filter out: give a number in [0, 1), or None for no filter."
        )
    return max(1, math.ceil((1.0 - filter_thres) * num_tokens))


def _score(parts: GenerationParts, order: OrderLike | None, noise: float) -> Score | DraftScore:
    if noise < 0:
        raise ValueError(f"noise_level_scale={noise} scales the noise of a critic's ratings: give 0 (none) or more.")
    if order is None:
        return DrawnProbability() if parts.critic is None else NoisyCritic(parts.critic, noise)
    if not isinstance(order, str) or order in ORDERS:
        return make_order(order)
    if parts.grid is not None and order in GRID_ORDERS:
        return GridOrder(parts.grid, order)
    if order in GRID_ORDERS:
        raise ValueError(
            f"The order {order!r} needs the shape of the grid: build the wrapper with layout=(height, width)."
        )
    grid_orders = ", ".join(GRID_ORDERS) + ("" if parts.grid is not None else " (these need layout=(height, width))")
    raise ValueError(
        f"There is no order {order!r}.{nearest(order, [*ORDERS, *GRID_ORDERS])} Choose one of {', '.join(ORDERS)}, {grid_orders}, "
        "or None for the default."
    )


def _forward(conditioning: Conditioning) -> Forward:
    return ConditionedForward(conditioning, conditioning.self_cond) if conditioning.active else PlainForward()
