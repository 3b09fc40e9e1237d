"""A critic: for every token of a filled row, the logit that it is *wrong* (Token-Critic, 2209.04439).

It is trained on rows whose hidden tokens the network has guessed; a token is wrong where what was *placed* differs from what was
there. In decoding it ranks the drawn tokens in place of their own probability.

    HiddenCritic   one more output of a network's hidden states: of the generator itself (self-critic) or of one of its own
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
from unmask.nonautoregressive.conditioning import Conditioning
from unmask.ops.sampling import draw
from unmask.ops.selection import gumbel
from unmask.randomness import Stream, fold, uniform


class HiddenCritic(nn.Module):
    """A linear output of hidden states.

    Args:
        network: whose hidden states are judged by; no part of this module's state.
        conditioning: what is added to its embeddings; no part of it either.

    Raises:
        ValueError: the network shows no hidden states.
    """

    def __init__(self, network: Any, conditioning: Conditioning) -> None:
        super().__init__()
        if network.width is None:
            raise ValueError(
                f"A critic reads the hidden states of a network, and {type(network).__name__} shows none. Give token_critic= a network of its "
                "own: a module ids [B, L] -> logits [B, L] that each token is wrong."
            )
        self._parts = (network, conditioning)  # in a tuple: not registered
        self.wrong = nn.Linear(network.width, 1)
        nn.init.zeros_(self.wrong.bias)

    @classmethod
    def beside(cls, net: Any, grid: Grid | None) -> HiddenCritic:
        """The output of a network of its own, with its own places of a grid; ``net`` itself is registered by the caller."""
        network = as_network(net)
        made = cls(network, Conditioning(network, False, grid))
        made.places = made._parts[1]
        return made

    def forward(self, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq"]:
        """Logits that each token is wrong."""
        network, conditioning = self._parts
        hidden = network.hidden_states(ids, sum_embeds=conditioning(None, (ids.shape[0], ids.shape[1])))
        return self.wrong(F.layer_norm(hidden, hidden.shape[-1:]))[..., 0]


@dataclass(frozen=True)
class ModuleCritic:
    """A module of the caller's that has an output of its own."""

    net: Callable[[Tensor], Tensor]

    def __call__(self, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq"]:
        """Logits that each token is wrong.

        Raises:
            ValueError: the module answers in another shape.
        """
        logits = self.net(ids)
        if logits.shape == (*ids.shape, 1):
            logits = logits[..., 0]
        if logits.shape != ids.shape:
            raise ValueError(
                f"A token critic answers one logit a token, [{ids.shape[0]}, {ids.shape[1]}] or with a last dimension of 1, and this one gave "
                f"{list(logits.shape)}. With x-transformers: TransformerWrapper(..., logits_dim=1)."
            )
        return logits


def takes_output(net: Any) -> bool:
    """Whether a critic is a network of this package or Hugging Face's, which has no output of one logit a token."""
    return isinstance(net, RotaryTransformerMLMModel | HuggingFaceMLM) or (
        hasattr(net, "base_model") and hasattr(net, "config")
    )


def guessing_loss(
    critic: Callable[[Tensor], Tensor],
    logits: Float[Tensor, "scored vocab"],
    where: Bool[Tensor, "batch seq"],
    targets: Int[Tensor, "batch seq"],
    keys: Int[Tensor, " batch"],
    temperature: Float[Tensor, " batch"],
    special: SpecialIds,
) -> Float[Tensor, ""]:
    """Binary cross-entropy, over all tokens, of which tokens of a guessed row are wrong.

    Args:
        critic: ids ``[B, L]`` -> logits ``[B, L]``.
        logits: the generator's at the hidden positions, row-major.
        where: the hidden positions, at which its guesses are placed.
        targets: what was there, everywhere.
        keys: of the rows' draws.
        temperature: of each row's guesses.
        special: ids that are not guessed.
    """
    row = where.nonzero()[:, 0]
    allowed = logits.float().index_fill(1, torch.tensor(special.all, device=logits.device), -torch.inf)
    counters = torch.arange(where.shape[1], device=where.device).expand(where.shape)
    uniforms = uniform(fold(keys[:, None].expand(where.shape), counters))[where]
    guessed = draw(allowed / temperature[row].clamp(min=1e-3).to(allowed.dtype)[:, None], uniforms)
    placed = targets.masked_scatter(where, guessed)
    return F.binary_cross_entropy_with_logits(critic(placed), (placed != targets).float())


@dataclass(frozen=True)
class NoisyCritic:
    """The tokens a critic believes first, with chance that fades over the row's steps.

    Attributes:
        wrong: ids ``[b, L]`` -> logits ``[b, L]`` that each token is wrong.
        noise: times Gumbel noise added to the logits in the first step; less in each further one, none in the last.
    """

    wrong: Callable[[Tensor], Tensor]
    noise: float = 1.0
    judges_revealed: bool = field(default=True, init=False)

    def judge(self, view: StepView, draft: Draft) -> Float[Tensor, "rows seq"]:
        """The belief in every token, in (0, 1)."""
        right = -reached(self.wrong, draft.ids.device)(draft.ids).double()
        if self.noise and view.fraction_left is not None:
            right = right + self.noise * view.fraction_left[:, None] * gumbel(
                view.noise.per_token(Stream.ORDER, draft.ids.shape[1])
            )
        return torch.sigmoid(right)
