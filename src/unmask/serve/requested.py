"""From the body of a request to a decode: its text, rules, seed and events."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from unmask.contracts import MLMStepResults, SpecialIds
from unmask.decode.canvas import Canvas
from unmask.decode.continuous import Work
from unmask.decode.logits.characters import WholeCharacters
from unmask.devices import device_of
from unmask.serve.engine import Job
from unmask.serve.failures import Refused
from unmask.serve.schemas import DecodeBody, Decoding
from unmask.serve.settings import ServeSettings
from unmask.text.answering import TextAnswer, TextTask, answer_steps
from unmask.text.decoding_options import rules_of_options
from unmask.text.filling import RulesFor
from unmask.text.generation_defaults import GenerationDefaults
from unmask.text.holes import max_length_of
from unmask.text.model import TrainedModel

MOST_ROWS = 256
"""Rows of one search of lengths."""
PATTERN_SECONDS = 5.0
DECIDING = {"order", "steps", "threshold", "block_length", "remask"}
"""Options of order and budget; a request with one of them ignores ``generation.json``."""


class Decodes:
    """Makes the decodes of a model.

    Args:
        trained: the model.
        settings: limits.
    """

    def __init__(self, trained: TrainedModel, settings: ServeSettings) -> None:
        self.trained = trained
        self.settings = settings
        self.device = device_of(trained.model)
        self.limit: int = min(settings.max_tokens, max_length_of(trained.model) or settings.max_tokens)
        self._tuned = GenerationDefaults.of(trained.folder)
        self._patterns = ThreadPoolExecutor(1, "unmask-patterns")
        self._patterns_waiting = 0
        self._cache: dict[str, RulesFor] = {}
        # Made once, since its automaton covers the whole vocabulary; decodes share it.
        self._characters = WholeCharacters.of(trained.tokenizer)
        self._lock = threading.Lock()

    def task(self, body: DecodeBody, length: int) -> TextTask:
        """Return the task of a body.

        Args:
            body: the body.
            length: new tokens if the body gives none.

        Raises:
            Refused: no text, or one that is too long.
            ValueError: a malformed blank, or an unknown id.
        """
        tokenizer = self.trained.tokenizer
        if body.text is not None and body.ids is not None:
            raise Refused(400, "text and ids were both given: give one of them.", "ids")
        if body.text is None and body.ids is None and not body.length:
            raise Refused(400, "There is nothing to decode: give text, ids or length.", "text")
        length = body.length if body.length is not None else length
        if body.ids is not None:
            if len(body.ids) > self.limit:
                raise self._too_long(len(body.ids), "ids")
            task = TextTask.of_ids(tokenizer, body.ids, length if body.length is not None else 0)
        else:
            task = TextTask.of_text(tokenizer, body.text or "", length)
        self.check(task, body.steps)
        if not task.masked:
            raise Refused(
                400, f"There is nothing to fill: write {tokenizer.mask_token} at each blank, or give a length.", "text"
            )
        return task

    def check(self, task: TextTask, steps: int | None) -> None:
        """Refuse a task beyond the limits.

        Raises:
            Refused: too many tokens, steps or lengths.
        """
        if task.longest > self.limit:
            raise self._too_long(task.longest, "text")
        if (steps or task.masked) > self.settings.max_steps:
            raise Refused(
                400, f"{steps or task.masked} steps exceed the limit of {self.settings.max_steps} steps.", "steps"
            )
        if task.is_open and (task.rows > MOST_ROWS or task.rows * task.longest > MOST_ROWS * 128):
            raise Refused(
                400,
                f"The blanks have {task.rows} lengths to try, too many for one request: narrow their ranges.",
                "text",
            )

    def _too_long(self, tokens: int, param: str) -> Refused:
        message = f"The request has {tokens} tokens, masked ones included, and the limit is {self.limit}."
        return Refused(400, message, param, "context_length_exceeded")

    async def rules(self, body: Decoding, **defaults: Any) -> RulesFor:
        """Return the rules of a body; patterns are compiled in a thread of their own, in limited time.

        Args:
            body: the body.
            defaults: options that the body may replace.

        Raises:
            Refused: a pattern that takes too long.
            ValueError: options that contradict each other, or a pattern that is too large.
        """
        given = {name: value for name in Decoding.model_fields if (value := getattr(body, name)) is not None}
        tuned = self._tuned
        if tuned is not None and not given.keys() & DECIDING:
            defaults = defaults | {"order": tuned.order, "threshold": tuned.threshold, "tuned": tuned}
        options = defaults | given
        if "regex" not in options:
            whole = None if options.get("required_ids") else self._characters
            return rules_of_options(self.trained.tokenizer, model=self.trained.model, constraint=whole, **options)
        key = repr(sorted(options.items()))
        with self._lock:
            if key in self._cache:
                return self._cache[key]
        if self._patterns_waiting >= 8:
            raise Refused(429, "Too many patterns wait to be compiled.", "regex", "busy", {"Retry-After": "5"})
        self._patterns_waiting += 1
        try:
            compiled = asyncio.get_running_loop().run_in_executor(
                self._patterns, lambda: rules_of_options(self.trained.tokenizer, model=self.trained.model, **options)
            )
            rules = await asyncio.wait_for(compiled, PATTERN_SECONDS)
        except TimeoutError:
            raise Refused(400, "The pattern takes too long to compile: shorten it.", "regex") from None
        finally:
            self._patterns_waiting -= 1
        with self._lock:
            if len(self._cache) >= 16:
                self._cache.pop(next(iter(self._cache)))
            self._cache[key] = rules
        return rules

    def work(self, task: TextTask, rules: RulesFor, seed: int, job: Job, alternatives: int | None) -> Work:
        """Return the decode of a task.

        Args:
            task: the text.
            rules: how to decode.
            seed: random seed.
            job: receives the events ``start`` and ``step``.
            alternatives: candidates for each position of a step; None = no events.
        """
        if alternatives is None:
            return answer_steps(task, rules, self.device, seed=seed, share=True)
        watcher = StepEvents(self.trained, job, alternatives)
        return answer_steps(task, rules, self.device, seed=seed, observers=[watcher], share=True)

    def tokens(self, ids: Sequence[int], given: Sequence[bool]) -> list[dict[str, Any]]:
        """Return the tokens of a row as JSON."""
        tokenizer = self.trained.tokenizer
        return [
            {
                "id": id,
                "text": None if id == tokenizer.mask_token_id and not own else tokenizer.token_text(id),
                "given": own,
            }
            for id, own in zip(ids, given, strict=True)
        ]

    def reply(self, answer: TextAnswer, job: Job, seed: int) -> dict[str, Any]:
        """Return the event ``done`` of an answer."""
        return {
            "text": answer.text,
            "fills": [{"text": fill.text, "ids": fill.ids, "probability": fill.probability} for fill in answer.fills],
            "tokens": self.tokens(answer.ids, answer.given),
            "passes": answer.passes,
            "seconds": round(time.monotonic() - job.begun, 6),
            "seed": seed,
        }


class StepEvents:
    """An observer that sends the events of a streamed decode.

    Args:
        trained: the model.
        job: receives them.
        alternatives: candidates for each position.
    """

    def __init__(self, trained: TrainedModel, job: Job, alternatives: int) -> None:
        self.text: Callable[[int], str] = trained.tokenizer.token_text
        self.mask = trained.tokenizer.mask_token_id
        self.job = job
        self.alternatives = alternatives
        self.passes = 0
        self.wants_all_logits: bool = alternatives > 0

    def begin(self, canvas: Canvas, special: SpecialIds) -> None:
        """Send the row before the first step."""
        self.job.put("start", canvas.ids[0].tolist())

    def update_history(self, step_results: MLMStepResults) -> None:
        """Send one step."""
        self.passes += 1
        after, odds = step_results["output_ids"][0].tolist(), step_results["probability"][0].tolist()
        unmasked = step_results["committed"][0].nonzero()[:, 0].tolist()
        event = {
            "step": step_results["step"],
            "passes": self.passes,
            "unmasked": [
                {"position": n, "id": after[n], "text": self.text(after[n]), "probability": round(min(1.0, odds[n]), 6)}
                for n in unmasked
            ],
            "remasked": step_results["hidden"][0].nonzero()[:, 0].tolist(),
            "alternatives": self._alternatives(step_results),
        }
        self.job.put("step", event)

    def _alternatives(self, step_results: MLMStepResults) -> list[dict[str, Any]]:
        if not self.alternatives:
            return []
        log_probs = step_results["log_probs"]
        best = log_probs.topk(min(self.alternatives, log_probs.shape[-1]), dim=-1)
        positions = step_results["scored"][0].nonzero()[:, 0].tolist()
        return [
            {
                "position": position,
                "top": [
                    {"id": id, "text": self.text(id), "probability": round(p, 6)}
                    for id, p in zip(ids, odds, strict=True)
                    if p > 0
                ],
            }
            for position, ids, odds in zip(positions, best.indices.tolist(), best.values.exp().tolist(), strict=True)
        ]
