"""Continue prompts, or write from nothing: whole texts, or one step at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from unmask.contracts import MLMStepResults
from unmask.data.prompts import Prompt
from unmask.decode.predictor import MLMPredictor
from unmask.decode.rules import Rules
from unmask.text.batching import in_batches, left_padded, plain_predict
from unmask.text.filling import Count, Predict, RulesFor
from unmask.text.patterns import fitted
from unmask.text.results import Generation, GenerationStep


@dataclass
class PlacedProbabilities:
    """An observer that keeps the probability of every placed token.

    Attributes:
        found: (row of the batch, position) -> probability.
    """

    found: dict[tuple[int, int], float] = field(default_factory=dict)

    def update_history(self, step_results: MLMStepResults) -> None:
        """Record the tokens of one step; a token that is placed again counts as it was placed last."""
        rows, positions = step_results["committed"].nonzero(as_tuple=True)
        values = step_results["probability"][rows, positions].tolist()
        self.found |= {
            (row, position): value
            for row, position, value in zip(
                step_results["rows"][rows].tolist(), positions.tolist(), values, strict=True
            )
        }


def generate_texts(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    rules_for: RulesFor,
    *,
    new_tokens: int,
    seed: int | None = 0,
    batch_size: int = 64,
    predict: Predict = plain_predict,
    labels: Sequence[str] | None = None,
    count: Count | None = None,
    with_probabilities: bool = True,
) -> Iterator[Generation]:
    """Continue prompts by ``new_tokens`` tokens each; a blank inside a prompt is filled too.

    Args:
        model: an ``MLMModel`` with parameters.
        tokenizer: a ``Tokenizer`` with a mask token.
        prompts: texts; an empty one is written from nothing.
        rules_for: the decoding rules for a number of blanks.
        new_tokens: tokens to write behind each prompt.
        seed: of all draws; a row's draws depend on the seed and its number alone.
        batch_size: prompts decoded together.
        predict: runs the predictor on a batch; takes the labels of its rows too.
        labels: short names of the rows.
        count: receives tokens, forward passes and seconds of every batch.
        with_probabilities: also return the new tokens with their probabilities, which costs a softmax where the rules read none.

    Raises:
        ValueError: no prompts, ``new_tokens`` below 1, or a row longer than the model takes.
    """
    if new_tokens < 1:
        raise ValueError(f"new_tokens={new_tokens} writes nothing: give 1 or more.")
    if not prompts:
        raise ValueError("There is no prompt to continue: give a text, or an empty one to write from nothing.")
    read = [Prompt.of(tokenizer, text) for text in prompts]
    rules = rules_for(new_tokens + max(len(prompt.blanks) for prompt in read))
    predictor = MLMPredictor(rules.max_steps, new_tokens, tokenizer, model, rules=rules, seed=seed)
    for numbers in in_batches(len(prompts), batch_size):
        placed = PlacedProbabilities()
        predictor.observers = (placed,) if with_probabilities else ()
        predictor.rules = fitted(
            rules, tokenizer, [prompts[i] for i in numbers], [read[i].ids for i in numbers], new_tokens
        )
        batch = left_padded([read[i].ids for i in numbers], tokenizer.pad_token_id or 0, numbers)
        found = predict(predictor, batch, [prompts[i][:32] if labels is None else labels[i] for i in numbers])
        if count is not None:
            count(len(numbers) * new_tokens, max(found["steps_taken"]), max(found["time_taken"]))
        width = found["ids"].shape[1]
        for place, i in enumerate(numbers):
            row = found["ids"][place, -len(read[i].ids) - new_tokens :].tolist()
            columns = [c for c in range(width - new_tokens, width) if (place, c) in placed.found]
            yield Generation(
                prompts[i],
                read[i].filled(row),
                tuple(tokenizer.token_text(int(found["ids"][place, c])) for c in columns),
                tuple(placed.found[place, c] for c in columns),
                found["steps_taken"][place],
                found["time_taken"][place],
            )


class _Stopped(Exception):
    """The reader of a stream went away."""


@dataclass
class _Steps:
    """An observer that hands the rows of every step to another thread."""

    steps: queue.Queue[Tensor | BaseException | None]
    stopped: threading.Event

    def update_history(self, step_results: MLMStepResults) -> None:
        if self.stopped.is_set():
            raise _Stopped
        self.steps.put(step_results["output_ids"][0].cpu())


def stream_text(
    model: Any, tokenizer: Any, prompt: str, rules: Rules, *, new_tokens: int, seed: int | None = 0
) -> Iterator[GenerationStep]:
    """Continue one prompt, and yield the text after every step.

    The decoding loop runs in a thread of its own, one step ahead of the reader at most; closing the iterator ends it at its next step.

    Args:
        model, tokenizer, prompt, new_tokens, seed: as of :func:`generate_texts`.
        rules: the decoding rules.

    Raises:
        ValueError: as :func:`generate_texts`.
    """
    if new_tokens < 1:
        raise ValueError(f"new_tokens={new_tokens} writes nothing: give 1 or more.")
    read = Prompt.of(tokenizer, prompt)
    blanks = set(read.blanks) | set(range(len(read.ids), len(read.ids) + new_tokens))
    predictor = MLMPredictor(
        rules.max_steps,
        new_tokens,
        tokenizer,
        model,
        rules=fitted(rules, tokenizer, [prompt], [read.ids], new_tokens),
        seed=seed,
    )
    steps, stopped = queue.Queue[Tensor | BaseException | None](1), threading.Event()
    predictor.observers = (_Steps(steps, stopped),)

    def run() -> None:
        try:
            plain_predict(predictor, left_padded([read.ids], tokenizer.pad_token_id or 0), [prompt])
            steps.put(None)
        except _Stopped:
            pass
        except BaseException as error:
            steps.put(error)

    worker = threading.Thread(target=run, daemon=True)
    worker.start()
    try:
        number = 0
        while (row := steps.get()) is not None:
            if isinstance(row, BaseException):
                raise row
            ids = row[-len(read.ids) - new_tokens :].tolist()
            revealed = sum(ids[place] != tokenizer.mask_token_id for place in blanks)
            yield GenerationStep(number, _half_written(tokenizer, read, ids), revealed, len(blanks))
            number += 1
    finally:
        stopped.set()
        while worker.is_alive():
            try:  # a full queue would keep the thread from its next step, where it ends
                steps.get(timeout=0.01)
            except queue.Empty:
                worker.join(0.01)


def _half_written(tokenizer: Any, read: Prompt, ids: list[int]) -> str:
    """The text of a row that may still have blanks: each shows as the mask token."""
    if tokenizer.mask_token_id not in ids:
        return read.filled(ids)
    parts, start = [], 0
    for place, id in [*enumerate(ids), (len(ids), tokenizer.mask_token_id)]:
        if id == tokenizer.mask_token_id:
            parts.append(tokenizer.decode(ids[start:place]))
            start = place + 1
    return (tokenizer.mask_token or "").join(parts)
