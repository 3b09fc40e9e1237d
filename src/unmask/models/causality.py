"""Detection of causal networks, in which a token sees only the tokens before it.

Masked tokens are predicted from one side there. Such a network is trained and used all the same, after one warning.
"""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from unmask.nn.modes import eval_mode


def warn_causal(name: str, remedy: str) -> None:
    """Warn that a network is causal."""
    warnings.warn(
        f"This {name} is causal: each token sees only the tokens before it, so masked tokens are predicted from the left context alone. "
        f"Training and generation continue. {remedy}",
        stacklevel=3,
    )


def check_causal_options(causal_block: int | None, shift: bool) -> None:
    """Refuse blocks without positions, and ``shift`` for a network in which later tokens are attended to.

    Raises:
        ValueError: such options.
    """
    if causal_block is not None and causal_block < 1:
        raise ValueError(
            f"causal_block={causal_block} is the number of positions of a block: give 1 or more, or None for bidirectional attention."
        )
    if shift and causal_block != 1:
        raise ValueError(
            f"shift=True is for a causal network, and causal_block={causal_block}: a later token would be both input and target. Give "
            "causal_block=1, or leave shift out."
        )


def refuse_block_mask(block_mask: Any, causal_block: int | None) -> None:
    """Refuse a caller's BlockMask for a network whose attention is causal by blocks.

    Raises:
        ValueError: both are given.
    """
    if block_mask is not None and causal_block is not None:
        raise ValueError(
            "A block_mask replaces every other mask, but this model's causal_block needs its own. Give segment_ids and "
            "attention_mask instead; with use_flex_attn=True the model builds a BlockMask from them."
        )


def is_causal(net: Any, ids: Int[Tensor, "batch seq"], num_tokens: int) -> bool:
    """Detect causal masking by perturbing the first and the last token.

    A copy of the network runs on made-up ids, so its mode, buffers and counters stay, and so do all global generators.

    Args:
        net: maps ids ``[B, L]`` to ``[B, L, ...]``.
        ids: an input batch; only shape and device are read.
        num_tokens: size of the vocabulary.

    Returns:
        Whether the first position ignores the last token while the last position depends on the first; False if the
        test cannot run.
    """
    if torch.compiler.is_compiling() or ids.device.type == "meta" or ids.shape[1] < 2:
        return False
    shared = {id(p): p for p in net.parameters()} if isinstance(net, nn.Module) else {}
    with _generators_restored(ids.device):
        try:
            twin = copy.deepcopy(net, shared)
            with eval_mode(twin):
                plain = torch.arange(ids.shape[1], device=ids.device)[None] % num_tokens
                output = twin(plain)
                last_seen = not torch.equal(twin(_changed(plain, -1, num_tokens))[0, 0], output[0, 0])
                first_seen = not torch.equal(twin(_changed(plain, 0, num_tokens))[0, -1], output[0, -1])
        except Exception:  # the real call will raise the same error
            return False
    return first_seen and not last_seen


def _changed(ids: Tensor, place: int, num_tokens: int) -> Tensor:
    changed = ids.clone()
    changed[0, place] = (changed[0, place] + 1) % num_tokens
    return changed


@contextmanager
def _generators_restored(device: torch.device) -> Iterator[None]:
    python, numpys = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpys)
