"""The decoding loop: ``decode_steps``, a generator that stops wherever the network is needed, and its driver ``fill_canvas``.

Each step, for the rows that still contain masked positions:

    choose   a score ranks the masked positions, a commit rule takes the best, remasking masks earlier tokens again
    sample   one draw at each chosen position, from the logits there
    commit   place the tokens, call the observers, drop the finished rows

A score that reads no logits runs before the network. If no rule reads probabilities, the softmax is skipped. Draws are keyed by (seed, row id, step,
position from the row's first real token): a row decodes to the same tokens alone, in any batch, and under any padding.

The generator yields a ``ForwardRequest`` and is sent its logits. ``drive`` runs each request in a forward pass of its own;
``unmask.decode.continuous`` merges the requests of many decodes, which join and leave between steps.

Shapes: ``b`` unfinished rows of ``L`` positions; ``[N, V]`` over scored positions, row-major.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unmask import allocator
from unmask.contracts import MLMModel, MLMStepResults, SpecialIds
from unmask.decode.batch_state import BatchState
from unmask.decode.canvas import Canvas
from unmask.decode.forward_request import ForwardRequest, Steps
from unmask.decode.forwards.plain import ForwardSession
from unmask.decode.left_to_right import refuse_other_orders, rules_for_network
from unmask.decode.logits.constraints import Unconstrained
from unmask.decode.logits.processors import AllowedIds, as_logits
from unmask.decode.observers.base import CallbackList, Decoded
from unmask.decode.orders.scores import Draft
from unmask.decode.reach import reached
from unmask.decode.rules import Rules
from unmask.decode.shared_steps import Choice, StepRequest, sharing_key
from unmask.decode.view import StepView, spread
from unmask.devices import has_float64
from unmask.nn.linear import prepack_weights
from unmask.nn.modes import eval_mode
from unmask.ops.confidence import LogProbs
from unmask.ops.sampling import Logits
from unmask.randomness import Stream

_MANY_STEPS = 8  # from this many steps on, prepacking the weights pays off


Result = TypeVar("Result")


def fill_canvas(
    model: MLMModel,
    canvas: Canvas,
    rules: Rules,
    *,
    special: SpecialIds,
    seed: int | None = None,
    observers: Sequence[Any] = (),
) -> Decoded:
    """Fill every masked position of a canvas.

    Args:
        model: an ``MLMModel`` on the canvas's device. It runs in eval mode; its mode is restored afterwards.
        canvas: given tokens and positions to fill, ``[B, L]``.
        rules: how to decode.

    Other Parameters:
        special: special ids, which are never placed (except EOS, see ``Rules.allow_eos``).
        seed: of all draws; None takes one from torch's global generator.
        observers: called after every step (``unmask.decode.observers.base``); they never change the samples.

    Returns:
        ``Decoded``: the filled ``ids`` int64 ``[B, L]``, and the cost. A row takes at most ``rules.max_steps`` forward passes.

    Raises:
        ValueError: logits processors, constraints or special ids forbid every token at some position.

    Examples:
        >>> import torch
        >>> from unmask import Canvas, RotaryTransformerMLMModel, SpecialIds, fill_canvas, make_rules
        >>> special = SpecialIds(mask=0, pad=1, vocab_size=20)
        >>> model = RotaryTransformerMLMModel(20, 16, 1, 2, padding_idx=1, mask_idx=0)
        >>> canvas = Canvas.infill(torch.tensor([[5, 0, 0, 6]]), special)
        >>> decoded = fill_canvas(model, canvas, make_rules(2), special=special, seed=0)
        >>> decoded.ids[0, [0, 3]].tolist(), int((decoded.ids == 0).sum()), decoded.forward_passes
        ([5, 6], 0, 2)
    """
    decoded: Decoded = drive(model, decode_steps(canvas, rules_for_network(model, rules), special, seed, observers))
    return decoded


def drive(model: MLMModel, work: Generator[ForwardRequest, Tensor, Result]) -> Result:
    """Run a decode, or several in turn, each request in a forward pass of its own.

    Args:
        model: the network. It runs in eval mode; its mode is restored afterwards.
        work: a generator of forward requests.

    Returns:
        What the generator returns.
    """
    with torch.inference_mode(), eval_mode(model):
        try:
            request = next(work)
            network = reached(model, request.view.ids.device)
            with prepack_weights(model) if request.steps >= _MANY_STEPS else nullcontext():
                while True:
                    request = work.send(request.session(network, request.view, request.where))
        except StopIteration as done:
            result: Result = done.value
    allocator.watch.look()
    return result


def decode_steps(
    canvas: Canvas,
    rules: Rules,
    special: SpecialIds,
    seed: int | None = None,
    observers: Sequence[Any] = (),
    share: bool = False,
) -> Steps:
    """Fill every masked position of a canvas, one forward request after the other.

    Drive it under ``torch.inference_mode()``, with the network in eval mode.

    Args:
        canvas: given tokens and positions to fill, ``[B, L]``.
        rules: how to decode.
        special: special ids, which are never placed (except EOS, see ``Rules.allow_eos``).
        seed: of all draws; None takes one from torch's global generator.
        observers: called after every step; they never change the samples.
        share: True asks for whole steps first (``unmask.decode.shared_steps``), where decodes can share them.

    Yields:
        The forward passes, in order.

    Returns:
        The filled canvas and its cost.

    Raises:
        ValueError: logits processors, constraints or special ids forbid every token at some position.
    """
    started = time.perf_counter()
    with torch.inference_mode(False):  # what leaves the decode are ordinary tensors
        if seed is None:
            seed = int(torch.randint(2**63 - 1, ()))
        home = canvas.ids.device
        if not has_float64(home):
            canvas = canvas.to(torch.device("cpu"))
        callbacks = CallbackList(observers)
        callbacks.begin(canvas, special)
        if not bool(canvas.blanks(special.mask).any()):
            return _nothing_to_do(canvas, callbacks)
        session = rules.forward.start(len(canvas.ids), rules.block_schedule)
        state = BatchState.start(canvas, rules, special, seed)
        key = sharing_key(canvas, rules, special, callbacks) if share else None
        steps_taken = torch.zeros(len(canvas.ids), dtype=torch.int64)
        time_taken = torch.zeros(len(canvas.ids), dtype=torch.float64)
    forward_passes = positions_computed = 0
    unfinished = state.to_fill.any(-1).nonzero()[:, 0]
    on_host = unfinished.cpu()  # the same on the host, since each read from an accelerator waits for it
    for step in range(state.plan.shape[1]):
        if not len(unfinished):
            break
        view = state.view(step, unfinished, rules.block_schedule)
        acting, rows = rules.remasking.acts(view).cpu(), on_host
        if not bool(acting.any()):
            continue
        if not bool(acting.all()):
            which = acting.nonzero()[:, 0]
            view, rows = view.take(which.to(unfinished.device)), on_host[which]
        positions_computed += session.positions(view)
        judged = rules.selector.critic_tokens(view)
        choice: Choice | None = None
        if key is not None:
            choice = yield StepRequest(view, rules, special, callbacks, state.plan.shape[1], key)  # type: ignore
        if choice is None:
            choice = yield from step_of(session, view, rules, special, callbacks, state.plan.shape[1])
        if rules.left_to_right:
            refuse_other_orders(view.blanks, choice.where, choice.hidden)
        after = _commit(view, choice, rules, special)
        if callbacks:
            callbacks.update_history(_results(view, after, choice))

        state.ids[view.rows] = after
        if state.commit_prob is not None and view.commit_prob is not None:
            state.commit_prob[view.rows] = _commit_prob(choice, view.commit_prob)
        forward_passes += 1
        steps_taken[rows] += 1
        if judged is not None:
            positions_computed += int(judged.sum())
            forward_passes += int(bool(judged.any()))
            steps_taken[rows] += (judged > 0).long().cpu()
        blank = state.blanks(unfinished).any(-1).cpu()
        if not bool(blank.all()):
            time_taken[on_host[~blank]] = time.perf_counter() - started
            on_host = on_host[blank]
            unfinished = on_host.to(unfinished.device)

    if len(unfinished):
        raise ValueError(
            f"{len(unfinished)} rows still hold masked tokens after {state.plan.shape[1]} steps: the commit rule "
            f"{type(rules.selector.commit_rule).__name__} unmasked fewer positions than its quota. Return at least scores.quota positions."
        )
    with torch.inference_mode(False):
        decoded = Decoded(state.ids.to(home), steps_taken, time_taken, forward_passes, positions_computed)
        callbacks.end(decoded)
    return decoded


def _nothing_to_do(canvas: Canvas, callbacks: CallbackList) -> Decoded:
    """Return rows without masked positions unchanged, without a forward pass."""
    rows = len(canvas.ids)
    decoded = Decoded(
        canvas.ids.clone(), torch.zeros(rows, dtype=torch.int64), torch.zeros(rows, dtype=torch.float64), 0, 0
    )
    callbacks.end(decoded)
    return decoded


def _commit_prob(choice: Choice, before: Float[Tensor, "rows seq"]) -> Float[Tensor, "rows seq"]:
    """Return the probability of each unmasked token when it was placed, after a step."""
    return spread(choice.placed.exp().double(), choice.where, 0.0) + before * ~choice.hidden


def step_of(
    session: ForwardSession, view: StepView, rules: Rules, special: SpecialIds, callbacks: CallbackList, steps: int
) -> Generator[ForwardRequest, Tensor, Choice]:
    """Choose positions, then sample tokens, in one forward pass.

    Observers never change the samples: probabilities for observers alone are computed after the draw.
    """
    selector = rules.selector
    draft = None
    if selector.draws_first:
        scored = view.candidates
        log_probs = _log_probs((yield ForwardRequest(session, view, scored, steps)), view, scored, rules, special)
        drawn = rules.constraint.draw(rules.tokens, log_probs, _uniforms(log_probs, view, scored, rules), view, scored)
        drawn_probability = log_probs.gather(-1, drawn[:, None])[:, 0].exp()
        draft = Draft(view.ids.masked_scatter(scored, drawn), spread(drawn_probability, scored, 0.0))
        where, hidden, confidence = selector.choose(view, log_probs, rules.remasking, draft)
    elif selector.needs_logits:
        scored = view.candidates
        log_probs = _log_probs((yield ForwardRequest(session, view, scored, steps)), view, scored, rules, special)
        where, hidden, confidence = selector.choose(view, log_probs, rules.remasking)
    else:
        where, hidden, confidence = selector.choose(view, None, rules.remasking)
        scored = view.candidates if callbacks.wants_all_logits else where
        log_probs = _log_probs((yield ForwardRequest(session, view, scored, steps)), view, scored, rules, special)
    chosen = log_probs if scored is where else log_probs[where[scored]]
    if draft is None:
        tokens = rules.constraint.draw(rules.tokens, chosen, _uniforms(chosen, view, where, rules), view, where)
    else:
        tokens = draft.ids[where]
    placed = chosen.gather(-1, tokens[:, None])[:, 0]
    _refuse_impossible(placed - chosen.amax(-1), view, where)
    if callbacks and not rules.reads_probabilities:
        log_probs = _normalised(log_probs)
        placed = log_probs[where[scored]].gather(-1, tokens[:, None])[:, 0]
    return Choice(where, hidden, tokens, placed, scored, log_probs, confidence)


def _uniforms(
    log_probs: LogProbs, view: StepView, where: Bool[Tensor, "rows seq"], rules: Rules
) -> Float[Tensor, " scored"]:
    """Return the uniform of each draw at ``where``; zeros for greedy tokens without a constraint, which read none."""
    if rules.tokens.temperature == 0 and isinstance(rules.constraint, Unconstrained):
        return log_probs.new_zeros(len(log_probs), dtype=torch.float64)
    return view.noise.per_token(Stream.TOKEN, view.ids.shape[1])[where]


def _log_probs(
    raw: Float[Tensor, "scored vocab"],
    view: StepView,
    where: Bool[Tensor, "rows seq"],
    rules: Rules,
    special: SpecialIds,
) -> LogProbs:
    """Return log-probabilities over the allowed ids at ``where``; logits if no rule reads probabilities."""
    logits = as_logits(raw)
    ordinary = AllowedIds(special, rules.allow_eos)
    if rules.logits_processors:
        logits = ordinary(logits, view, where)
        for processor in rules.logits_processors:
            logits = processor(logits, view, where)
        logits = logits.clone()  # a processor may return a tensor that it keeps, and the next lines work in place
    logits = ordinary(logits, view, where)
    logits = rules.constraint.restrict(logits, view, where)
    return _normalised(logits) if rules.reads_probabilities else logits


def _normalised(logits: Logits) -> LogProbs:
    """Return the log-softmax; in place on a CPU, where allocating a second ``[N, V]`` costs more than the computation."""
    return torch.log_softmax(logits, -1, out=logits) if logits.device.type == "cpu" else logits.log_softmax(-1)


def _commit(view: StepView, choice: Choice, rules: Rules, special: SpecialIds) -> Int[Tensor, "rows seq"]:
    """Return the rows after the step: tokens placed, remasked ones masked, positions after a final EOS filled with EOS."""
    after = view.ids.masked_scatter(choice.where, choice.tokens).masked_fill(choice.hidden, special.mask)
    if rules.stop_at_eos and special.eos is not None:
        blank = view.to_fill & (after == special.mask)
        ended = view.to_fill & (after == special.eos) & (blank.long().cumsum(-1) == 0)
        after = after.masked_fill(blank & ended.any(-1, keepdim=True), special.eos)
    return after


def _refuse_impossible(below: Float[Tensor, " chosen"], view: StepView, where: Bool[Tensor, "rows seq"]) -> None:
    """Raise if a position has no allowed token. ``below`` is each token's logit minus the largest of its position, NaN if all are ``-inf``."""
    impossible = ~(below > -torch.inf)
    if bool(impossible.any()):
        row, position = where.nonzero()[impossible.nonzero()[0, 0]].tolist()
        raise ValueError(
            f"No token may be placed at position {position} of row {int(view.rows[row])}: every id has a logit of -inf "
            "(or NaN) after special ids are forbidden. Check the logits processors, the constraint and the model's logits."
        )


def _results(view: StepView, after: Int[Tensor, "rows seq"], choice: Choice) -> MLMStepResults:
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
