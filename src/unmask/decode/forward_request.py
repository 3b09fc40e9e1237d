"""``ForwardRequest``: what a decode in progress yields where it needs the network."""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple, TypeAlias

from jaxtyping import Bool
from torch import Tensor

from unmask.decode.forwards.plain import ForwardSession
from unmask.decode.observers.base import Decoded
from unmask.decode.view import StepView


class ForwardRequest(NamedTuple):
    """A forward pass that a decode needs.

    Attributes:
        session: how the network is run.
        view: the step.
        where: bool ``[b, L]``, the positions whose logits ``[N, V]`` are sent back, in row-major order.
        steps: the largest number of steps of the decode.
    """

    session: ForwardSession
    view: StepView
    where: Bool[Tensor, "rows seq"]
    steps: int


Steps: TypeAlias = Generator[ForwardRequest, Tensor, Decoded]
"""A decode in progress: forward requests out, logits in, the decoded canvas at last."""
