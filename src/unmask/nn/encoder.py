"""Pre-norm transformer blocks over flat tokens ``[T, D]``.

    x = x + out(attention(rotate(norm(x))))        one fused query-key-value product
    x = x + down(activation(up(norm(x))))

Of the last block, most of what comes out is never read: a loss reads the hidden positions, a decoder the blanks. Told which
positions are read, a block asks for them only: every token is a key and a value, and the rest of the work is done at ``read``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from unmask.nn.attention import AttentionPlan, rotary_attention, supports_partial_queries
from unmask.nn.linear import Linear
from unmask.nn.rotary import Angles, rotate


def squared_relu(x: Tensor) -> Tensor:
    """``max(x, 0) ** 2``."""
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "squared_relu": squared_relu,
}


class EncoderBlock(nn.Module):
    """Self-attention and a feed-forward layer, each behind a LayerNorm and a residual connection.

    Args:
        d_model, nhead, dim_feedforward: width, heads, hidden width of the feed-forward layer.
        dropout: of attention probabilities and of both residual branches.
        activation: a name of ``ACTIVATIONS``.
        layer_norm_eps: of every norm.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int,
        dropout: float,
        activation: str,
        layer_norm_eps: float,
    ) -> None:
        super().__init__()
        self.nhead = nhead
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(d_model, layer_norm_eps)
        self.qkv = Linear(d_model, 3 * d_model)
        self.out = Linear(d_model, d_model, bias=False)
        self.feedforward_norm = nn.LayerNorm(d_model, layer_norm_eps)
        self.up = Linear(d_model, dim_feedforward)
        self.down = Linear(dim_feedforward, d_model)
        self.activation = ACTIVATIONS[activation]

    def attend(
        self,
        x: Float[Tensor, "tokens width"],
        angles: Angles,
        plan: AttentionPlan,
        read: Int[Tensor, " read"] | None = None,
    ) -> Float[Tensor, "outs width"]:
        """The attention branch, without its residual."""
        width, dropout = x.shape[-1], self.dropout if self.training else 0.0
        if read is None or not supports_partial_queries(plan):
            qkv = self.qkv.linear_of(*_normed(self.attention_norm, x))
            attended = rotary_attention(plan, qkv.unflatten(-1, (3, self.nhead, width // self.nhead)), angles, dropout)
            return self.out((attended if read is None else attended[read]).flatten(1))
        normed = self.attention_norm(x)
        q = self.qkv.rows_of(normed[read], slice(width)).unflatten(-1, (self.nhead, -1))
        k, v = self.qkv.rows_of(normed, slice(width, None)).unflatten(-1, (2, self.nhead, -1)).unbind(1)
        cos, sin = angles
        return self.out(plan.at(read, rotate(q, (cos[read], sin[read])), rotate(k, angles), v, dropout).flatten(1))

    def forward(
        self,
        x: Float[Tensor, "tokens width"],
        angles: Angles,
        plan: AttentionPlan,
        read: Int[Tensor, " read"] | None = None,
    ) -> Float[Tensor, "outs width"]:
        """The block's output, at all tokens or at those of ``read`` (ascending places among them)."""
        attended = self.attend(x, angles, plan, read)
        x = (x if read is None else x[read]) + F.dropout(attended, self.dropout, self.training)
        hidden = self.down.linear_of(self.activation, self.up.linear_of(*_normed(self.feedforward_norm, x)))
        return x + F.dropout(hidden, self.dropout, self.training)


def _normed(norm: nn.LayerNorm, x: Tensor) -> tuple[Callable[..., Tensor], Tensor, Tensor, Tensor]:
    """A norm as a function of its input and its parameters, and those."""
    return (
        lambda x, weight, bias: F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps),
        x,
        norm.weight,
        norm.bias,
    )


def initialise(module: nn.Module, layers: int, std: float = 0.02) -> None:
    """Normal weights of ``std``; projections into the residual stream shrink with depth (GPT-2, section 2.3)."""
    for name, parameter in module.named_parameters():
        if parameter.dim() < 2:
            continue
        residual = name.endswith(("out.weight", "down.weight"))
        torch.nn.init.normal_(parameter, std=std / math.sqrt(2 * layers) if residual else std)
    for part in module.modules():
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            with torch.no_grad():
                part.weight[part.padding_idx].zero_()


LOCAL_SHARPNESS = 3.0


@torch.no_grad()
def initialise_local_attention(block: EncoderBlock, angle_per_step: Float[Tensor, " half"]) -> None:
    """Start the heads of a block attending to offsets -1, +1, -2, +2, … through their query and key biases.

    Rotary scores of a constant query ``q`` and key ``k`` depend on the offset alone: with channel pairs as complex numbers,
    ``q = a exp(i theta delta)`` and ``k = a`` peak at offset ``delta``. A new model thus sees its neighbours from the first
    step, rather than after it has found out where they are; training is free to move the biases away.
    """
    half = len(angle_per_step)
    q_bias, k_bias, _ = block.qkv.bias.view(3, block.nhead, -1)
    for head in range(block.nhead):
        offset = (head // 2 + 1) * (-1 if head % 2 == 0 else 1)
        q_bias[head, :half] = LOCAL_SHARPNESS * torch.cos(angle_per_step * offset)
        q_bias[head, half : 2 * half] = LOCAL_SHARPNESS * torch.sin(angle_per_step * offset)
        k_bias[head, :half] = LOCAL_SHARPNESS
