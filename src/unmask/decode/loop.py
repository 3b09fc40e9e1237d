"""THE decoding loop.

Each step, for the rows that still have blanks and for no others:

    where    a score ranks the blanks, an admission takes the best, a revision hides some of the revealed
    what     one draw at each chosen position, from the logits there
    commit   the tokens are placed, the observers told, the finished rows let go

A score that reads no logits ranks before the network runs, and where nobody reads probabilities no softmax does. Draws are keyed by (seed, row id, step, position from the row's
first real token): a row decodes to the same tokens alone, in any batch, under any padding.

Shapes: ``b`` unfinished rows of ``L`` positions; ``[N, V]`` over scored positions, row-major.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask import allocator
from unmask.contracts import MLMStepResults, SpecialIds
from unmask.decode.block_schedule import BlockSchedule
from unmask.decode.budget import Plan
from unmask.decode.canvas import Canvas
from unmask.decode.forwards.plain import ForwardSession
from unmask.decode.logits.processors import AllowedIds, as_logits
from unmask.decode.observers.base import CallbackList, Decoded
from unmask.decode.orders.scores import Draft
from unmask.decode.reach import reached
from unmask.decode.rules import Rules
from unmask.decode.view import StepView, spread
from unmask.devices import has_float64
from unmask.nn.linear import prepack_weights
from unmask.nn.modes import eval_mode
from unmask.ops.confidence import LogProbs
from unmask.ops.sampling import Logits
from unmask.ops.segments import positions_from_mask
from unmask.randomness import Noise, Stream, row_keys

_MANY_STEPS = 8  # that pay for laying out the weights


def fill_canvas(
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
        observers: told of every step (see ``unmask.decode.observers.base``).

    Returns:
        The filled canvas and what it cost. A row takes part in at most ``rules.max_steps`` evaluations.

    Raises:
        ValueError: a hook or the special ids leave some position no token that may be placed.
    """
    started = time.perf_counter()
    if seed is None:
        seed = int(torch.randint(2**63 - 1, ()))
    home = canvas.ids.device
    if not has_float64(home):
        canvas = canvas.to(torch.device("cpu"))
    asked = reached(model, canvas.ids.device)
    audience = CallbackList(observers)
    audience.begin(canvas, special)
    if not bool(canvas.blanks(special.mask).any()):
        return _nothing_to_do(canvas, audience)

    session = rules.forward.start(len(canvas.ids), rules.block_schedule)
    state = _State.start(canvas, rules, special, seed)
    steps_taken = torch.zeros(len(canvas.ids), dtype=torch.int64)
    time_taken = torch.zeros(len(canvas.ids), dtype=torch.float64)
    forward_passes = positions_computed = 0

    many = state.plan.shape[1] >= _MANY_STEPS
    with torch.inference_mode(), eval_mode(model), prepack_weights(model) if many else nullcontext():
        unfinished = state.to_fill.any(-1).nonzero()[:, 0]
        for step in range(state.plan.shape[1]):
            if not len(unfinished):
                break
            view = state.view(step, unfinished, rules.block_schedule)
            acting = rules.remasking.acts(view)
            if not bool(acting.any()):
                continue
            view = view.take(acting.nonzero()[:, 0])
            positions_computed += session.positions(view)
            judged = rules.selector.asks(view)
            choice = _step(asked, session, view, rules, special, audience)
            after = _commit(view, choice, rules, special)
            if audience:
                audience.update_history(_results(view, after, choice))

            state.ids[view.rows] = after
            if state.commit_prob is not None and view.commit_prob is not None:
                state.commit_prob[view.rows] = choice.commit_prob(view.commit_prob)
            forward_passes += 1
            steps_taken[view.rows.cpu()] += 1
            if judged is not None:
                positions_computed += int(judged.sum())
                forward_passes += int(bool(judged.any()))
                steps_taken[view.rows.cpu()] += (judged > 0).long().cpu()
            blank = state.blanks(unfinished).any(-1)
            time_taken[unfinished[~blank].cpu()] = time.perf_counter() - started
            unfinished = unfinished[blank]

    assert not len(unfinished), "a budget left blanks"
    decoded = Decoded(state.ids.to(home), steps_taken, time_taken, forward_passes, positions_computed)
    audience.end(decoded)
    allocator.watch.look()
    return decoded


def _nothing_to_do(canvas: Canvas, audience: CallbackList) -> Decoded:
    """Rows without a blank, or no rows: they come back as they are, and the network is not run."""
    rows = len(canvas.ids)
    decoded = Decoded(
        canvas.ids.clone(), torch.zeros(rows, dtype=torch.int64), torch.zeros(rows, dtype=torch.float64), 0, 0
    )
    audience.end(decoded)
    return decoded


@dataclass
class _State:
    """The whole batch as it stands; ``ids`` and ``certainty`` change from step to step, the rest does not."""

    canvas: Canvas
    mask: int
    seed: int
    to_fill: Bool[Tensor, "batch seq"]
    plan: Plan
    ids: Int[Tensor, "batch seq"]
    commit_prob: Float[Tensor, "batch seq"] | None

    @classmethod
    def start(cls, canvas: Canvas, rules: Rules, special: SpecialIds, seed: int) -> _State:
        to_fill = canvas.blanks(special.mask)
        limit = torch.full((len(to_fill),), rules.selector.steps(rules.max_steps), device=to_fill.device)
        plan = rules.block_schedule.plan(rules.budget, to_fill, canvas.positions, limit, _noise(canvas, seed, 0))
        commit_prob = (
            torch.zeros(to_fill.shape, dtype=torch.float64, device=to_fill.device)
            if rules.reads_probabilities
            else None
        )
        return cls(canvas, special.mask, seed, to_fill, plan, canvas.ids.clone(), commit_prob)

    def blanks(self, rows: Int[Tensor, " rows"]) -> Bool[Tensor, "rows seq"]:
        return self.to_fill[rows] & (self.ids[rows] == self.mask)

    def view(self, step: int, rows: Int[Tensor, " rows"], block_schedule: BlockSchedule) -> StepView:
        canvas, blanks = self.canvas.rows(rows), self.blanks(rows)
        return StepView(
            number=step,
            rows=rows,
            ids=self.ids[rows],
            canvas=canvas,
            to_fill=self.to_fill[rows],
            blanks=blanks,
            candidates=block_schedule.open(self.to_fill[rows], blanks, canvas.positions),
            target_count=self.plan[rows, step],
            commit_prob=None if self.commit_prob is None else self.commit_prob[rows],
            noise=_noise(canvas, self.seed, step),
            fraction_left=self._left(rows, step),
        )

    def _left(self, rows: Int[Tensor, " rows"], step: int) -> Float[Tensor, " rows"]:
        """The share of each row's steps that come after this one; its steps are those until its plan is fulfilled."""
        steps = (self.plan[rows] < self.to_fill[rows].sum(-1, keepdim=True)).sum(-1) + 1
        return (steps - 1 - step).clamp(min=0) / steps.double()


class _Choice(NamedTuple):
    """Where and what. ``log_probs`` at ``scored``, of which ``where`` is a part; ``placed`` are those of the tokens. Both are logits, known but
    for a number a position, if nobody reads probabilities."""

    where: Bool[Tensor, "rows seq"]
    hidden: Bool[Tensor, "rows seq"]
    tokens: Int[Tensor, " chosen"]
    placed: Float[Tensor, " chosen"]
    scored: Bool[Tensor, "rows seq"]
    log_probs: LogProbs
    confidence: Float[Tensor, "rows seq"]

    def commit_prob(self, before: Float[Tensor, "rows seq"]) -> Float[Tensor, "rows seq"]:
        """The probabilities revealed tokens were placed with, after this step."""
        return spread(self.placed.exp().double(), self.where, 0.0) + before * ~self.hidden


def _step(
    model: Any, session: ForwardSession, view: StepView, rules: Rules, special: SpecialIds, audience: CallbackList
) -> _Choice:
    """Choose the places, then draw the tokens: one network evaluation.

    Tokens are drawn from the same numbers whether anybody watches or not: for an audience alone, logits are normalised afterwards.
    """
    selector = rules.selector
    draft = None
    uniforms = view.noise.per_token(Stream.TOKEN, view.ids.shape[1])
    if selector.draws_first:
        scored = view.candidates
        log_probs = _log_probs(model, session, view, scored, rules, special)
        drawn = rules.constraint.draw(rules.tokens, log_probs, uniforms[scored], view, scored)
        drawn_probability = log_probs.gather(-1, drawn[:, None])[:, 0].exp()
        draft = Draft(view.ids.masked_scatter(scored, drawn), spread(drawn_probability, scored, 0.0))
        where, hidden, confidence = selector.choose(view, log_probs, rules.remasking, draft)
    elif selector.needs_logits:
        scored = view.candidates
        log_probs = _log_probs(model, session, view, scored, rules, special)
        where, hidden, confidence = selector.choose(view, log_probs, rules.remasking)
    else:
        where, hidden, confidence = selector.choose(view, None, rules.remasking)
        scored = view.candidates if audience.wants_all_logits else where
        log_probs = _log_probs(model, session, view, scored, rules, special)
    chosen = log_probs if scored is where else log_probs[where[scored]]
    if draft is None:
        tokens = rules.constraint.draw(rules.tokens, chosen, uniforms[where], view, where)
    else:
        tokens = draft.ids[where]
    placed = chosen.gather(-1, tokens[:, None])[:, 0]
    _refuse_impossible(placed - chosen.amax(-1), view, where)
    if audience and not rules.reads_probabilities:
        log_probs = _normalised(log_probs)
        placed = log_probs[where[scored]].gather(-1, tokens[:, None])[:, 0]
    return _Choice(where, hidden, tokens, placed, scored, log_probs, confidence)


def _log_probs(
    model: Any,
    session: ForwardSession,
    view: StepView,
    where: Bool[Tensor, "rows seq"],
    rules: Rules,
    special: SpecialIds,
) -> LogProbs:
    """Log-probabilities over the ids that may be placed, at ``where``; logits if the rules read none."""
    logits = as_logits(session(model, view, where))
    ordinary = AllowedIds(special, rules.allow_eos)
    if rules.logits_processors:
        logits = ordinary(logits, view, where)
        for adjust in rules.logits_processors:
            logits = adjust(logits, view, where)
        logits = logits.clone()  # what a hook returns may be its own, and what follows works in place
    logits = ordinary(logits, view, where)
    logits = rules.constraint.restrict(logits, view, where)
    return _normalised(logits) if rules.reads_probabilities else logits


def _normalised(logits: Logits) -> LogProbs:
    """Log-softmax; in place on a CPU, where the fresh pages of a second ``[N, V]`` cost more than the sums."""
    return torch.log_softmax(logits, -1, out=logits) if logits.device.type == "cpu" else logits.log_softmax(-1)


def _commit(view: StepView, choice: _Choice, rules: Rules, special: SpecialIds) -> Int[Tensor, "rows seq"]:
    """The rows after the step: tokens placed, revised ones hidden, and what follows a final EOS closed."""
    after = view.ids.masked_scatter(choice.where, choice.tokens).masked_fill(choice.hidden, special.mask)
    if rules.stop_at_eos and special.eos is not None:
        blank = view.to_fill & (after == special.mask)
        ended = view.to_fill & (after == special.eos) & (blank.long().cumsum(-1) == 0)
        after = after.masked_fill(blank & ended.any(-1, keepdim=True), special.eos)
    return after


def _refuse_impossible(below: Float[Tensor, " chosen"], view: StepView, where: Bool[Tensor, "rows seq"]) -> None:
    """``below``: how far each token's logit is from the largest of its position, which is no number where there is none."""
    impossible = ~(below > -torch.inf)
    if bool(impossible.any()):
        row, position = where.nonzero()[impossible.nonzero()[0, 0]].tolist()
        raise ValueError(
            f"No token may be placed at position {position} of row {int(view.rows[row])}: every id there has a logit of -inf "
            "(or NaN) once the special ids are forbidden. Look at hooks and constraints, and at what the model returns."
        )


def _results(view: StepView, after: Int[Tensor, "rows seq"], choice: _Choice) -> MLMStepResults:
    closed = view.blanks & (after != view.ids) & ~choice.where
    return MLMStepResults(
        step=view.number,
        rows=view.rows,
        input_ids=view.ids,
        output_ids=after,
        x=after,
        candidates=view.candidates,
        committed=choice.where | closed,
        hidden=choice.hidden,
        scored=choice.scored,
        log_probs=choice.log_probs,
        confidence=choice.confidence.masked_fill(~view.candidates, torch.nan),
        probability=spread(choice.placed.exp(), choice.where, torch.nan).masked_fill(closed, 1.0),
    )


def _noise(canvas: Canvas, seed: int, step: int) -> Noise:
    return Noise(row_keys(seed, step, canvas.row_ids), positions_from_mask(canvas.attention_mask))
