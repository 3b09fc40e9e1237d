"""Contracts of the package: batches, results, and the interfaces of models and losses.

A corruption describes a batch with four tensors, the only ones that losses, evaluators and decoders read:

    input_ids    noisy tokens, the input of the model
    target_ids   clean tokens (-100 where there is nothing to predict)
    noise_mask   scored positions
    p_mask       probability of each position to be masked; 0 = not maskable

Shapes: ``B`` batch, ``L`` sequence, ``V`` vocabulary, ``D`` width. In attention masks ``True`` = may be attended.
Losses do not modify batches. Annotations are evaluated here, not postponed: otherwise ``__required_keys__`` would
include the optional fields.
"""

from typing import Any, Literal, NamedTuple, NotRequired, Protocol, TypedDict, TypeGuard, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.special_ids import SpecialIds as SpecialIds

IGNORED_TARGET = -100

TokenIds = Int[Tensor, "batch seq"]
TokenMask = Bool[Tensor, "batch seq"]
Confidence = Literal["prob_diff", "entropy", "top_prob"]
Truncate = Literal["block", "max"]


class MLMBatch(TypedDict):
    """A batch from a collator, for the model and the loss; every tensor ``[B, L]``.

    Attributes:
        input_ids: int64, noisy tokens.
        target_ids: int64, clean tokens; -100 = nothing to predict.
        attention_mask: bool, True = real token; absent = all are real.
        positions: int64, rotary positions.
        segment_ids: int64, documents of packed rows.
        block_mask: a FlexAttention ``BlockMask``.
        fixed_positions_mask: bool, True = never masked or changed.
        noise_mask: bool, True = scored.
        p_mask: float32, probability to be masked; 0 = not maskable.

    Example:
        >>> import torch
        >>> batch: MLMBatch = {"input_ids": torch.tensor([[5, 0]]), "target_ids": torch.tensor([[5, 6]])}
        >>> sorted(MLMBatch.__required_keys__)
        ['input_ids', 'target_ids']
    """

    input_ids: TokenIds
    target_ids: TokenIds
    attention_mask: NotRequired[TokenMask]
    positions: NotRequired[TokenIds]
    segment_ids: NotRequired[TokenIds]
    block_mask: NotRequired[Any]
    fixed_positions_mask: NotRequired[TokenMask]
    noise_mask: NotRequired[TokenMask]
    p_mask: NotRequired[Float[Tensor, "batch seq"]]


class PackedFlexMLMBatch(TypedDict):
    """Packed rows: several documents per row, numbered by ``segment_ids``; fields as of :class:`MLMBatch`.

    Example:
        >>> sorted(PackedFlexMLMBatch.__required_keys__)
        ['input_ids', 'positions', 'segment_ids', 'target_ids']
    """

    input_ids: TokenIds
    target_ids: TokenIds
    positions: TokenIds
    segment_ids: TokenIds
    noise_mask: NotRequired[TokenMask]
    p_mask: NotRequired[Float[Tensor, "batch seq"]]


class MLMSeq2SeqPredictionBatch(TypedDict):
    """Left-padded prompts ``[B, P]`` to continue, and the true continuations ``target_ids`` where known.

    Example:
        >>> sorted(MLMSeq2SeqPredictionBatch.__required_keys__)
        ['attention_mask', 'input_ids']
    """

    input_ids: TokenIds
    attention_mask: TokenMask
    target_ids: NotRequired[TokenIds]


class MLMUncondtionalPredictionBatch(TypedDict):
    """Rows to fill without a prompt; ``input_ids`` ``[B, L]`` are all masks, or masks between BOS and EOS.

    Spelling given by the documented interface; ``MLMUnconditionalPredictionBatch`` is the same class.

    Example:
        >>> MLMUnconditionalPredictionBatch is MLMUncondtionalPredictionBatch
        True
    """

    input_ids: TokenIds
    attention_mask: TokenMask
    positions: NotRequired[TokenIds]
    fixed_positions_mask: NotRequired[TokenMask]


MLMUnconditionalPredictionBatch = MLMUncondtionalPredictionBatch


class MLMLossDict(TypedDict):
    """``loss`` = ``numerator / denominator``, in nats; scalars, float32 or wider.

    Ranks and accumulation steps sum the parts before the division. ``variance`` is the sampling variance of the loss,
    with rows as i.i.d. draws.

    Example:
        >>> sorted(MLMLossDict.__required_keys__)
        ['loss']
    """

    loss: Float[Tensor, ""]
    numerator: NotRequired[Float[Tensor, ""]]
    denominator: NotRequired[Float[Tensor, ""]]
    variance: NotRequired[Float[Tensor, ""]]


class MLMPredictionDict(TypedDict):
    """A decoded batch.

    Attributes:
        loss: None; the key is part of the interface.
        text: decoded text of each row.
        ids: int64 ``[B, L]``.
        time_taken: seconds per row.
        output_start_idx: int64 ``[B]``, index of the first generated token.
        steps_taken: forward passes of the network per row.

    Example:
        >>> sorted(MLMPredictionDict.__required_keys__)[:3]
        ['ids', 'loss', 'output_start_idx']
    """

    loss: None
    text: list[str]
    ids: TokenIds
    time_taken: list[float]
    output_start_idx: Int[Tensor, " batch"]
    steps_taken: list[int]


class MLMStepResults(TypedDict):
    """One step of the decoding loop, for observers.

    Row tensors are ``[b, L]`` over the ``b`` rows of this step; ``log_probs`` has one row per True of ``scored``, in
    row-major order.

    Attributes:
        step: index of the step, from 0.
        rows: index of each row in the input batch.
        input_ids: the canvas before the step, the input of the network.
        output_ids, x: the canvas after the step (``x`` is the name documented by ``MLMPredictor.decode``).
        candidates: masked positions that could be unmasked.
        committed: positions unmasked, and those closed because an EOS before them ends the text.
        hidden: unmasked positions that were masked again (remasking).
        scored: positions with logits: the candidates, or only the committed ones if nothing else reads logits.
        log_probs: over the allowed ids (``-inf`` at others), before temperature and filters.
        confidence: score of the position order at the candidates; NaN elsewhere.
        probability: of the chosen token at committed positions (1 where closed); NaN elsewhere.

    Example:
        >>> "committed" in MLMStepResults.__required_keys__
        True
    """

    step: int
    rows: Int[Tensor, " rows"]
    input_ids: Int[Tensor, "rows seq"]
    output_ids: Int[Tensor, "rows seq"]
    x: Int[Tensor, "rows seq"]
    candidates: Bool[Tensor, "rows seq"]
    committed: Bool[Tensor, "rows seq"]
    hidden: Bool[Tensor, "rows seq"]
    scored: Bool[Tensor, "rows seq"]
    log_probs: Float[Tensor, "scored vocab"]
    confidence: Float[Tensor, "rows seq"]
    probability: Float[Tensor, "rows seq"]


class Corrupted(NamedTuple):
    """The result of a corruption, every tensor ``[B, L]``.

    Attributes:
        noisy_input_ids: int64, with ``[MASK]`` or other tokens at the selected positions.
        noise_mask: bool, True = selected, and scored by the loss.
        p_mask: float32, probability to be masked.

    Example:
        >>> import torch
        >>> from unmask.ops.corrupt import corrupt_all_masked
        >>> corrupt_all_masked(torch.tensor([[5, 6]]), torch.ones(1, 2), mask_token_id=0).p_mask
        tensor([[1., 1.]])
    """

    noisy_input_ids: TokenIds
    noise_mask: TokenMask
    p_mask: Float[Tensor, "batch seq"]


class ScoredTokens(NamedTuple):
    """The scored positions of a batch, in row-major order, with the model's losses.

    Attributes:
        where: bool ``[B, L]``, the scored positions.
        nll: ``[N]``, negative log-likelihood in nats.
        correct: bool ``[N]``, whether the most likely token is the target.
        weights: ``[N]``, loss weights.
        token_loss: ``[N]``, the minimised loss: ``nll`` plus regularisers.
    """

    where: Bool[Tensor, "batch seq"]
    nll: Float[Tensor, " scored"]
    correct: Bool[Tensor, " scored"]
    weights: Float[Tensor, " scored"]
    token_loss: Float[Tensor, " scored"]


@runtime_checkable
class Objective(Protocol):
    """The interface of a loss for the training loop (``MLMLoss``, ``WrapperObjective``)."""

    def __call__(self, batch: Any, model: Any) -> MLMLossDict:
        """Return the loss of a batch with its parts ``numerator``, ``denominator`` and ``variance``."""
        ...

    def score(self, batch: Any, model: Any) -> ScoredTokens:
        """Return the losses of every scored position, for validation."""
        ...

    def combine(self, batch: Any, tokens: ScoredTokens) -> MLMLossDict:
        """Return the loss from the result of :meth:`score` on the same batch."""
        ...

    def locate(self, batch: Any, model: Any, multiple: int) -> Any:
        """Return the batch with ``scored_index``, computed on the host to avoid a device sync."""
        ...


@runtime_checkable
class MLMModel(Protocol):
    """The interface of a network for losses and decoders: token ids in, ``logits [B, L, V]`` out.

    Test for the further interfaces below with their ``offers_...`` functions, which also see through proxies
    (``isinstance`` does not from Python 3.12 on).

    Example:
        >>> import torch
        >>> class Uniform:
        ...     def __call__(self, x_t, attention_mask=None, positions=None, block_mask=None):
        ...         return torch.zeros(*x_t.shape, 10)
        >>> isinstance(Uniform(), MLMModel), offers_hidden_states(Uniform())
        (True, False)
    """

    def __call__(
        self,
        x_t: TokenIds,
        attention_mask: TokenMask | None = None,
        positions: TokenIds | None = None,
        block_mask: Any = None,
    ) -> Float[Tensor, "batch seq vocab"]: ...


class HiddenStates(MLMModel, Protocol):
    """A network in two parts: an encoder, and a vocabulary projection computed only at the positions that are read."""

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
    """A network that computes less if only some positions are read."""

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
    """A network with access to its vocabulary projection, for a fused linear cross-entropy."""

    def projection_of(
        self, states: Float[Tensor, "scored width"]
    ) -> tuple[Float[Tensor, "scored width"], Float[Tensor, "vocab width"], Float[Tensor, " vocab"] | None]:
        """Return features ``[N, D]``, weight ``[V, D]`` and bias ``[V]``; logits are ``features @ weight.T + bias``."""
        ...


class KVCacheable(HiddenStates, Protocol):
    """A network that runs some positions of a row against cached keys and values of the others."""

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


def offers_kv_cache(model: object) -> TypeGuard[KVCacheable]:
    """Return whether a network implements :class:`KVCacheable`."""
    return hasattr(model, "hidden_states_at") and hasattr(model, "logits_at")
