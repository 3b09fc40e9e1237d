"""The registries of the decoder: every order, commit rule, remasking strategy and cache that has a name.

To add one, write its class in its family's folder and register it here, or call ``add`` from your own code:

    ORDERS             ``() -> Score | DraftScore``                which masked position comes first
    COMPOSED_ORDERS    orders that fix the budget too or need a critic network; ``make_rules`` builds them
    COMMIT_RULES       ``(bound: float) -> CommitRule``            how many positions are unmasked per step
    REMASKING          ``(rate: float, until: float) -> Remasking``  which unmasked tokens are masked again
    CACHES             ``(refresh: int | None) -> Forward``        which keys and values are reused

This module imports no torch: parts are named by ``"module:attribute"``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unmask.registry import Registry

if TYPE_CHECKING:
    from unmask.decode.forwards.plain import Forward
    from unmask.decode.orders.commit_rules import CommitRule
    from unmask.decode.orders.scores import DraftScore, Score
    from unmask.decode.remasking import Remasking

ORDERS: Registry[Callable[[], Score | DraftScore]] = Registry("order")
COMPOSED_ORDERS: Registry[Callable[..., Any]] = Registry("order")
COMMIT_RULES: Registry[Callable[[float], CommitRule]] = Registry("commit rule")
REMASKING: Registry[Callable[[float, float], Remasking]] = Registry("remasking")
CACHES: Registry[Callable[[int | None], Forward]] = Registry("cache")

_SCORES = "unmask.decode.orders.scores"
ORDERS.add("random", f"{_SCORES}:RandomOrder", "uniformly random")
ORDERS.add("left_to_right", f"{_SCORES}:LeftToRight", "leftmost first")
ORDERS.add("top_prob", f"{_SCORES}:top_prob_order", "highest probability of the likeliest token first")
ORDERS.add("prob_diff", f"{_SCORES}:prob_diff_order", "largest margin between the two likeliest tokens first")
ORDERS.add("entropy", f"{_SCORES}:entropy_order", "lowest entropy first")
ORDERS.add("drawn_prob", f"{_SCORES}:DrawnProbability", "sample every position, keep the likeliest samples: MaskGIT")

COMPOSED_ORDERS.add(
    "critic",
    "unmask.decode.orders.critics:NetworkCritic",
    "sample every position, keep the samples a critic rates best",
)
COMPOSED_ORDERS.add(
    "first_hitting", "unmask.decode.budget:OnePerStep", "uniformly random, one token per step: exact samples"
)
COMPOSED_ORDERS.add(
    "ancestral",
    "unmask.decode.budget:AncestralBudget",
    "uniformly random, each position at its own sampled time: the reverse diffusion",
)

_COMMIT_RULES = "unmask.decode.orders.commit_rules"
COMMIT_RULES.add(
    "threshold", f"{_COMMIT_RULES}:Threshold", "unmask every position with at least this confidence, from 0 to 1"
)
COMMIT_RULES.add(
    "cumulative_error",
    f"{_COMMIT_RULES}:CumulativeError",
    "unmask the most confident positions while their errors, 1 - confidence, sum to less than this",
)
COMMIT_RULES.add(
    "factor",
    f"{_COMMIT_RULES}:Factor",
    "unmask the n most confident positions, n the largest with (n + 1) times the n-th error below this",
)
COMMIT_RULES.add(
    "entropy_bound",
    f"{_COMMIT_RULES}:EntropyBound",
    "unmask the first-ranked positions while their entropies in nats, without the largest, sum to at most this",
)

_REMASKING = "unmask.decode.remasking"
REMASKING.add("cap", f"{_REMASKING}:remdm_cap", "each token with a constant probability, where possible: ReMDM-cap")
REMASKING.add(
    "rescale",
    f"{_REMASKING}:remdm_rescale",
    "each token with a fraction of the largest possible probability: ReMDM-rescale",
)
REMASKING.add(
    "confidence", f"{_REMASKING}:remdm_confidence", "tokens of low probability more often than others: ReMDM-conf"
)
REMASKING.add("mask_predict", f"{_REMASKING}:mask_predict", "the least confident tokens of all: Mask-Predict")

_CACHED = "unmask.decode.forwards.cached"
CACHES.add(
    "block",
    "unmask.decode.forwards.block_cached:block_cache",
    "recompute the open block; exact, for networks trained with model.causal_block",
)
CACHES.add("prefix", f"{_CACHED}:prefix_cache", "recompute from the open block to the end of the row; approximate")
CACHES.add("dual", f"{_CACHED}:dual_cache", "recompute the open block; approximate")
CACHES.add(
    "vicinity", f"{_CACHED}:vicinity_cache", "recompute the open block and 16 positions on either side; approximate"
)
CACHES.add(
    "delayed", f"{_CACHED}:delayed_cache", "recompute masked positions and those unmasked in the last step; approximate"
)
