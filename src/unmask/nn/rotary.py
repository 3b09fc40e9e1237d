"""Rotary position embedding (Su et al. 2021, RoFormer, eq. 34): rotate pairs of channels by position.

Angles are tabulated once in float32 for ``max_length`` positions and looked up by ``positions [T]``, so that packed and
padded rows need no special treatment. Rotated queries and keys keep their dtype.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Angles = tuple[Float[Tensor, "tokens 1 half"], Float[Tensor, "tokens 1 half"]]


class RotaryTable(nn.Module):
    """Cosines and sines of the first ``max_length`` positions for ``dim`` channels (even).

    Channel pair ``j`` rotates by ``angle_per_step[j] = base^(-2j / dim)`` radians from one position to the next.
    """

    cos: Tensor
    sin: Tensor

    angle_per_step: Tensor

    def __init__(self, dim: int, max_length: int, base: float) -> None:
        super().__init__()
        angle_per_step = base ** (-torch.arange(0, dim, 2, dtype=torch.float64, device="cpu") / dim)
        angles = torch.arange(max_length, dtype=torch.float64, device="cpu")[:, None] * angle_per_step
        at = torch.get_default_device()
        for name, table in (("angle_per_step", angle_per_step), ("cos", angles.cos()), ("sin", angles.sin())):
            self.register_buffer(name, table.float().to(at), persistent=False)

    def forward(self, positions: Int[Tensor, " tokens"]) -> Angles:
        """Return cosines and sines at ``positions``, each ``[T, 1, dim / 2]``."""
        return self.cos[positions][:, None], self.sin[positions][:, None]


def refuse_beyond(positions: Int[Tensor, "*shape"], max_length: int) -> None:
    """Raise an error for positions beyond a table of ``max_length``. Reads the largest position on the host.

    Raises:
        ValueError: a position is ``max_length`` or more.
    """
    longest = int(positions.max()) + 1 if positions.numel() else 0
    if longest > max_length:
        raise ValueError(
            f"A row of {longest} tokens is longer than this model's max_length={max_length}. Shorten the text, "
            f"lower block_size or max_new_tokens, or train a model with max_length={longest} or more."
        )


def rotate(x: Float[Tensor, "tokens heads channels"], angles: Angles) -> Float[Tensor, "tokens heads channels"]:
    """Rotate the first ``2 * half`` channels of every head; the other channels are unchanged."""
    cos, sin = (a.to(x.dtype) for a in angles)
    half = cos.shape[-1]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], dim=-1)
