"""The contracts every floor speaks: batches, results, special ids, models.

A corruption says four things about a batch, and every loss, evaluator and decoder reads only those:

    input_ids    what the model sees
    target_ids   what was there (-100 where there is nothing to predict)
    noise_mask   which positions are scored
    p_mask       with which probability each position was hidden; 0 = it could not be

Shapes: ``B`` batch, ``L`` sequence, ``V`` vocabulary, ``D`` width. ``True`` = valid in every mask that says
what may be attended. A batch that reaches a loss is never mutated.

Annotations are evaluated here, not postponed: only then does ``MLMBatch.__required_keys__`` leave out the optional fields.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, NotRequired, Protocol, Self, TypedDict, TypeGuard, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

IGNORED_TARGET = -100

TokenIds = Int[Tensor, "batch seq"]
TokenMask = Bool[Tensor, "batch seq"]
Confidence = Literal["prob_diff", "entropy", "top_prob"]
Truncate = Literal["block", "max"]


class MLMBatch(TypedDict):
    """What a collator hands to the model and the loss; every tensor ``[B, L]``."""

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
    """Packed rows: several documents a row, told apart by ``segment_ids``; every tensor ``[B, L]``."""

    input_ids: TokenIds
    target_ids: TokenIds
    positions: TokenIds
    segment_ids: TokenIds
    noise_mask: NotRequired[TokenMask]
    p_mask: NotRequired[Float[Tensor, "batch seq"]]


class MLMSeq2SeqPredictionBatch(TypedDict):
    """Left-padded prefixes ``[B, P]`` to continue, with the true suffix when it is known."""

    input_ids: TokenIds
    attention_mask: TokenMask
    target_ids: NotRequired[TokenIds]


class MLMUncondtionalPredictionBatch(TypedDict):
    """Rows to fill from nothing; ``input_ids`` ``[B, L]`` are all masks (or masks between BOS and EOS)."""

    input_ids: TokenIds
    attention_mask: TokenMask
    positions: NotRequired[TokenIds]
    fixed_positions_mask: NotRequired[TokenMask]


MLMUnconditionalPredictionBatch = MLMUncondtionalPredictionBatch


class MLMLossDict(TypedDict):
    """``loss`` = ``numerator / denominator``; the parts are kept so that ranks and accumulation steps can be
    summed before dividing. ``variance`` is that of the loss as an estimate: its rows might have been others."""

    loss: Float[Tensor, ""]
    numerator: NotRequired[Float[Tensor, ""]]
    denominator: NotRequired[Float[Tensor, ""]]
    variance: NotRequired[Float[Tensor, ""]]


class MLMPredictionDict(TypedDict):
    """The decoded batch. ``steps_taken`` counts network evaluations per sample."""

    loss: None
    text: list[str]
    ids: TokenIds
    time_taken: list[float]
    output_start_idx: Int[Tensor, " batch"]
    steps_taken: list[int]


class MLMStepResults(TypedDict):
    """One step of the decoding loop, as observers see it. Row tensors are ``[b, L]`` over the ``b`` rows that took part;
    ``log_probs`` has one row per True of ``scored``, in row-major order.

    step: number of the step, from 0.
    rows: index of each row in the caller's batch.
    input_ids: the canvas before the step, as the network saw it.
    output_ids: the canvas after it.
    x: the same tensor, by the name that ``MLMPredictor.decode`` documents.
    candidates: the blanks that could have been revealed.
    committed: those that were, and those closed because an EOS ends the text before them.
    hidden: revealed positions that became blank again (none unless the rules revise).
    scored: where logits were computed: the candidates, or only the committed where nothing else reads them.
    log_probs: over the ids that may be placed (others ``-inf``), before temperature and filters.
    confidence: what the choice of places was made by, at the candidates; NaN elsewhere.
    probability: of the token placed, at the committed positions (1 where closed); NaN elsewhere.
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
    """A corruption's answer: what the model sees, what is scored, and how probable the hiding was."""

    noisy_input_ids: TokenIds
    noise_mask: TokenMask
    p_mask: Float[Tensor, "batch seq"]


class ScoredTokens(NamedTuple):
    """The scored positions of a batch, in row-major order, and what the model said of them.

    ``nll`` is the plain negative log-likelihood; ``cost`` is what training minimises, the same but for regularisers.
    """

    where: Bool[Tensor, "batch seq"]
    nll: Float[Tensor, " scored"]
    correct: Bool[Tensor, " scored"]
    weights: Float[Tensor, " scored"]
    token_loss: Float[Tensor, " scored"]


@runtime_checkable
class Objective(Protocol):
    """All that the training loop needs of a loss (``MLMLoss``, ``WrapperObjective``)."""

    def __call__(self, batch: Any, model: Any) -> MLMLossDict:
        """The loss of a batch, with its parts: ``loss``, ``numerator``, ``denominator`` and ``variance``."""
        ...

    def score(self, batch: Any, model: Any) -> ScoredTokens:
        """What the model makes of every scored position, for validation."""
        ...

    def combine(self, batch: Any, tokens: ScoredTokens) -> MLMLossDict:
        """The loss from what :meth:`score` found in the same batch."""
        ...

    def locate(self, batch: Any, model: Any, multiple: int) -> Any:
        """The batch with ``scored_index``, found on the host before it goes to an accelerator."""
        ...


@runtime_checkable
class MLMModel(Protocol):
    """All that a loss or a decoder needs of a network: token ids in, ``logits [B, L, V]`` out.

    A network may offer more, see :class:`HiddenStates`, :class:`PartialStates`, :class:`Projection` and :class:`KVCacheable`. Use the
    ``offers_…`` function of each to find out: it also sees through a proxy, which ``isinstance`` does not from Python 3.12 on.
    """

    def __call__(
        self,
        x_t: TokenIds,
        attention_mask: TokenMask | None = None,
        positions: TokenIds | None = None,
        block_mask: Any = None,
    ) -> Float[Tensor, "batch seq vocab"]: ...


class HiddenStates(MLMModel, Protocol):
    """A network in two parts: an encoder, and a projection onto the vocabulary that is paid only where it is read."""

    def hidden_states(
        self,
        x_t: TokenIds,
        attention_mask: TokenMask | None = None,
        positions: TokenIds | None = None,
        block_mask: Any = None,
    ) -> Float[Tensor, "batch seq width"]:
        """The encoder's output, ``[B, L, D]``."""
        ...

    def logits_at(self, hidden: Float[Tensor, "batch seq width"], where: TokenMask) -> Float[Tensor, "scored vocab"]:
        """Logits ``[N, V]`` of the states at the ``N`` True positions of ``where``, in row-major order."""
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
        """The states ``[N, D]`` at a flat index ``[N]`` into the ``B * L`` positions."""
        ...


class Projection(HiddenStates, Protocol):
    """A network that hands out its vocabulary projection, so that a loss need never hold all logits (fused linear cross-entropy)."""

    def projection_of(
        self, states: Float[Tensor, "scored width"]
    ) -> tuple[Float[Tensor, "scored width"], Float[Tensor, "vocab width"], Float[Tensor, " vocab"] | None]:
        """Features ``[N, D]``, weight ``[V, D]`` and bias ``[V]`` or None; ``features @ weight.T + bias`` are the logits."""
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
        """Run ``where``, store its keys and values in ``memory`` (a ``KVCache``), return the states at ``read``."""
        ...


def offers_hidden_states(model: object) -> TypeGuard[HiddenStates]:
    """Tell whether a network is a :class:`HiddenStates`."""
    return hasattr(model, "hidden_states") and hasattr(model, "logits_at")


def offers_partial_states(model: object) -> TypeGuard[PartialStates]:
    """Tell whether a network is a :class:`PartialStates`."""
    return offers_hidden_states(model) and hasattr(model, "hidden_states_where")


def offers_projection(model: object) -> TypeGuard[Projection]:
    """Tell whether a network is a :class:`Projection`."""
    return hasattr(model, "hidden_states") and hasattr(model, "projection_of")


def offers_kv_cache(model: object) -> TypeGuard[KVCacheable]:
    """Tell whether a network is a :class:`KVCacheable`."""
    return hasattr(model, "hidden_states_at") and hasattr(model, "logits_at")


@dataclass(frozen=True)
class SpecialIds:
    """The ids of a tokenizer that are not text. ``mask`` is required; the others may be absent.

    Attributes:
        mask: id of ``[MASK]``.
        pad, bos, eos: their ids, or None.
        others: further special ids (unknown, separators, chat markers).
        vocab_size: number of ids the model must be able to embed.
    """

    mask: int
    vocab_size: int
    pad: int | None = None
    bos: int | None = None
    eos: int | None = None
    others: tuple[int, ...] = ()

    @property
    def all(self) -> tuple[int, ...]:
        """Every special id, ascending."""
        named = {i for i in (self.mask, self.pad, self.bos, self.eos) if i is not None}
        return tuple(sorted(named | set(self.others)))

    @classmethod
    def of(cls, tokenizer: Any) -> Self:
        """Read the ids off anything with Hugging Face's tokenizer attributes.

        BOS falls back to CLS and EOS to SEP, as BERT-style tokenizers have it.

        Raises:
            ValueError: the tokenizer has no mask token.
        """
        if isinstance(tokenizer, cls):
            return tokenizer
        mask = getattr(tokenizer, "mask_token_id", None)
        if mask is None:
            raise ValueError(
                f"The tokenizer ({type(tokenizer).__name__}) has no mask token, and a masked language model cannot "
                "hide anything without one. Add it (with transformers: tokenizer.add_special_tokens({'mask_token': "
                "'[MASK]'})) or train one with `unmask prepare`, whose tokenizers always have it."
            )

        def first(*names: str) -> int | None:
            found = (getattr(tokenizer, name, None) for name in names)
            return next((int(i) for i in found if i is not None), None)

        every: Iterable[int] = getattr(tokenizer, "all_special_ids", None) or ()
        size = len(tokenizer) if hasattr(tokenizer, "__len__") else int(tokenizer.vocab_size)
        named = cls(
            mask=int(mask),
            vocab_size=size,
            pad=first("pad_token_id"),
            bos=first("bos_token_id", "cls_token_id"),
            eos=first("eos_token_id", "sep_token_id"),
        )
        others = tuple(sorted(int(i) for i in set(every) - set(named.all)))
        return cls(named.mask, size, named.pad, named.bos, named.eos, others)

    def require(self, *names: Literal["pad", "bos", "eos"]) -> Self:
        """Return self, or raise ``ValueError`` naming the first special token that is missing."""
        for name in names:
            if getattr(self, name) is None:
                raise ValueError(
                    f"This needs a {name.upper()} token and the tokenizer has none. Add one to the tokenizer, or "
                    f"turn off the option that asks for it (add_bos, add_eos, or padding to unequal lengths)."
                )
        return self
