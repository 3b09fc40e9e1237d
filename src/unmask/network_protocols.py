"""The interfaces of networks for losses and decoders, as protocols, and the functions that test for them.

    MLMModel        ids -> logits at every position
    HiddenStates    an encoder and a vocabulary projection, which runs at the positions that are read
    PartialStates   an encoder that skips work for positions that are not read
    Projection      access to the weights of the projection
    KVCacheable     an encoder with cached keys and values

Shapes: ``B`` batch, ``L`` sequence, ``V`` vocabulary, ``D`` width. In attention masks ``True`` = may be attended.
"""

from typing import Any, Protocol, TypeGuard, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

TokenIds = Int[Tensor, "batch seq"]
TokenMask = Bool[Tensor, "batch seq"]


@runtime_checkable
class MLMModel(Protocol):
    """The interface of a network for losses and decoders: token ids in, ``logits [B, L, V]`` out.

    Test for the further interfaces below with their ``offers_...`` functions, which also see through proxies
    (``isinstance`` does not from Python 3.12 on).

    Examples:
        >>> import torch
        >>> class Uniform:
        ...     def __call__(self, x_t, attention_mask=None, positions=None, block_mask=None):
        ...         return torch.zeros(*x_t.shape, 10)
        >>> isinstance(Uniform(), MLMModel)
        True
    """

    def __call__(
        self,
        x_t: TokenIds,
        attention_mask: TokenMask | None = None,
        positions: TokenIds | None = None,
        block_mask: Any = None,
    ) -> Float[Tensor, "batch seq vocab"]: ...


class HiddenStates(MLMModel, Protocol):
    """A network in two parts: an encoder, and a vocabulary projection computed only at the positions that are read.

    Examples:
        >>> import torch
        >>> class Small(torch.nn.Embedding):
        ...     def hidden_states(self, x_t, attention_mask=None, positions=None, block_mask=None):
        ...         return self.weight[x_t]
        ...     def logits_at(self, hidden, where):
        ...         return hidden[where] @ self.weight.T
        ...     def forward(self, x_t, **inputs):
        ...         return self.hidden_states(x_t, **inputs) @ self.weight.T
        >>> model, ids = Small(10, 4), torch.tensor([[5, 0, 6]])
        >>> logits = model.logits_at(model.hidden_states(ids), ids == 0)
        >>> torch.allclose(logits, model(ids)[ids == 0])
        True
    """

    def hidden_states(
        self,
        x_t: TokenIds,
        attention_mask: TokenMask | None = None,
        positions: TokenIds | None = None,
        block_mask: Any = None,
    ) -> Float[Tensor, "batch seq width"]:
        """Return the encoder's output, ``[B, L, D]``."""
        ...

    def logits_at(self, hidden: Float[Tensor, "batch seq width"], where: TokenMask) -> Float[Tensor, "scored vocab"]:
        """Return logits ``[N, V]`` of the states at the ``N`` True positions of ``where``, in row-major order."""
        ...


class PartialStates(HiddenStates, Protocol):
    """A network that computes less if only some positions are read.

    Examples:
        >>> import torch
        >>> model = RotaryTransformerMLMModel(10, 16, 1, 2, mask_idx=0, padding_idx=1).eval()
        >>> ids, index = torch.tensor([[5, 0, 6], [7, 8, 0]]), torch.tensor([1, 5])
        >>> part = model.hidden_states_where(ids, index)
        >>> torch.allclose(part, model.hidden_states(ids).flatten(0, 1)[index], atol=1e-5)
        True
    """

    def hidden_states_where(
        self,
        x_t: TokenIds,
        index: Int[Tensor, " read"],
        attention_mask: TokenMask | None = None,
        positions: TokenIds | None = None,
        block_mask: Any = None,
    ) -> Float[Tensor, "read width"]:
        """Return the states ``[N, D]`` at a flat index ``[N]`` into the ``B * L`` positions."""
        ...


class Projection(HiddenStates, Protocol):
    """A network with access to its vocabulary projection, for a fused linear cross-entropy.

    Examples:
        >>> import torch
        >>> model = RotaryTransformerMLMModel(10, 16, 1, 2, mask_idx=0, padding_idx=1).eval()
        >>> features, weight, bias = model.projection_of(model.hidden_states(torch.tensor([[5, 0]]))[0])
        >>> features.shape, weight.shape
        (torch.Size([2, 16]), torch.Size([10, 16]))
    """

    def projection_of(
        self, states: Float[Tensor, "scored width"]
    ) -> tuple[Float[Tensor, "scored width"], Float[Tensor, "vocab width"], Float[Tensor, " vocab"] | None]:
        """Return features ``[N, D]``, weight ``[V, D]`` and bias ``[V]``; logits are ``features @ weight.T + bias``."""
        ...


class KVCacheable(HiddenStates, Protocol):
    """A network that runs some positions of a row against cached keys and values of the others.

    Examples:
        >>> import torch
        >>> model = RotaryTransformerMLMModel(10, 16, 1, 2, mask_idx=0, padding_idx=1).eval()
        >>> ids, every = torch.tensor([[5, 0, 6]]), torch.ones(1, 3, dtype=torch.bool)
        >>> cache, rows, positions = KVCache(rows=1), torch.tensor([0]), torch.arange(3)[None]
        >>> states = model.hidden_states_at(ids, every, cache, rows, every, positions)
        >>> masked = model.hidden_states_at(ids, ids == 0, cache, rows, every, positions)
        >>> torch.allclose(masked, states[1:2], atol=1e-5)
        True
    """

    def hidden_states_at(
        self,
        x_t: TokenIds,
        where: TokenMask,
        memory: Any,
        rows: Int[Tensor, " rows"],
        attention_mask: TokenMask,
        positions: TokenIds,
        read: TokenMask | None = None,
    ) -> Float[Tensor, "read width"]:
        """Run ``where``, store its keys and values in ``memory`` (a ``KVCache``), and return the states at ``read``."""
        ...


def offers_hidden_states(model: object) -> TypeGuard[HiddenStates]:
    """Return whether a network implements :class:`HiddenStates`."""
    return hasattr(model, "hidden_states") and hasattr(model, "logits_at")


def offers_partial_states(model: object) -> TypeGuard[PartialStates]:
    """Return whether a network implements :class:`PartialStates`."""
    return offers_hidden_states(model) and hasattr(model, "hidden_states_where")


def offers_projection(model: object) -> TypeGuard[Projection]:
    """Return whether a network implements :class:`Projection`."""
    return hasattr(model, "hidden_states") and hasattr(model, "projection_of")


def is_autoregressive(model: object) -> bool:
    """Return whether the logits at a position are those of its token given the tokens before it alone."""
    return bool(getattr(model, "shift", False)) and getattr(model, "causal_block", None) == 1


def offers_kv_cache(model: object) -> TypeGuard[KVCacheable]:
    """Return whether a network implements :class:`KVCacheable`."""
    return hasattr(model, "hidden_states_at") and hasattr(model, "logits_at")
