"""THE decoding loop.

Each step, for the rows that still have blanks and for no others:

    where    a score ranks the blanks, an admission takes the best
    what     one draw at each chosen position, from the logits there
    commit   the tokens are placed, the observers told, the finished rows let go

A score that reads no logits ranks before the network runs. Draws are keyed by (seed, row id, step, position from the row's
first real token): a row decodes to the same tokens alone, in any batch, under any padding.

Shapes: ``b`` unfinished rows of ``L`` positions; ``[N, V]`` over scored positions, row-major.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unmask.contracts import MLMStepResults, SpecialIds
from unmask.decode.adjust import OrdinaryIds, as_logits
from unmask.decode.canvas import Canvas
from unmask.decode.observers import Audience, Decoded
from unmask.decode.rules import Rules
from unmask.decode.view import StepView, spread
from unmask.ops.confidence import LogProbs
from unmask.ops.segments import positions_from_mask
from unmask.randomness import Noise, Stream, row_keys


def unmask(
    model: Any,
    canvas: Canvas,
    rules: Rules,
    *,
    special: SpecialIds,
    seed: int | None = None,
    observers: Sequence[Any] = (),
) -> Decoded:
    """Fill every blank of a canvas.

    Args:
        model: an ``MLMModel`` on the canvas's device. It is put in eval mode and left as it was.
        canvas: what is given and what is blank.
        rules: how to decode.
        special: ids that are never placed (EOS excepted, see ``Rules.allow_eos``), the mask among them.
        seed: of all draws; None takes one from torch's global generator.
        observers: told of every step (see ``unmask.decode.observers``).

    Returns:
        The filled canvas and what it cost. A row takes part in at most ``rules.max_steps`` evaluations.

    Raises:
        ValueError: a hook or the special ids leave some position no token that may be placed.
    """
    started = time.perf_counter()
    if seed is None:
        seed = int(torch.randint(2**63 - 1, ()))
    audience = Audience(observers)
    audience.begin(canvas, special)

    wanted = canvas.blanks(special.mask)
    plan = rules.budget.plan(wanted, rules.max_steps, _noise(canvas, seed, 0))
    ids = canvas.ids.clone()
    steps_taken = torch.zeros(len(ids), dtype=torch.int64)
    time_taken = torch.zeros(len(ids), dtype=torch.float64)
    positions_computed = step = 0

    with torch.inference_mode(), evaluating(model):
        rows = wanted.any(-1).nonzero()[:, 0]
        while len(rows):
            live, x = canvas.rows(rows), ids[rows]
            blanks = wanted[rows] & (x == special.mask)
            revealed = wanted[rows].sum(-1) - blanks.sum(-1)
            quota = (plan[rows, step] - revealed).clamp(min=1)
            view = StepView(step, x, live, blanks, quota, _noise(live, seed, step), rows)

            choice = _step(model, view, rules, special, every_candidate=audience.every_candidate)
            x = x.masked_scatter(choice.where, choice.tokens)
            ids[rows] = x
            if audience:
                audience.update_history(_results(view, x, choice))

            step += 1
            positions_computed += int(live.attention_mask.sum())
            unfinished = (blanks & (x == special.mask)).any(-1)
            steps_taken[rows.cpu()] += 1
            time_taken[rows[~unfinished].cpu()] = time.perf_counter() - started
            rows = rows[unfinished]

    assert step <= rules.max_steps, "a budget planned more steps than it may"
    decoded = Decoded(ids, steps_taken, time_taken, step, positions_computed)
    audience.end(decoded)
    return decoded


class _Choice(NamedTuple):
    """Where and what; ``log_probs`` at ``scored``, of which ``where`` is a part."""

    where: Bool[Tensor, "rows seq"]
    tokens: Int[Tensor, " chosen"]
    scored: Bool[Tensor, "rows seq"]
    log_probs: LogProbs
    confidence: Float[Tensor, "rows seq"]


def _step(model: Any, view: StepView, rules: Rules, special: SpecialIds, every_candidate: bool) -> _Choice:
    """Choose the places, then draw the tokens: one network evaluation."""
    selector = rules.selector
    if selector.needs_logits:
        scored = view.candidates
        log_probs = _log_probs(model, view, scored, rules, special)
        where, confidence = selector.choose(view, log_probs)
    else:
        where, confidence = selector.choose(view, None)
        scored = view.candidates if every_candidate else where
        log_probs = _log_probs(model, view, scored, rules, special)
    chosen = log_probs[where[scored]]
    uniforms = view.noise.per_token(Stream.TOKEN, where.shape[1])[where]
    tokens = rules.tokens.draw(chosen, uniforms)
    _refuse_impossible(chosen, tokens, where)
    return _Choice(where, tokens, scored, log_probs, confidence)


def _log_probs(model: Any, view: StepView, where: Bool[Tensor, "rows seq"], rules: Rules, special: SpecialIds) -> LogProbs:
    """Log-probabilities over the ids that may be placed, at ``where``."""
    logits = as_logits(rules.forward(model, view.ids, view.canvas, where))
    for adjust in (*rules.adjustments, OrdinaryIds(special, rules.allow_eos)):
        logits = adjust(logits, view, where)
    return logits.log_softmax(-1)


def _refuse_impossible(log_probs: LogProbs, tokens: Int[Tensor, " chosen"], where: Bool[Tensor, "rows seq"]) -> None:
    placed = log_probs.gather(-1, tokens[:, None])[:, 0]
    impossible = ~(placed > -torch.inf)
    if bool(impossible.any()):
        row, position = where.nonzero()[impossible.nonzero()[0, 0]].tolist()
        raise ValueError(
            f"No token may be placed at position {position} of unfinished row {row}: every id there has a logit of -inf (or "
            "NaN) once the special ids are forbidden. Look at logits_hook and at what the model returns."
        )


def _results(view: StepView, after: Int[Tensor, "rows seq"], choice: _Choice) -> MLMStepResults:
    placed = choice.log_probs[choice.where[choice.scored]].gather(-1, choice.tokens[:, None])[:, 0]
    return MLMStepResults(
        step=view.number,
        rows=view.rows,
        input_ids=view.ids,
        output_ids=after,
        candidates=view.candidates,
        committed=choice.where,
        scored=choice.scored,
        log_probs=choice.log_probs,
        confidence=choice.confidence.masked_fill(~view.candidates, torch.nan),
        probability=spread(placed.exp(), choice.where, torch.nan),
    )


def _noise(canvas: Canvas, seed: int, step: int) -> Noise:
    return Noise(row_keys(seed, step, canvas.row_ids), positions_from_mask(canvas.attention_mask))


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Eval mode inside; every submodule back in its own mode afterwards."""
    training = [m for m in model.modules() if m.training] if isinstance(model, nn.Module) else []
    if isinstance(model, nn.Module):
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
