"""Whether a trained network predicts a token at its own position or one earlier, told by its loss on plain text.

Every fourth token of a text is masked in turn, and both readings are scored. A trained network gives the truth a far
higher probability under one of them. A network without training does not, so its text tells nothing: None.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from unmask.nn.modes import eval_mode

TEXT = (
    "The sun rises in the east and sets in the west. One, two, three, four, five, six, seven, eight, nine, ten. "
    "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday are the seven days of the week."
)
STRIDE = 4  # every fourth token is masked
LONGEST = 64  # tokens of the text
MARGIN = 1.0  # nats per token between both readings
GAIN = 2.0  # nats per token below a uniform guess: less is no sign of training


@torch.no_grad()
def shift_evidence(network: Any, ids: Int[Tensor, " seq"], mask_idx: int) -> bool | None:
    """Return whether predictions are shifted by one; None if the text does not tell.

    Args:
        network: maps ids ``[B, L]`` to raw logits ``[B, L, V]``, without a shift of its own.
        ids: tokens of ``TEXT``.
        mask_idx: id of the mask.
    """
    ids = ids[:LONGEST]
    if len(ids) < 2 * STRIDE:
        return None
    index = torch.arange(len(ids), device=ids.device)
    hidden = index % STRIDE == torch.arange(STRIDE, device=ids.device)[:, None]
    hidden[:, 0] = False  # the first token has no position before it
    rows = torch.where(hidden, mask_idx, ids)
    with eval_mode(network):
        scores = network(rows).float().log_softmax(-1)
    truth = ids.expand_as(rows)
    own = scores.gather(-1, truth[..., None])[..., 0][hidden].mean()
    before = scores[:, :-1].gather(-1, truth[:, 1:, None])[..., 0][hidden[:, 1:]].mean()
    best = float(torch.maximum(own, before))
    if not best > GAIN - math.log(scores.shape[-1]) or abs(float(own - before)) < MARGIN:
        return None
    return bool(before > own)


def choose_shift(name: str, given: bool | None, known: bool | None, seen: bool | None) -> bool:
    """Return whether logits are shifted: as given, else as published, else as seen, else not.

    Args:
        name: of the model, for the message.
        given: by the user.
        known: of the published class.
        seen: of :func:`shift_evidence`.

    Raises:
        ValueError: the network predicts text at the other position.
    """
    claimed = known if given is None else given
    if seen is not None and claimed is not None and seen != claimed:
        where, other = (
            ("one position before it", "at its own position")
            if seen
            else ("at its own position", "one position before it")
        )
        source = "you ask for" if given is not None else "its class is published with"
        raise ValueError(
            f"{name} predicts each token of plain text {where}, and {source} predictions {other}. Give "
            f"{'--shift (model.init_shift=true)' if seen else '--no-shift (model.init_shift=false)'}, or check that mask and tokenizer are the model's."
        )
    return bool(seen) if claimed is None else claimed
