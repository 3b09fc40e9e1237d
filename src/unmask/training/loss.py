"""The training loss ``sum(weight * cross_entropy) / normaliser`` of a batch under a model.

Models with ``HiddenStates`` project onto the vocabulary at scored positions only; models with ``Projection`` use a fused linear
cross-entropy that never stores all logits. Sum and count are returned separately, so that ranks and accumulation steps can be
summed before dividing. A batch is never mutated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.contracts import IGNORED_TARGET, MLMLossDict, MLMModel, ScoredTokens, SpecialIds
from unmask.nn.execution import runs_compiled
from unmask.nn.projection import logits_where, projection_where
from unmask.ops.linear_cross_entropy import linear_cross_entropy
from unmask.ops.weighting import (
    WEIGHTINGS,
    Normaliser,
    Weighting,
    ratio_variance,
    regularised_nll,
    row_counts,
    row_shares,
    token_nll,
    token_weights,
)
from unmask.training.batches import as_mlm_batch, check_targets


class _Scored(NamedTuple):
    """The scored positions of a batch.

    Attributes:
        where: mask of the scored positions, ``[B, L]``.
        flat_index: flat index of each into the ``B * L`` positions; padding of the index is 0.
        weights: loss weight of each; 0 at the padding of the index.
    """

    where: Bool[Tensor, "batch seq"]
    flat_index: Int[Tensor, " scored"]
    weights: Float[Tensor, " scored"]

    def targets(self, batch: Mapping[str, Any]) -> Int[Tensor, " scored"]:
        """Return the target id of each position; an arbitrary valid id at the padding of the index."""
        targets: Tensor = batch["target_ids"].flatten()[self.flat_index]
        return targets.clamp(min=0)

    @property
    def row(self) -> Int[Tensor, " scored"]:
        """The row of each position."""
        return self.flat_index // self.where.shape[1]


class MLMLoss:
    """The loss of all objectives: masked diffusion, BERT, MaskGIT and their relatives.

    The weight of a masked token with mask probability ``p`` is 1 (BERT, 1810.04805), ``1/p`` (LLaDA, 2502.09992, eq. 3), or
    ``-alpha'/(1 - alpha)`` of a schedule (MDLM, 2406.07524, eq. 10; MD4, 2406.04329); see docs/theory.md, "Loss weights".

    Args:
        loss_on_padding: also score targets that are PAD.
        loss_on_visible_tokens: also score unmasked positions, with weight 1.
        model: the model of calls without one.
        tokenizer: a tokenizer or ``SpecialIds``; it provides the ids of ``[MASK]`` and PAD.
        use_num_masked_factor: divide each row by its own number of masked tokens and average over rows. With a count uniform
            on 1..L this is the fixed-count likelihood bound per token (docs/theory.md, "The likelihood bound"). The name is
            that of the published interface.

    Other Parameters:
        weighting: a name of ``unmask.ops.weighting.WEIGHTINGS`` (``"flat"``, ``"inverse_p"``), a ``Schedule``, a
            ``DiscreteTime`` (MD4), or a function from mask probabilities ``[N]`` to weights ``[N]``.
        normaliser: divisor of the sum: ``"scored"`` = masked tokens, ``"supervised"`` = maskable tokens, ``"sequence"`` = rows,
            ``"answer"`` = maskable tokens of each row, averaged over rows. None = ``"scored"`` for flat weights, else
            ``"supervised"``.
        label_smoothing: fraction of each target's probability spread evenly over the vocabulary, in [0, 1).
        z_loss: factor of the squared log-partition function of the softmax. Both regularisers are part of the loss, and not of
            ``score(...).nll``.

    Raises:
        ValueError: an unknown option, or a pair of options that would divide by the mask rate twice.

    Examples:
        A model with equal logits has a loss of ``ln V`` nats per token.

        >>> import torch, unmask
        >>> def model(x_t, attention_mask=None, positions=None, block_mask=None):
        ...     return torch.zeros(*x_t.shape, 8)
        >>> batch = {
        ...     "input_ids": torch.tensor([[0, 5, 0, 7]]),
        ...     "target_ids": torch.tensor([[4, 5, 6, 7]]),
        ...     "noise_mask": torch.tensor([[True, False, True, False]]),
        ...     "p_mask": torch.full((1, 4), 0.5),
        ... }
        >>> loss = unmask.MLMLoss(weighting="inverse_p")
        >>> round(float(loss(batch, model)["loss"].exp()), 3)
        8.0
    """

    def __init__(
        self,
        loss_on_padding: bool = False,
        loss_on_visible_tokens: bool = False,
        model: MLMModel | None = None,
        tokenizer: Any = None,
        use_num_masked_factor: bool = False,
        *,
        weighting: Weighting = "flat",
        normaliser: Normaliser | None = None,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
    ) -> None:
        if isinstance(weighting, str) and weighting not in WEIGHTINGS:
            raise ValueError(
                f"weighting={weighting!r} is unknown: choose {', '.join(map(repr, WEIGHTINGS))}, a schedule such as "
                "unmask.as_schedule('cosine'), or a function of the mask probabilities."
            )
        if normaliser not in (None, "scored", "supervised", "sequence", "answer"):
            raise ValueError(
                f"normaliser={normaliser!r} is unknown: choose 'scored', 'supervised', 'sequence' or 'answer'."
            )
        if not 0.0 <= label_smoothing < 1.0 or z_loss < 0.0:
            raise ValueError(
                f"label_smoothing={label_smoothing} must be in [0, 1), and z_loss={z_loss} at least 0 (1e-4 is usual)."
            )
        if use_num_masked_factor and weighting != "flat":
            raise ValueError(
                "use_num_masked_factor divides each row by its number of masked tokens, and weighting='inverse_p' (or a schedule) "
                "divides each token by its mask probability: together they would divide twice. Choose one."
            )
        if use_num_masked_factor and normaliser not in (None, "scored"):
            raise ValueError(
                f"use_num_masked_factor divides each row by its number of masked tokens, so normaliser={normaliser!r} would have no "
                "effect. Leave one of the two out."
            )
        if weighting != "flat" and normaliser == "scored":
            raise ValueError(
                f"weighting={getattr(weighting, 'name', weighting)!r} divides each token by its mask probability, and "
                "normaliser='scored' divides the sum by the number of masked tokens: together they would divide twice. Leave "
                "normaliser out (it is then 'supervised'), or choose 'sequence' or 'answer'; for a mean over masked tokens set "
                "weighting='flat'."
            )
        self.loss_on_padding = loss_on_padding
        self.loss_on_visible_tokens = loss_on_visible_tokens
        self.model = model
        self.special: SpecialIds | None = None if tokenizer is None else SpecialIds.of(tokenizer)
        # If PAD and EOS share an id, padding looks like the end of an answer, so only the targets of the collator decide.
        skip_pad = not loss_on_padding and self.special is not None and self.special.pad != self.special.eos
        self._unscored_id = self.special.pad if skip_pad and self.special is not None else None
        self.use_num_masked_factor = use_num_masked_factor
        self.weighting: Weighting = weighting
        self.normaliser: Normaliser = normaliser or ("scored" if weighting == "flat" else "supervised")
        self.label_smoothing = label_smoothing
        self.z_loss = z_loss

    def __call__(self, batch: Mapping[str, Any], model: MLMModel | None = None) -> MLMLossDict:
        """Return the loss of one batch.

        Args:
            batch: an ``MLMBatch``, a ``PackedFlexMLMBatch``, ``{"tokens", "mask", "labels"}`` of ``MaskedLMCollator``, or
                ``{"input_ids", "attention_mask", "labels"}`` of Hugging Face's collators; all tensors ``[B, L]``. With
                ``scored_index`` from :meth:`locate`, a batch on an accelerator needs no host-device sync.
            model: the model; None = the model given at construction.

        Returns:
            Scalars ``loss`` (nats), ``numerator``, ``denominator``, and ``variance``: the sampling variance of the loss with
            rows as independent draws. A batch without scored positions has loss 0 and gradient 0.

        Raises:
            ValueError: no model, missing fields, or targets outside the vocabulary.
        """
        batch, network = as_mlm_batch(batch), self._model(model)
        scored = self._scored(batch, network)
        factors, counts = self._factors(batch, scored)
        projection = projection_where(network, batch, scored.flat_index)
        if projection is None:
            tokens = self._score_logits(batch, network, scored)
            weighted = tokens.token_loss * factors
            return self._divided(weighted.sum(), weighted, scored, counts)
        targets = scored.targets(batch)
        check_targets(targets, len(projection[1]))
        fused = linear_cross_entropy(
            *projection, targets, factors, self.label_smoothing, self.z_loss, compiled=runs_compiled(network)
        )
        return self._divided(fused.numerator, fused.token_loss * factors, scored, counts)

    def combine(self, batch: Mapping[str, Any], tokens: ScoredTokens) -> MLMLossDict:
        """Return the loss from the token losses of :meth:`score`, without running the model again."""
        scored = _Scored(tokens.where, tokens.where.flatten().nonzero()[:, 0], tokens.weights)
        factors, counts = self._factors(batch, scored)
        weighted = tokens.token_loss * factors
        return self._divided(weighted.sum(), weighted, scored, counts)

    def score(self, batch: Mapping[str, Any], model: MLMModel | None = None) -> ScoredTokens:
        """Return negative log-likelihood (nats), correctness and loss weight of every scored position."""
        batch, network = as_mlm_batch(batch), self._model(model)
        scored = self._scored({k: v for k, v in batch.items() if k != "scored_index"}, network)
        projection = None if torch.is_grad_enabled() else projection_where(network, batch, scored.flat_index)
        if projection is None:
            return self._score_logits(batch, network, scored)
        targets = scored.targets(batch)
        check_targets(targets, len(projection[1]))
        fused = linear_cross_entropy(*projection, targets, scored.weights, self.label_smoothing, self.z_loss)
        return ScoredTokens(scored.where, fused.nll, fused.best == targets, scored.weights, fused.token_loss)

    def locate(self, batch: Mapping[str, Any], model: MLMModel | None = None, multiple: int = 1) -> dict[str, Any]:
        """Return the batch with ``scored_index``, the flat index ``[N]`` of its scored positions.

        Counting scored positions on an accelerator forces a host-device sync. An index computed on the host makes all shapes
        static and avoids the sync.

        Args:
            batch: a batch on the CPU.
            model: source of the mask id, if neither batch nor tokenizer provides it.
            multiple: pad the index with -1 to a multiple of this, so that compiled code has few shapes.
        """
        batch = as_mlm_batch(batch)
        index = self._where(batch, self.model if model is None else model).flatten().nonzero()[:, 0]
        return {**batch, "scored_index": F.pad(index, (0, -len(index) % multiple), value=-1)}

    def _model(self, model: MLMModel | None) -> MLMModel:
        model = model if model is not None else self.model
        if model is None:
            raise ValueError("MLMLoss has no model: pass one at construction, MLMLoss(model=...), or with the call.")
        return model

    def _where(self, batch: Mapping[str, Any], model: MLMModel | None) -> Bool[Tensor, "batch seq"]:
        targets: Int[Tensor, "batch seq"] = batch["target_ids"]
        where = targets != IGNORED_TARGET
        if not self.loss_on_visible_tokens:
            where = where & self._masked(batch, model)
        if self._unscored_id is not None:
            where = where & (targets != self._unscored_id)
        return where

    def _scored(self, batch: Mapping[str, Any], model: MLMModel) -> _Scored:
        where = self._where(batch, model)
        index = batch.get("scored_index")
        if index is None:
            index = where.flatten().nonzero()[:, 0]
            return _Scored(where, index, self._weights(batch, index, self._masked(batch, model)))
        index, is_position = index.clamp(min=0), index >= 0
        weights = self._weights(batch, index, self._masked(batch, model))
        return _Scored(where, index, torch.where(is_position, weights, 0.0))

    def _factors(
        self, batch: Mapping[str, Any], scored: _Scored
    ) -> tuple[Float[Tensor, " scored"], Float[Tensor, " batch"]]:
        """Return the factor of each scored position's loss, and the number of normaliser units of each row."""
        where, supervised = scored.where, self._supervised(batch, scored.where)
        if self.use_num_masked_factor:
            divisors: Tensor | None = where.sum(-1).clamp(min=1).float()
            counts = where.any(-1).float()
        else:
            divisors = row_shares(self.normaliser, supervised)
            counts = row_counts(self.normaliser, where, supervised)
        return scored.weights if divisors is None else scored.weights / divisors[scored.row], counts

    @staticmethod
    def _divided(numerator: Tensor, weighted: Tensor, scored: _Scored, counts: Tensor) -> MLMLossDict:
        row_sums = weighted.new_zeros(len(counts)).index_add(0, scored.row, weighted.detach())
        return MLMLossDict(
            loss=numerator / counts.sum().clamp(min=1),
            numerator=numerator,
            denominator=counts.sum(),
            variance=ratio_variance(row_sums, counts.to(row_sums)),
        )

    def _score_logits(self, batch: Mapping[str, Any], model: MLMModel, scored: _Scored) -> ScoredTokens:
        """Score from logits, which every model provides."""
        logits = logits_where(model, batch, scored.flat_index)
        targets = scored.targets(batch)
        check_targets(targets, logits.shape[-1])
        nll = token_nll(logits, targets)
        token_loss = regularised_nll(logits, nll, self.label_smoothing, self.z_loss)
        return ScoredTokens(scored.where, nll, logits.detach().argmax(-1) == targets, scored.weights, token_loss)

    def _masked(self, batch: Mapping[str, Any], model: MLMModel | None) -> Bool[Tensor, "batch seq"]:
        """Return the mask of the masked positions: ``noise_mask``, or the positions that hold ``[MASK]``."""
        noise_mask: Tensor | None = batch.get("noise_mask")
        if noise_mask is not None:
            return noise_mask
        mask = self.special.mask if self.special is not None else getattr(model, "mask_idx", None)
        if mask is None:
            raise ValueError(
                "The batch has no noise_mask, so the positions that hold the mask token are scored, and the id of the mask token is "
                "unknown. Pass MLMLoss(tokenizer=...), or a batch with noise_mask."
            )
        ids: Tensor = batch["input_ids"]
        return ids == mask

    def _weights(self, batch: Mapping[str, Any], index: Tensor, masked: Tensor) -> Float[Tensor, " scored"]:
        if self.weighting == "flat":
            return torch.ones(len(index), device=index.device)
        if batch.get("p_mask") is None:
            raise ValueError(
                f"weighting={getattr(self.weighting, 'name', self.weighting)!r} needs p_mask, the mask probability of each position, "
                "and this batch has none. Use a collator of unmask, or weighting='flat'."
            )
        masked = masked.flatten()[index]
        p = torch.where(masked, batch["p_mask"].flatten()[index], 1.0)
        return torch.where(masked, token_weights(self.weighting, p), 1.0)

    def _supervised(self, batch: Mapping[str, Any], where: Tensor) -> Bool[Tensor, "batch seq"]:
        """Return the maskable positions: mask probability above 0, with a target, and not an unscored PAD."""
        targets: Tensor = batch["target_ids"]
        maskable = targets != IGNORED_TARGET
        if batch.get("p_mask") is not None and not self.loss_on_visible_tokens:
            maskable = maskable & (batch["p_mask"] > 0)
        if self._unscored_id is not None:
            maskable = maskable & (targets != self._unscored_id)
        return maskable | where
