"""Whether a network is causal: whether a token sees those before it alone, so that a hidden one is told from one side.

Such a network is trained and used all the same, after one warning.
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
        f"Each token of this {name} sees only those before it: it is causal, and a hidden token is better told from both sides. Training and "
        f"generation go on with what stands on its left. {remedy}",
        stacklevel=3,
    )


def is_causal(net: Any, ids: Int[Tensor, "batch seq"], num_tokens: int) -> bool:
    """Whether the first position ignores the last token while the last position sees the first.

    A copy of the network is evaluated on made-up ids, so its mode, buffers and counters stay, and so does every global generator.

    Args:
        net: maps ids ``[B, L]`` to ``[B, L, ...]``.
        ids: any batch it is about to see; only shape and device are read.
        num_tokens: size of the vocabulary.

    Returns:
        False also where this cannot be found out.
    """
    if torch.compiler.is_compiling() or ids.device.type == "meta" or ids.shape[1] < 2:
        return False
    shared = {id(p): p for p in net.parameters()} if isinstance(net, nn.Module) else {}
    with _generators_restored(ids.device):
        try:
            twin = copy.deepcopy(net, shared)
            with eval_mode(twin):
                plain = torch.arange(ids.shape[1], device=ids.device)[None] % num_tokens
                answer = twin(plain)
                last_seen = not torch.equal(twin(_changed(plain, -1, num_tokens))[0, 0], answer[0, 0])
                first_seen = not torch.equal(twin(_changed(plain, 0, num_tokens))[0, -1], answer[0, -1])
        except Exception:  # whatever is wrong, the real call will say
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
