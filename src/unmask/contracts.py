"""Contracts of the package: batches, results, and the interface of losses; ``network_protocols`` has those of networks.

A corruption describes a batch with four tensors, the only ones that losses, evaluators and decoders read:

    input_ids    noisy tokens, the input of the model
    target_ids   clean tokens (-100 where there is nothing to predict)
    noise_mask   scored positions
    p_mask       probability of each position to be masked; 0 = not maskable

Shapes: ``B`` batch, ``L`` sequence, ``V`` vocabulary, ``D`` width. In attention masks ``True`` = may be attended.
Losses do not modify batches. Annotations are evaluated here, not postponed: otherwise ``__required_keys__`` would
include the optional fields.
"""

from typing import Any, Literal, NamedTuple, NotRequired, Protocol, TypedDict, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.network_protocols import HiddenStates as HiddenStates
from unmask.network_protocols import KVCacheable as KVCacheable
from unmask.network_protocols import MLMModel as MLMModel
from unmask.network_protocols import PartialStates as PartialStates
from unmask.network_protocols import Projection as Projection
from unmask.network_protocols import TokenIds, TokenMask
from unmask.network_protocols import is_autoregressive as is_autoregressive
from unmask.network_protocols import offers_hidden_states as offers_hidden_states
from unmask.network_protocols import offers_kv_cache as offers_kv_cache
from unmask.network_protocols import offers_partial_states as offers_partial_states
from unmask.network_protocols import offers_projection as offers_projection
from unmask.special_ids import SpecialIds as SpecialIds

IGNORED_TARGET = -100

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
        x_0: int64, clean tokens, to which later blocks of a block-causal network attend (block diffusion).
        fixed_positions_mask: bool, True = never masked or changed.
        noise_mask: bool, True = scored.
        p_mask: float32, probability to be masked; 0 = not maskable.

    Examples:
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
    x_0: NotRequired[TokenIds]
    fixed_positions_mask: NotRequired[TokenMask]
    noise_mask: NotRequired[TokenMask]
    p_mask: NotRequired[Float[Tensor, "batch seq"]]


class PackedFlexMLMBatch(TypedDict):
    """Packed rows: several documents per row, numbered by ``segment_ids``; fields as of :class:`MLMBatch`.

    Examples:
        >>> sorted(PackedFlexMLMBatch.__required_keys__)
        ['input_ids', 'positions', 'segment_ids', 'target_ids']
    """

    input_ids: TokenIds
    target_ids: TokenIds
    positions: TokenIds
    segment_ids: TokenIds
    x_0: NotRequired[TokenIds]
    noise_mask: NotRequired[TokenMask]
    p_mask: NotRequired[Float[Tensor, "batch seq"]]


class MLMSeq2SeqPredictionBatch(TypedDict):
    """Left-padded prompts ``[B, P]`` to continue, and the true continuations ``target_ids`` where known.

    Examples:
        >>> sorted(MLMSeq2SeqPredictionBatch.__required_keys__)
        ['attention_mask', 'input_ids']
    """

    input_ids: TokenIds
    attention_mask: TokenMask
    target_ids: NotRequired[TokenIds]


class MLMUncondtionalPredictionBatch(TypedDict):
    """Rows to fill without a prompt; ``input_ids`` ``[B, L]`` are all masks, or masks between BOS and EOS.

    Spelling given by the documented interface; ``MLMUnconditionalPredictionBatch`` is the same class.

    Examples:
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

    Examples:
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

    Examples:
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

    Examples:
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

    Examples:
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

    Examples:
        >>> import torch
        >>> ids, masked = torch.tensor([[5, 0, 7]]), torch.tensor([[False, True, False]])
        >>> targets, p_mask = torch.tensor([[5, 6, 7]]), torch.full((1, 3), 0.5)
        >>> batch = {"input_ids": ids, "target_ids": targets, "noise_mask": masked, "p_mask": p_mask}
        >>> tokens = MLMLoss().score(batch, lambda x_t, **_: torch.zeros(*x_t.shape, 10))
        >>> tokens.where.tolist(), round(tokens.nll.item(), 4), tokens.weights.item()  # log(10)
        ([[False, True, False]], 2.3026, 1.0)
    """

    where: Bool[Tensor, "batch seq"]
    nll: Float[Tensor, " scored"]
    correct: Bool[Tensor, " scored"]
    weights: Float[Tensor, " scored"]
    token_loss: Float[Tensor, " scored"]


@runtime_checkable
class Objective(Protocol):
    """The interface of a loss for the training loop (``MLMLoss``, ``WrapperObjective``).

    Examples:
        >>> isinstance(MLMLoss(), Objective)
        True
    """

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
