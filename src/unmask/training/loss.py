"""MLMLoss: ``sum(weight * cross_entropy) / normaliser`` of a batch under a model.

The vocabulary projection runs on scored positions only when the model offers ``hidden_states`` and ``logits_at``, and without
ever holding all their logits when it offers ``projection_of`` too. The sum and the count are kept apart, so that ranks and
accumulation steps can be added before dividing. A batch is never mutated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask.contracts import IGNORED_TARGET, MLMLossDict, ScoredTokens, SpecialIds
from unmask.nn.projection import logits_where, projection_where
from unmask.ops.linear_cross_entropy import linear_cross_entropy
from unmask.ops.weighting import (
    Normaliser,
    Weighting,
    ratio_variance,
    regularised_nll,
    row_counts,
    row_shares,
    token_nll,
    token_weights,
)
from unmask.training.batches import as_mlm_batch as as_mlm_batch
from unmask.training.batches import check_targets


class _Scored(NamedTuple):
    """``place [N]`` of the scored positions among all ``B L`` (0 with weight 0 where there is none), and their weights."""

    where: Bool[Tensor, "batch seq"]
    place: Int[Tensor, " scored"]
    weights: Float[Tensor, " scored"]

    def targets(self, batch: Mapping[str, Any]) -> Int[Tensor, " scored"]:
        """Of each; some id where the index only fills up."""
        targets: Tensor = batch["target_ids"].flatten()[self.place]
        return targets.clamp(min=0)

    @property
    def row(self) -> Int[Tensor, " scored"]:
        """Of each."""
        return self.place // self.where.shape[1]


class MLMLoss:
    """The loss of every objective.

    Args:
        loss_on_padding: score targets that are PAD (needs a tokenizer to be switched off).
        loss_on_visible_tokens: also score positions that were not hidden, with weight 1.
        model: used when a call brings none.
        tokenizer: names the mask and PAD.
        use_num_masked_factor: divide each row by its own number of scored tokens and average the rows: with a count
            uniform on 1..L this is the exact-count likelihood bound per token (docs/theory.md, the likelihood bound).
        weighting: ``"flat"`` (BERT, MaskGIT), ``"inverse_p"`` (LLaDA), a schedule (MDLM, MD4), or a ``DiscreteTime`` (MD4).
        normaliser: ``"scored"``, ``"supervised"``, ``"sequence"`` or ``"answer"`` (see ``unmask.ops.weighting``). None follows the
            weighting: ``"scored"`` for flat weights, ``"supervised"`` for all others, whose weights divide by a probability already.
        label_smoothing, z_loss: regularisers, see ``unmask.ops.weighting.training_cost``; they enter the loss and not
            ``score(...).nll``.

    Example:
        >>> loss = MLMLoss(model=model, tokenizer=tokenizer, weighting="inverse_p")
        >>> loss(batch)["loss"].backward()
    """

    def __init__(
        self,
        loss_on_padding: bool = False,
        loss_on_visible_tokens: bool = False,
        model: Any = None,
        tokenizer: Any = None,
        use_num_masked_factor: bool = False,
        *,
        weighting: Weighting = "flat",
        normaliser: Normaliser | None = None,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
    ) -> None:
        if isinstance(weighting, str) and weighting not in ("flat", "inverse_p"):
            raise ValueError(
                f"weighting={weighting!r} is not known: give 'flat', 'inverse_p' or a schedule of unmask.ops.schedule."
            )
        if normaliser not in (None, "scored", "supervised", "sequence", "answer"):
            raise ValueError(
                f"normaliser={normaliser!r} is not known: give 'scored', 'supervised', 'sequence' or 'answer'."
            )
        if not 0.0 <= label_smoothing < 1.0 or z_loss < 0.0:
            raise ValueError(
                f"label_smoothing={label_smoothing} is a share in [0, 1) and z_loss={z_loss} a factor of at least 0 (1e-4 is "
                "usual): a loss may not reward being wrong."
            )
        if use_num_masked_factor and weighting != "flat":
            raise ValueError(
                "use_num_masked_factor divides each row by its number of hidden tokens, and weighting='inverse_p' (or a "
                "schedule) by their probability: together they would divide twice. Choose one."
            )
        if use_num_masked_factor and normaliser not in (None, "scored"):
            raise ValueError(
                f"use_num_masked_factor averages the rows, each divided by its number of hidden tokens, so normaliser={normaliser!r} would "
                "not be read. Leave one of the two out."
            )
        if weighting != "flat" and normaliser == "scored":
            raise ValueError(
                f"weighting={getattr(weighting, 'name', weighting)!r} divides each hidden token by its probability, and normaliser='scored' the sum "
                "by their number: together they would divide twice. Leave normaliser out (it is then 'supervised'), or give 'sequence' "
                "or 'answer'; for a mean over hidden tokens give weighting='flat'."
            )
        self.loss_on_padding = loss_on_padding
        self.loss_on_visible_tokens = loss_on_visible_tokens
        self.model = model
        self.special = None if tokenizer is None else SpecialIds.of(tokenizer)
        # Where PAD and EOS are one id, padding cannot be told from an answer's end here; the collator's targets decide.
        skip_pad = not loss_on_padding and self.special is not None and self.special.pad != self.special.eos
        self._unscored_id = self.special.pad if skip_pad and self.special is not None else None
        self.use_num_masked_factor = use_num_masked_factor
        self.weighting: Weighting = weighting
        self.normaliser: Normaliser = normaliser or ("scored" if weighting == "flat" else "supervised")
        self.label_smoothing = label_smoothing
        self.z_loss = z_loss

    def __call__(self, batch: Mapping[str, Any], model: Any = None) -> MLMLossDict:
        """The loss of one batch.

        Args:
            batch: an ``MLMBatch``, a ``PackedFlexMLMBatch``, ``MaskedLMCollator``'s ``{"tokens", "mask", "labels"}``, or
                ``{"input_ids", "attention_mask", "labels"}`` of Hugging Face's collators; with ``scored_index`` from :meth:`locate` if the batch is on an accelerator that should not be waited for.
            model: in place of the one given at construction.

        Returns:
            ``loss`` (scalar), with its ``numerator`` and ``denominator``, and its ``variance`` as an estimate over rows. A
            batch with nothing scored gives a zero loss with zero gradient.
        """
        batch, model = as_mlm_batch(batch), self._model(model)
        scored = self._scored(batch, model)
        share, counts = self._shares(batch, scored)
        projected = projection_where(model, batch, scored.place)
        if projected is None:
            tokens = self._read(batch, model, scored)
            weighted = tokens.token_loss * share
            return self._divided(weighted.sum(), weighted, scored, counts)
        wanted = scored.targets(batch)
        check_targets(wanted, len(projected[1]))
        found = linear_cross_entropy(*projected, wanted, share, self.label_smoothing, self.z_loss)
        return self._divided(found.numerator, found.token_loss * share, scored, counts)

    def combine(self, batch: Mapping[str, Any], tokens: ScoredTokens) -> MLMLossDict:
        """Weigh, add and divide what :meth:`score` found, without running the model again."""
        scored = _Scored(tokens.where, tokens.where.flatten().nonzero()[:, 0], tokens.weights)
        share, counts = self._shares(batch, scored)
        weighted = tokens.token_loss * share
        return self._divided(weighted.sum(), weighted, scored, counts)

    def score(self, batch: Mapping[str, Any], model: Any = None) -> ScoredTokens:
        """Negative log-likelihood (nats), correctness and weight of every scored position."""
        batch, model = as_mlm_batch(batch), self._model(model)
        scored = self._scored({k: v for k, v in batch.items() if k != "scored_index"}, model)
        projected = None if torch.is_grad_enabled() else projection_where(model, batch, scored.place)
        if projected is None:
            return self._read(batch, model, scored)
        wanted = scored.targets(batch)
        check_targets(wanted, len(projected[1]))
        found = linear_cross_entropy(*projected, wanted, scored.weights, self.label_smoothing, self.z_loss)
        return ScoredTokens(scored.where, found.nll, found.best == wanted, scored.weights, found.token_loss)

    def locate(self, batch: Mapping[str, Any], model: Any = None, multiple: int = 1) -> dict[str, Any]:
        """The batch with ``scored_index``: where its scored positions are, found before it goes to an accelerator.

        A device that has to say how many positions are scored is waited for. With this index, made on the host, shapes are known
        and nothing is.

        Args:
            batch: on the CPU.
            model: of the mask token's id, if nothing else says it.
            multiple: the index is filled up with -1 to a multiple of this, so that a compiled program meets few shapes.
        """
        batch = as_mlm_batch(batch)
        index = self._where(batch, self.model if model is None else model).flatten().nonzero()[:, 0]
        return {**batch, "scored_index": F.pad(index, (0, -len(index) % multiple), value=-1)}

    def _model(self, model: Any) -> Any:
        model = model if model is not None else self.model
        if model is None:
            raise ValueError("MLMLoss has no model: give one at construction, MLMLoss(model=...), or with the call.")
        return model

    def _where(self, batch: Mapping[str, Any], model: Any) -> Bool[Tensor, "batch seq"]:
        targets: Int[Tensor, "batch seq"] = batch["target_ids"]
        where = targets != IGNORED_TARGET
        if not self.loss_on_visible_tokens:
            where = where & self._hidden(batch, model)
        if self._unscored_id is not None:
            where = where & (targets != self._unscored_id)
        return where

    def _scored(self, batch: Mapping[str, Any], model: Any) -> _Scored:
        where = self._where(batch, model)
        index = batch.get("scored_index")
        if index is None:
            index = where.flatten().nonzero()[:, 0]
            return _Scored(where, index, self._weights(batch, index, self._hidden(batch, model)))
        index, there = index.clamp(min=0), index >= 0
        weights = self._weights(batch, index, self._hidden(batch, model))
        return _Scored(where, index, torch.where(there, weights, 0.0))

    def _shares(
        self, batch: Mapping[str, Any], scored: _Scored
    ) -> tuple[Float[Tensor, " scored"], Float[Tensor, " batch"]]:
        """What each scored position's cost is multiplied by, and how many of the normaliser's units each row holds."""
        where, supervised = scored.where, self._supervised(batch, scored.where)
        if self.use_num_masked_factor:
            shares: Tensor | None = where.sum(-1).clamp(min=1).float()
            counts = where.any(-1).float()
        else:
            shares = row_shares(self.normaliser, supervised)
            counts = row_counts(self.normaliser, where, supervised)
        return scored.weights if shares is None else scored.weights / shares[scored.row], counts

    @staticmethod
    def _divided(numerator: Tensor, weighted: Tensor, scored: _Scored, counts: Tensor) -> MLMLossDict:
        row_sums = weighted.new_zeros(len(counts)).index_add(0, scored.row, weighted.detach())
        return MLMLossDict(
            loss=numerator / counts.sum().clamp(min=1),
            numerator=numerator,
            denominator=counts.sum(),
            variance=ratio_variance(row_sums, counts.to(row_sums)),
        )

    def _read(self, batch: Mapping[str, Any], model: Any, scored: _Scored) -> ScoredTokens:
        """From logits, of any model."""
        logits = logits_where(model, batch, scored.place)
        wanted = scored.targets(batch)
        check_targets(wanted, logits.shape[-1])
        nll = token_nll(logits, wanted)
        token_loss = regularised_nll(logits, nll, self.label_smoothing, self.z_loss)
        return ScoredTokens(scored.where, nll, logits.detach().argmax(-1) == wanted, scored.weights, token_loss)

    def _hidden(self, batch: Mapping[str, Any], model: Any) -> Bool[Tensor, "batch seq"]:
        if batch.get("noise_mask") is not None:
            return batch["noise_mask"]
        mask = self.special.mask if self.special is not None else getattr(model, "mask_idx", None)
        if mask is None:
            raise ValueError(
                "The batch has no noise_mask, so the scored positions are those that hold the mask token, and nothing here "
                "says which id that is. Give MLMLoss(tokenizer=...), or a batch with noise_mask."
            )
        return batch["input_ids"] == mask

    def _weights(self, batch: Mapping[str, Any], index: Tensor, hidden: Tensor) -> Float[Tensor, " scored"]:
        if self.weighting == "flat":
            return torch.ones(len(index), device=index.device)
        if batch.get("p_mask") is None:
            raise ValueError(
                f"weighting={getattr(self.weighting, 'name', self.weighting)!r} needs p_mask, the probability with which each "
                "position was hidden, and this batch has none. Use a collator of unmask, or weighting='flat'."
            )
        hidden = hidden.flatten()[index]
        p = torch.where(hidden, batch["p_mask"].flatten()[index], 1.0)
        return torch.where(hidden, token_weights(self.weighting, p), 1.0)

    def _supervised(self, batch: Mapping[str, Any], where: Tensor) -> Bool[Tensor, "batch seq"]:
        """Positions that could have been scored: eligible for hiding, with a target, and not an unscored PAD."""
        could = batch["target_ids"] != IGNORED_TARGET
        if batch.get("p_mask") is not None and not self.loss_on_visible_tokens:
            could = could & (batch["p_mask"] > 0)
        if self._unscored_id is not None:
            could = could & (batch["target_ids"] != self._unscored_id)
        return could | where
