"""Autoregressive networks decode from left to right, one token a step: each token is an input of the next.

Their logits are probabilities of a token given the final tokens before it. Another order would read ``[MASK]`` there, which
such a network has never seen as text.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from unmask.contracts import is_autoregressive
from unmask.decode.rules import Rules

DEFAULT_ORDERS = ("random", "top_prob")  # of commands and methods, in which the network may be of any kind


def order_for(model: Any, order: Any) -> Any:
    """Return the decoding order for a network: ``left_to_right`` instead of a default order for an autoregressive one.

    Examples:
        >>> from unmask import RotaryTransformerMLMModel
        >>> order_for(RotaryTransformerMLMModel(20, 16, 1, 2, causal_block=1, shift=True), "random")
        'left_to_right'
    """
    return "left_to_right" if isinstance(order, str) and order in DEFAULT_ORDERS and is_autoregressive(model) else order


def rules_for_network(model: Any, rules: Rules) -> Rules:
    """Return the rules for a network: with ``left_to_right`` for an autoregressive one."""
    return replace(rules, left_to_right=True) if is_autoregressive(model) else rules


def refuse_other_orders(
    blanks: Bool[Tensor, "rows seq"], chosen: Bool[Tensor, "rows seq"], hidden: Bool[Tensor, "rows seq"]
) -> None:
    """Raise unless every row places its first masked token, or none.

    Args:
        blanks: masked positions.
        chosen: positions that a step unmasks.
        hidden: positions that it masks again.

    Raises:
        ValueError: another position, several of one row, or remasking.
    """
    first = blanks & (blanks.long().cumsum(-1) == 1)
    if bool((chosen & ~first).any()) or bool(hidden.any()):
        raise ValueError(
            "This network is autoregressive (shift=True): it predicts a token from the tokens before it alone, so tokens are placed from left "
            "to right, one a step and never again. Decode with order left_to_right (--order left_to_right) and without a number of steps, "
            "a commit rule or remasking; --cache block keeps it exact and runs one token a step. For other orders train objective.name=diffusion."
        )
