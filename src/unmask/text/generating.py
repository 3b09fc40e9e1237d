"""Continue prompts, or generate unconditionally: as whole texts, or as a stream of decoding steps."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from unmask.contracts import MLMModel, MLMStepResults
from unmask.data.prompts import Prompt
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.decode.predictor import MLMPredictor
from unmask.decode.rules import Rules
from unmask.text.batching import in_batches, left_padded, plain_predict
from unmask.text.filling import Count, Predict, RulesFor
from unmask.text.patterns import fitted
from unmask.text.results import Generation, GenerationStep
from unmask.text.shown_decode import ShownDecode, recorder


@dataclass
class PlacedProbabilities:
    """An observer that records the probability of every revealed token.

    Attributes:
        probabilities: (row of the batch, position) -> probability, in [0, 1].
    """

    probabilities: dict[tuple[int, int], float] = field(default_factory=dict)

    def update_history(self, step_results: MLMStepResults) -> None:
        """Record the tokens of one step; a position revealed again replaces its earlier record."""
        rows, positions = step_results["committed"].nonzero(as_tuple=True)
        values = step_results["probability"][rows, positions].tolist()
        self.probabilities |= {
            (row, position): value
            for row, position, value in zip(
                step_results["rows"][rows].tolist(), positions.tolist(), values, strict=True
            )
        }


def generate_texts(
    model: MLMModel,
    tokenizer: Tokenizer,
    prompts: Sequence[str | Prompt],
    rules_for: RulesFor,
    *,
    new_tokens: int,
    seed: int | None = 0,
    batch_size: int = 64,
    predict: Predict = plain_predict,
    labels: Sequence[str] | None = None,
    count: Count | None = None,
    with_probabilities: bool = True,
    first_row: int = 0,
) -> Iterator[Generation]:
    """Continue prompts by ``new_tokens`` tokens each. Blanks inside a prompt are filled too.

    Args:
        model: the network.
        tokenizer: its tokenizer, with a mask token.
        prompts: texts to continue, or chats (``Prompt.chat``); an empty text is unconditional generation.
        rules_for: decoding rules for a number of blanks.
        new_tokens: tokens to append to each prompt.
        seed: random seed of the samples; the samples of a row depend on the seed and the row number alone.
        batch_size: prompts decoded together.
        predict: function that decodes a batch.
        labels: short names of the rows.
        count: callback for the tokens, forward passes and seconds of every batch.
        first_row: number of the first row, which keys its samples; for rows that are decoded in several calls.
        with_probabilities: also return the new tokens with their probabilities; costs a softmax if the rules need none.

    Raises:
        ValueError: no prompts, ``new_tokens`` below 1, or a row longer than the ``max_length`` of the model.
    """
    _check_new_tokens(new_tokens)
    if not prompts:
        raise ValueError("There is no prompt to continue: give a text, or an empty one for unconditional generation.")
    parsed = [prompt if isinstance(prompt, Prompt) else Prompt.of(tokenizer, prompt) for prompt in prompts]
    texts = [prompt.text for prompt in parsed]
    rules = rules_for(new_tokens + max(len(prompt.blanks) for prompt in parsed))
    predictor = MLMPredictor(rules.max_steps, new_tokens, tokenizer, model, rules=rules, seed=seed)
    for numbers in in_batches(len(prompts), batch_size):
        placed = PlacedProbabilities()
        rows = [parsed[i].ids for i in numbers]
        trace = recorder(rows, len(rows) * new_tokens, 0) if with_probabilities else None
        predictor.observers = ((placed, trace) if trace else (placed,)) if with_probabilities else ()
        predictor.rules = fitted(
            rules, tokenizer, [texts[i] for i in numbers], [parsed[i].ids for i in numbers], new_tokens
        )
        batch = left_padded(
            [parsed[i].ids for i in numbers], tokenizer.pad_token_id or 0, [first_row + i for i in numbers]
        )
        decoded = predict(predictor, batch, [texts[i][:32] if labels is None else labels[i] for i in numbers])
        if count is not None:
            count(len(numbers) * new_tokens, max(decoded["steps_taken"]), max(decoded["time_taken"]))
        width = decoded["ids"].shape[1]
        for row, i in enumerate(numbers):
            output = decoded["ids"][row, -len(parsed[i].ids) - new_tokens :].tolist()
            columns = [c for c in range(width - new_tokens, width) if (row, c) in placed.probabilities]
            yield Generation(
                texts[i],
                parsed[i].filled(output),
                tuple(tokenizer.token_text(int(decoded["ids"][row, c])) for c in columns),
                tuple(placed.probabilities[row, c] for c in columns),
                decoded["steps_taken"][row],
                decoded["time_taken"][row],
                ShownDecode(trace, tokenizer, row) if trace else None,
            )


def _check_new_tokens(new_tokens: int) -> None:
    if new_tokens < 1:
        raise ValueError(f"new_tokens={new_tokens} is too small: choose 1 or more.")


class _Stopped(Exception):
    """The iterator of a stream was closed."""


@dataclass
class _Steps:
    """An observer that passes the row of every step to another thread."""

    steps: queue.Queue[Tensor | BaseException | None]
    stopped: threading.Event

    def update_history(self, step_results: MLMStepResults) -> None:
        if self.stopped.is_set():
            raise _Stopped
        self.steps.put(step_results["output_ids"][0].cpu())


def stream_text(
    model: MLMModel, tokenizer: Tokenizer, prompt: str, rules: Rules, *, new_tokens: int, seed: int | None = 0
) -> Iterator[GenerationStep]:
    """Continue one prompt, and yield the text after every decoding step.

    The decoding loop runs in its own thread, at most one step ahead of the iterator. Closing the iterator ends the loop at its
    next step.

    Args:
        model, tokenizer, prompt, new_tokens, seed: as in :func:`generate_texts`.
        rules: the decoding rules.

    Raises:
        ValueError: as in :func:`generate_texts`.
    """
    _check_new_tokens(new_tokens)
    parsed = Prompt.of(tokenizer, prompt)
    blanks = set(parsed.blanks) | set(range(len(parsed.ids), len(parsed.ids) + new_tokens))
    predictor = MLMPredictor(
        rules.max_steps,
        new_tokens,
        tokenizer,
        model,
        rules=fitted(rules, tokenizer, [prompt], [parsed.ids], new_tokens),
        seed=seed,
    )
    steps, stopped = queue.Queue[Tensor | BaseException | None](1), threading.Event()
    predictor.observers = (_Steps(steps, stopped),)

    def run() -> None:
        try:
            plain_predict(predictor, left_padded([parsed.ids], tokenizer.pad_token_id or 0), [prompt])
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
            ids = row[-len(parsed.ids) - new_tokens :].tolist()
            revealed = sum(ids[position] != tokenizer.mask_token_id for position in blanks)
            yield GenerationStep(number, _partial_text(tokenizer, parsed, ids), revealed, len(blanks))
            number += 1
    finally:
        stopped.set()
        while worker.is_alive():
            try:  # a full queue blocks the thread, which checks for the stop at its next step
                steps.get(timeout=0.01)
            except queue.Empty:
                worker.join(0.01)


def _partial_text(tokenizer: Tokenizer, prompt: Prompt, ids: list[int]) -> str:
    """Return the text of a row with the mask token at every remaining blank."""
    if tokenizer.mask_token_id not in ids:
        return prompt.filled(ids)
    parts, start = [], 0
    for position, id in [*enumerate(ids), (len(ids), tokenizer.mask_token_id)]:
        if id == tokenizer.mask_token_id:
            parts.append(tokenizer.decode(ids[start:position]))
            start = position + 1
    return (tokenizer.mask_token or "").join(parts)
