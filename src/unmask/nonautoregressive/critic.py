"""Token critics: for every token of a filled row, the logit that it is *wrong* (Token-Critic, 2209.04439).

A critic is trained on rows whose masked tokens were sampled by the network. A token is wrong if the *placed* token differs from the
original. In decoding, the critic ranks the sampled tokens instead of their probability.

    HiddenCritic   a linear output of a network's hidden states: the generator's (self-critic), or a separate network's
    a module       ids ``[B, L]`` -> logits ``[B, L]`` or ``[B, L, 1]``, such as a ``TransformerWrapper`` with ``logits_dim=1``
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unmask.contracts import SpecialIds
from unmask.decode.orders.grid import Grid
from unmask.decode.orders.scores import Draft
from unmask.decode.reach import reached
from unmask.decode.view import StepView
from unmask.models.adapters import as_network
from unmask.models.hf import HuggingFaceMLM
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.nonautoregressive.conditioning import Conditioning, Network
from unmask.ops.sampling import draw
from unmask.ops.selection import gumbel
from unmask.randomness import Stream, fold, uniform

_DRAFT, _DRAFT_TEMPERATURE = 102, 103  # fold constants of the draws of guessing_loss


class HiddenCritic(nn.Module):
    """A linear output of hidden states.

    Args:
        network: the network with the hidden states; not a submodule of the critic.
        conditioning: additions to its embeddings; not a submodule either.

    Raises:
        ValueError: a network without hidden states.
    """

    def __init__(self, network: Network, conditioning: Conditioning) -> None:
        super().__init__()
        if network.width is None:
            raise ValueError(
                f"A critic reads the hidden states of a network, and {type(network).__name__} shows none. Give token_critic= a separate "
                "module instead: ids [B, L] -> logits [B, L] that each token is wrong."
            )
        self._parts = (network, conditioning)  # a tuple, so that nn.Module does not register them
        self.wrong: nn.Linear = nn.Linear(network.width, 1)
        nn.init.zeros_(self.wrong.bias)

    @classmethod
    def beside(cls, net: Any, grid: Grid | None) -> HiddenCritic:
        """Return the output of a separate network, with its own grid positions; the caller registers ``net`` itself."""
        network: Network = as_network(net)
        critic = cls(network, Conditioning(network, False, grid))
        critic.places = critic._parts[1]
        return critic

    def forward(self, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq"]:
        """Return the logits ``[B, L]`` that each token is wrong."""
        network, conditioning = self._parts
        hidden = network.hidden_states(ids, sum_embeds=conditioning(None, (ids.shape[0], ids.shape[1])))
        logits: Tensor = self.wrong(F.layer_norm(hidden, hidden.shape[-1:]))
        return logits[..., 0]


@dataclass(frozen=True)
class ModuleCritic:
    """A critic module with its own output.

    Attributes:
        net: ids ``[B, L]`` -> logits ``[B, L]`` or ``[B, L, 1]``.
    """

    net: Callable[[Tensor], Tensor]

    def __call__(self, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq"]:
        """Return the logits ``[B, L]`` that each token is wrong.

        Raises:
            ValueError: logits of another shape.
        """
        logits = self.net(ids)
        if logits.shape == (*ids.shape, 1):
            logits = logits[..., 0]
        if logits.shape != ids.shape:
            raise ValueError(
                f"A token critic returns one logit per token, [{ids.shape[0]}, {ids.shape[1]}] or with a last dimension of 1, and this one returned "
                f"{list(logits.shape)}. With x-transformers: TransformerWrapper(..., logits_dim=1)."
            )
        return logits


def needs_output(net: object) -> bool:
    """Return whether a critic is a network of this package or Hugging Face's, which has no output of one logit per token."""
    return isinstance(net, RotaryTransformerMLMModel | HuggingFaceMLM) or (
        hasattr(net, "base_model") and hasattr(net, "config")
    )


def guessing_loss(
    critic: Callable[[Tensor], Tensor],
    logits: Float[Tensor, "scored vocab"],
    where: Bool[Tensor, "batch seq"],
    targets: Int[Tensor, "batch seq"],
    keys: Int[Tensor, " batch"],
    temperature: float | None,
    special: SpecialIds,
) -> Float[Tensor, ""]:
    """Return the binary cross-entropy, over all tokens, of the wrong tokens in a sampled row.

    Args:
        critic: ids ``[B, L]`` -> logits ``[B, L]``.
        logits: the generator's ``[N, V]`` at the masked positions, row-major.
        where: bool ``[B, L]``, the masked positions, at which samples are placed.
        targets: int64 ``[B, L]``, the original tokens.
        keys: int64 ``[B]``, the keys of the rows.
        temperature: of the samples; None = one per row, uniform in (0, 1).
        special: special ids, which are not sampled.
    """
    heat = (
        uniform(fold(keys, _DRAFT_TEMPERATURE))
        if temperature is None
        else torch.full(keys.shape, temperature, device=keys.device)
    )
    drafts = fold(keys, _DRAFT)
    row = where.nonzero()[:, 0]
    allowed = logits.float().index_fill(1, torch.tensor(special.all, device=logits.device), -torch.inf)
    counters = torch.arange(where.shape[1], device=where.device).expand(where.shape)
    uniforms = uniform(fold(drafts[:, None].expand(where.shape), counters))[where]
    sampled = draw(allowed / heat[row].clamp(min=1e-3).to(allowed.dtype)[:, None], uniforms)
    placed = targets.masked_scatter(where, sampled)
    return F.binary_cross_entropy_with_logits(critic(placed), (placed != targets).float())


@dataclass(frozen=True)
class NoisyCritic:
    """The tokens that a critic rates best first, with noise that decreases over the row's steps.

    Attributes:
        wrong: ids ``[b, L]`` -> logits ``[b, L]`` that each token is wrong.
        noise: scale of the Gumbel noise added to the logits; it decreases linearly to zero in the last step.
    """

    wrong: Callable[[Tensor], Tensor]
    noise: float = 1.0
    judges_revealed: bool = field(default=True, init=False)

    def judge(self, view: StepView, draft: Draft) -> Float[Tensor, "rows seq"]:
        """Return the probability that each token is right, in (0, 1)."""
        right = -reached(self.wrong, draft.ids.device)(draft.ids).double()
        if self.noise and view.fraction_left is not None:
            right = right + self.noise * view.fraction_left[:, None] * gumbel(
                view.noise.per_token(Stream.ORDER, draft.ids.shape[1])
            )
        return torch.sigmoid(right)
