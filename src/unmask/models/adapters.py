"""Adapters that give third-party models the interface of ours: hidden states first, logits only where they are read.

    x-transformers   a ``TransformerWrapper`` over an ``Encoder``
    Hugging Face     a ``…ForMaskedLM``              (``unmask.models.hf``)
    any other        a module ids -> logits, with logits computed everywhere

Adapters are modules with ``num_tokens``, ``max_length``, ``width`` and ``embedding_width`` (None where unknown),
``hidden_states(x_t, ..., sum_embeds)`` and ``logits_at(hidden, where)``. Adapting a model does not run it. A causal
network causes a warning at its first use.

Third-party networks have no common type, so ``net`` is ``Any``.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unmask.models.causality import is_causal, warn_causal
from unmask.models.hf import HuggingFaceMLM
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.models.unpadded import run_unpadded
from unmask.nn.vocabulary import refuse_unknown_ids


class XTransformerMLM(nn.Module):
    """A ``TransformerWrapper`` of x-transformers as an ``MLMModel``.

    Args:
        net: over an ``Encoder``; a ``Decoder`` causes a warning. It counts positions itself, so padding is dropped and
            packed documents run separately (``run_unpadded``).

    Raises:
        ValueError: its output is not a single projection of its hidden states.
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        odd = [
            n
            for n in (
                "to_mixture",
                "has_multiple_heads",
                "cls_token",
                "attn_pool",
                "average_pool_embed",
                "sigsoftmax_logits",
            )
            if getattr(net, n, None)
        ]
        if odd or getattr(net, "to_logits", None) is None:
            raise ValueError(
                f"The output of this TransformerWrapper is not a single projection of its hidden states, because of "
                f"{', '.join(odd) or 'return_only_embed'}. Build it without these options."
            )
        self.net = net
        self.num_tokens: int = net.num_tokens
        self.max_length: int = net.max_seq_len
        self.width: int = net.attn_layers.dim
        self.embedding_width: int = net.emb_dim
        self._used = False

    def _first_use(self) -> None:
        if not self._used:
            self._used = True
            if self.net.attn_layers.causal:
                warn_causal("TransformerWrapper", "Build it over an Encoder instead of a Decoder.")

    def forward(
        self,
        x_t: Tensor,
        attention_mask: Any = None,
        positions: Any = None,
        block_mask: Any = None,
        segment_ids: Any = None,
    ) -> Tensor:
        """Return logits ``[B, L, V]``."""
        states = self.hidden_states(x_t, attention_mask, positions, block_mask, segment_ids)
        logits: Tensor = self.net.to_logits(states)
        return logits

    def hidden_states(
        self,
        x_t: Int[Tensor, "batch seq"],
        attention_mask: Any = None,
        positions: Any = None,
        block_mask: Any = None,
        segment_ids: Any = None,
        sum_embeds: Float[Tensor, "batch seq embedding"] | None = None,
    ) -> Float[Tensor, "batch seq width"]:
        """Return the encoder's output; ``sum_embeds`` is added to the embeddings."""
        self._first_use()
        refuse_unknown_ids(x_t, self.num_tokens, None if attention_mask is None else attention_mask.bool())

        def run(ids: Tensor, added: Tensor | None) -> Tensor:
            states: Tensor = self.net(ids, return_embeddings=True, sum_embeds=added)
            return states

        return run_unpadded(run, x_t, attention_mask, positions, block_mask, segment_ids, sum_embeds)

    def logits_at(
        self, hidden: Float[Tensor, "batch seq width"], where: Bool[Tensor, "batch seq"]
    ) -> Float[Tensor, "scored vocab"]:
        """Return logits at the True positions, row-major."""
        logits: Tensor = self.net.to_logits(hidden[where])
        return logits


class PlainNetwork(nn.Module):
    """A module that maps ids ``[B, L]`` to logits ``[B, L, V]``, without separate hidden states.

    Args:
        net: with ``num_tokens``, unless given, and ``max_seq_len``.
        num_tokens: vocabulary size; None = that of ``net``.
    """

    width = embedding_width = None

    def __init__(self, net: Any, num_tokens: int | None = None) -> None:
        super().__init__()
        self.net = net
        self.num_tokens: int = net.num_tokens if num_tokens is None else num_tokens
        self.max_length: int | None = getattr(net, "max_seq_len", None)
        self._used = False

    def _first_use(self, x_t: Tensor) -> None:
        if not self._used:
            self._used = True
            if is_causal(self.net, x_t, self.num_tokens):
                warn_causal(type(self.net).__name__, "Use a network without a causal mask.")

    def forward(
        self,
        x_t: Tensor,
        attention_mask: Any = None,
        positions: Any = None,
        block_mask: Any = None,
        segment_ids: Any = None,
    ) -> Tensor:
        """Return logits ``[B, L, V]``."""
        self._first_use(x_t)
        return run_unpadded(lambda ids, added: self.net(ids), x_t, attention_mask, positions, block_mask, segment_ids)

    def hidden_states(
        self,
        x_t: Tensor,
        attention_mask: Any = None,
        positions: Any = None,
        block_mask: Any = None,
        segment_ids: Any = None,
        sum_embeds: Tensor | None = None,
    ) -> Tensor:
        """Return the logits, which serve as hidden states."""
        assert sum_embeds is None
        logits: Tensor = self(x_t, attention_mask, positions, block_mask, segment_ids)
        return logits

    def logits_at(self, hidden: Tensor, where: Tensor) -> Tensor:
        """Return logits at the True positions, row-major."""
        return hidden[where]


def as_network(net: Any) -> Any:
    """Return a network with the interface described in the module, adapting third-party models.

    Raises:
        ValueError: the network is of no known kind.
    """
    if isinstance(net, RotaryTransformerMLMModel | HuggingFaceMLM | XTransformerMLM | PlainNetwork):
        return net
    if hasattr(net, "attn_layers") and hasattr(net, "to_logits"):
        return XTransformerMLM(net)
    if hasattr(net, "base_model") and hasattr(net, "config"):
        return HuggingFaceMLM(net)
    if callable(net) and hasattr(net, "num_tokens"):
        return PlainNetwork(net)
    raise ValueError(
        f"A {type(net).__name__} is not a supported network. Give a RotaryTransformerMLMModel, a Hugging Face model for masked LM, a "
        "TransformerWrapper of x-transformers, or a module with num_tokens and max_seq_len whose call maps ids [B, L] to logits [B, L, V]."
    )
