"""Which estimators suit a network: what its tokens attend to decides what its outputs are probabilities of.

    attends both ways           every estimator
    block-causal, causal        bounds block by block, and left to right; no score "given all other tokens"
    autoregressive (shift)      its exact likelihood, from unmasked rows
    given the noise level       none of these, which pass no noise level

A network that reads its prediction one position earlier (``shift`` of ``CausalLMAsMLM``) returns it in place, so every estimator suits it.
"""

from __future__ import annotations

from typing import Any

from unmask.contracts import is_autoregressive

ONE_SIDED = "sentence_l2r"


def causal_block_of(model: Any) -> int | None:
    """Return the length of the blocks of a block-causal network, 1 for a causal one, None for one that attends both ways.

    Args:
        model: any network; ``causal_block`` and ``future`` are read.
    """
    block = getattr(model, "causal_block", None)
    if block is not None:
        return int(block)
    future = getattr(model, "future", None)
    return 1 if isinstance(future, float | int) and future == 0 else None


def check_level_free(model: Any) -> None:
    """Refuse a network that takes the noise level as an input (``time_conditioned`` is True).

    Raises:
        ValueError: such a network.
    """
    if getattr(model, "time_conditioned", False):
        raise ValueError(
            f"{type(model).__name__} was trained with the noise level as an input (time_conditioned=True), and scores and bounds pass none: "
            "its outputs would be of an unknown level. Wrap it in a function of the ids that gives the level of each row, and set "
            "time_conditioned=False there."
        )


def check_masked(model: Any) -> None:
    """Refuse a network that takes no masked tokens, or the noise level, for an estimator that masks tokens.

    Raises:
        ValueError: such a network.
    """
    check_level_free(model)
    if is_autoregressive(model):
        raise ValueError(
            f"This {type(model).__name__} is autoregressive: it predicts a token from the tokens before it, and has never seen masked ones. Its "
            "likelihood is exact, in one pass: `unmask evaluate`, or `unmask score --bound` (unmask.nelbo), without noise levels or masks."
        )


def check_form(model: Any, form: str) -> None:
    """Refuse a form of the pseudo-log-likelihood for a network whose tokens do not attend to what follows.

    Args:
        model: any network.
        form: a name of ``PSEUDO_FORMS``.

    Raises:
        ValueError: the form conditions on tokens that the network does not attend to.
    """
    check_level_free(model)
    block = causal_block_of(model)
    if block is not None and form != ONE_SIDED:
        seen = "the tokens before it" if block == 1 else f"its own block of {block} and the blocks before it"
        raise ValueError(
            f"The pseudo-log-likelihood scores each token given all others, and in this network a token attends only to {seen}. Use the bound "
            f"(--bound; bound=True), which goes block by block, or the left-to-right form (--form {ONE_SIDED})."
        )
