"""One step of many decodes at once: their rows in one view, so that choosing and sampling cost a few operations for all.

A decode that may share its steps (:func:`sharing_key`) asks for the whole step (:class:`StepRequest`) before it asks for logits. Decodes with the
same key are merged (:func:`merged`), run as rows of one batch, and each is sent its part (:func:`parts`). Rows are independent in every operation
of a step, under any padding, so a part equals the step of the decode alone.

Shapes: ``n`` decodes of one row each; ``[n, L]`` merged, padded on the right to the longest.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from unmask.contracts import SpecialIds
from unmask.decode.canvas import Canvas
from unmask.decode.forwards.plain import PlainForward
from unmask.decode.logits.characters import WholeCharacters
from unmask.decode.logits.constraints import Unconstrained
from unmask.decode.observers.base import CallbackList
from unmask.decode.orders.commit_rules import CumulativeError, EntropyBound, Factor, Threshold, TopK
from unmask.decode.orders.scores import ConfidenceOrder, DrawnProbability, LeftToRight, RandomOrder
from unmask.decode.remasking import NoRemasking
from unmask.decode.rules import Rules
from unmask.decode.view import StepView
from unmask.ops.confidence import LogProbs
from unmask.randomness import Noise

_ROWWISE = (RandomOrder, LeftToRight, ConfidenceOrder, DrawnProbability)
_ROWWISE_RULES = (TopK, Threshold, CumulativeError, Factor, EntropyBound)


class Choice(NamedTuple):
    """The positions and tokens of one step.

    ``log_probs`` are at ``scored``, a superset of ``where``; ``placed`` are those of the sampled tokens. If no rule reads probabilities,
    both are unnormalised logits (equal to log-probabilities up to a per-position constant).
    """

    where: Bool[Tensor, "rows seq"]
    hidden: Bool[Tensor, "rows seq"]
    tokens: Int[Tensor, " chosen"]
    placed: Float[Tensor, " chosen"]
    scored: Bool[Tensor, "rows seq"]
    log_probs: LogProbs
    confidence: Float[Tensor, "rows seq"]


class StepRequest(NamedTuple):
    """A step that a decode would share. It is sent a ``Choice``, or None to take the step by itself.

    Attributes:
        view: the step.
        rules: how to decode.
        special: special ids.
        callbacks: its observers, of which only the kind matters.
        steps: the largest number of steps of the decode.
        key: decodes with equal keys may be merged.
    """

    view: StepView
    rules: Rules
    special: SpecialIds
    callbacks: CallbackList
    steps: int
    key: Hashable


def sharing_key(canvas: Canvas, rules: Rules, special: SpecialIds, callbacks: CallbackList) -> Hashable | None:
    """Return what decodes must have in common to share steps; None for one that may share none.

    Rules with parts that may depend on the index of a row, or keep a state, share none: processors, patterns, functions, critics, remasking, caches.
    """
    alike = (
        len(canvas.ids) == 1
        and type(rules.forward) is PlainForward
        and type(rules.selector.score) in _ROWWISE
        and type(rules.selector.commit_rule) in _ROWWISE_RULES
        and type(rules.constraint) in (Unconstrained, WholeCharacters)
        and type(rules.remasking) is NoRemasking
        and not rules.logits_processors
        and bool(canvas.attention_mask.all())
    )
    if not alike:
        return None
    observed = bool(callbacks), callbacks.wants_all_logits
    return rules.selector, rules.tokens, rules.constraint, rules.allow_eos, special, observed, canvas.ids.device


def merged(views: Sequence[StepView]) -> StepView:
    """Return the rows of several views in one."""
    first = views[0]

    def padded(rows: list[Tensor]) -> Any:
        return pad_sequence(rows, batch_first=True)

    def joined(rows: list[Tensor]) -> Any:
        return torch.cat(rows)

    canvases = [view.canvas for view in views]
    canvas = Canvas(
        padded([canvas.ids[0] for canvas in canvases]),
        padded([canvas.fixed[0] for canvas in canvases]),
        padded([canvas.attention_mask[0] for canvas in canvases]),
        padded([canvas.positions[0] for canvas in canvases]),
        joined([canvas.row_ids for canvas in canvases]),
    )
    counters = [view.noise.counters[0] for view in views if view.noise.counters is not None]
    fractions = [view.fraction_left for view in views if view.fraction_left is not None]
    odds = [view.commit_prob[0] for view in views if view.commit_prob is not None]
    return StepView(
        number=first.number,
        rows=torch.arange(len(views), device=first.ids.device),
        ids=padded([view.ids[0] for view in views]),
        canvas=canvas,
        to_fill=padded([view.to_fill[0] for view in views]),
        blanks=padded([view.blanks[0] for view in views]),
        candidates=padded([view.candidates[0] for view in views]),
        target_count=joined([view.target_count for view in views]),
        commit_prob=padded(odds) if odds else None,
        noise=Noise(joined([view.noise.keys for view in views]), padded(counters)),
        fraction_left=joined(fractions) if fractions else None,
    )


def parts(choice: Choice, lengths: Sequence[int]) -> list[Choice]:
    """Return the part of each decode, of these lengths, in a merged step."""
    chosen = choice.where.sum(-1).tolist()
    scored = choice.scored.sum(-1).tolist() if choice.scored is not choice.where else chosen
    split = zip(
        torch.split(choice.where, 1),
        torch.split(choice.hidden, 1),
        torch.split(choice.tokens, chosen),
        torch.split(choice.placed, chosen),
        torch.split(choice.scored, 1),
        torch.split(choice.log_probs, scored),
        torch.split(choice.confidence, 1),
        lengths,
        strict=True,
    )
    return [
        Choice(where[:, :n], hidden[:, :n], tokens, placed, at[:, :n], logs, confidence[:, :n])
        for where, hidden, tokens, placed, at, logs, confidence, n in split
    ]
