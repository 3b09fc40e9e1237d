"""Pre-norm transformer blocks over flat tokens ``[T, D]``.

    x = x + out(attention(rotate(norm(x))))        one fused query-key-value product
    x = x + down(activation(up(norm(x))))

Most outputs of the last block are never read: a loss reads the masked positions, a decoder the positions to fill. With
the argument ``read``, a block computes keys and values of every token, and everything else at ``read`` only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from unmask.nn.attention import AttentionPlan, rotary_attention, supports_partial_queries
from unmask.nn.linear import Linear
from unmask.nn.rotary import Angles, rotate
from unmask.registry import Registry


def squared_relu(x: Tensor) -> Tensor:
    """Return ``max(x, 0) ** 2``."""
    return F.relu(x).square()


ACTIVATIONS: Registry[Callable[[Tensor], Tensor]] = Registry(
    "activation",
    {
        "relu": (F.relu, "`max(x, 0)`"),
        "gelu": (F.gelu, "`x Phi(x)`, exact (BERT)"),
        "gelu_tanh": (partial(F.gelu, approximate="tanh"), "`x Phi(x)`, Phi by a tanh (GPT-2, DiT)"),
        "silu": (F.silu, "`x sigmoid(x)`"),
        "squared_relu": (squared_relu, "`max(x, 0)^2` (Primer)"),
    },
)


class EncoderBlock(nn.Module):
    """Self-attention and a feed-forward layer, each with a LayerNorm before and a residual connection around it.

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
        self.attention_norm: nn.LayerNorm = nn.LayerNorm(d_model, layer_norm_eps)
        self.qkv: Linear = Linear(d_model, 3 * d_model)
        self.out: Linear = Linear(d_model, d_model, bias=False)
        self.feedforward_norm: nn.LayerNorm = nn.LayerNorm(d_model, layer_norm_eps)
        self.up: Linear = Linear(d_model, dim_feedforward)
        self.down: Linear = Linear(dim_feedforward, d_model)
        self.activation: Callable[[Tensor], Tensor] = ACTIVATIONS[activation]

    def attend(
        self,
        x: Float[Tensor, "tokens width"],
        angles: Angles,
        plan: AttentionPlan,
        read: Int[Tensor, " read"] | None = None,
    ) -> Float[Tensor, "outs width"]:
        """Return the output of the attention branch, without its residual."""
        width, dropout = x.shape[-1], self.dropout if self.training else 0.0
        if read is None or not supports_partial_queries(plan):
            qkv = self.qkv.linear_of(*_normed(self.attention_norm, x))
            heads = torch.unflatten(qkv, -1, (3, self.nhead, width // self.nhead))
            attended = rotary_attention(plan, heads, angles, dropout)
            out: Tensor = self.out((attended if read is None else attended[read]).flatten(1))
            return out
        normed = self.attention_norm(x)
        q = torch.unflatten(self.qkv.rows_of(normed[read], slice(width)), -1, (self.nhead, -1))
        k, v = torch.unflatten(self.qkv.rows_of(normed, slice(width, None)), -1, (2, self.nhead, -1)).unbind(1)
        cos, sin = angles
        attended = plan.at(read, rotate(q, (cos[read], sin[read])), rotate(k, angles), v, dropout)
        out = self.out(attended.flatten(1))
        return out

    def forward(
        self,
        x: Float[Tensor, "tokens width"],
        angles: Angles,
        plan: AttentionPlan,
        read: Int[Tensor, " read"] | None = None,
    ) -> Float[Tensor, "outs width"]:
        """Return the block's output at all tokens, or at the tokens ``read`` (ascending)."""
        attended = self.attend(x, angles, plan, read)
        x = (x if read is None else x[read]) + F.dropout(attended, self.dropout, self.training)
        hidden = self.down.linear_of(self.activation, self.up.linear_of(*_normed(self.feedforward_norm, x)))
        return x + F.dropout(hidden, self.dropout, self.training)


def _normed(norm: nn.LayerNorm, x: Tensor) -> tuple[Callable[..., Tensor], Tensor, Tensor, Tensor]:
    """Return a norm as a function of its input and its parameters, followed by these arguments."""
    return (
        lambda x, weight, bias: F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps),
        x,
        norm.weight,
        norm.bias,
    )


def initialise(module: nn.Module, layers: int, std: float = 0.02) -> None:
    """Draw weights from a normal law of ``std``, smaller with depth for projections into the residual stream (GPT-2,
    sec. 2.3).
    """
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
    """Initialise the heads of a block to attend to offsets -1, +1, -2, +2, … through their query and key biases.

    Rotary scores of a constant query ``q`` and key ``k`` depend on the offset alone: with channel pairs as complex
    numbers, ``q = a exp(i theta delta)`` and ``k = a`` peak at offset ``delta``. A new model thus attends to neighbours
    from the first step, without learning to locate them; training may change the biases.
    """
    half = len(angle_per_step)
    q_bias, k_bias, _ = block.qkv.bias.view(3, block.nhead, -1)
    for head in range(block.nhead):
        offset = (head // 2 + 1) * (-1 if head % 2 == 0 else 1)
        q_bias[head, :half] = LOCAL_SHARPNESS * torch.cos(angle_per_step * offset)
        q_bias[head, half : 2 * half] = LOCAL_SHARPNESS * torch.sin(angle_per_step * offset)
        k_bias[head, :half] = LOCAL_SHARPNESS
