"""OpenAI's ``/v1/completions``: a prompt to continue, or a prompt and a suffix to fill between.

A streamed completion grows from left to right: a piece of text is sent once all tokens before it are placed. By default blocks of
``BLOCK`` tokens are decoded from left to right, the most confident token of each first.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request

from unmask.data.prompts import added_text
from unmask.serve.engine import Job
from unmask.serve.events import EventStream
from unmask.serve.failures import Refused, refusal
from unmask.serve.schemas import CompletionBody, CompletionReply
from unmask.serve.service import Service, while_connected
from unmask.text.answering import TextAnswer, TextTask

BLOCK = 8
DEFAULTS: dict[str, Any] = {"order": "top_prob", "temperature": 1.0, "block_length": BLOCK}
MOST_CHOICES = 64


@dataclass(frozen=True)
class Choice:
    """One completion of a request.

    Attributes:
        index: its place in the answer.
        before: the text before it.
        task: the decode.
        seed: its seed.
    """

    index: int
    before: str
    task: TextTask
    seed: int


def choices_of(service: Service, body: CompletionBody) -> list[Choice]:
    """Return the completions of a body: ``n`` for each prompt.

    Raises:
        Refused: too many choices, or too many tokens.
        ValueError: an unknown id.
    """
    prompts: list[Any] = body.prompt if isinstance(body.prompt, list) else [body.prompt]
    if isinstance(body.prompt, list) and all(isinstance(each, int) for each in body.prompt):
        prompts = [body.prompt]
    if not prompts or len(prompts) * body.n > MOST_CHOICES:
        raise Refused(400, f"Give 1 to {MOST_CHOICES} completions in all: prompts times n.", "prompt")
    tokenizer, choices = service.trained.tokenizer, list[Choice]()
    for prompt in prompts:
        text = prompt if isinstance(prompt, str) else tokenizer.decode(TextTask.of_ids(tokenizer, prompt).prompt.ids)
        if body.suffix:
            task = TextTask.between(tokenizer, text, body.suffix, body.max_tokens)
        elif isinstance(prompt, str):
            task = TextTask.continuing(tokenizer, text, body.max_tokens)
        else:
            task = TextTask.of_ids(tokenizer, prompt, body.max_tokens)
            if task.ranges:
                raise Refused(400, "The prompt holds the id of the mask: /v1/fill fills masked tokens.", "prompt")
        service.decodes.check(task, body.steps)
        for _ in range(body.n):
            choices.append(Choice(len(choices), text, task, (body.seed or 0) + len(choices)))
    return choices


def cut(text: str, stops: list[str]) -> tuple[str, bool]:
    """Return the text before the first stop, and whether there is one."""
    places = [place for stop in stops if stop and (place := text.find(stop)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def add_completions(app: FastAPI, service: Service) -> None:
    """Add the route."""
    streams: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}

    @app.post("/v1/completions", tags=["OpenAI"], response_model=CompletionReply, responses=streams)
    async def completions(request: Request, body: CompletionBody) -> Any:
        """Continue prompts, or fill between a prompt and a `suffix`, in the format of OpenAI's completions."""
        choices, stops = choices_of(service, body), [body.stop] if isinstance(body.stop, str) else body.stop or []
        defaults = DEFAULTS if body.order is None else {"temperature": DEFAULTS["temperature"]}
        rules = await service.decodes.rules(body, **defaults)
        jobs = [Job(service.settings.seconds) for _ in choices]
        for job, choice in zip(jobs, choices, strict=True):
            job.work = service.decodes.work(choice.task, rules, choice.seed, job, 0 if body.stream else None)
        service.engine.submit(*jobs)
        head = {
            "id": f"cmpl-{uuid.uuid4().hex[:24]}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": service.name,
        }
        if body.stream:
            return EventStream(_chunks(service, jobs, choices, stops, body.echo, body.remask is None, head))
        answers = await while_connected(request, asyncio.gather(*(job.result() for job in jobs)), *jobs)
        given = sum(len(choice.task.prompt.ids) - len(choice.task.ranges) for choice in choices)
        placed = sum(choice.task.masked for choice in choices)
        service.meters.placed.inc(placed)
        return {
            **head,
            "choices": [
                _choice(choice, answer, stops, body.echo) for choice, answer in zip(choices, answers, strict=True)
            ],
            "usage": {"prompt_tokens": given, "completion_tokens": placed, "total_tokens": given + placed},
        }


def _choice(choice: Choice, answer: TextAnswer, stops: list[str], echo: bool) -> dict[str, Any]:
    text, stopped = cut(answer.fills[-1].text, stops)
    text = choice.before + text if echo else text
    return {"text": text, "index": choice.index, "logprobs": None, "finish_reason": "stop" if stopped else "length"}


async def _chunks(
    service: Service,
    jobs: list[Job],
    choices: list[Choice],
    stops: list[str],
    echo: bool,
    final: bool,
    head: dict[str, Any],
) -> AsyncGenerator[bytes, None]:
    """Yield the chunks of all choices as they grow."""
    pieces: asyncio.Queue[tuple[int, str, str | None] | BaseException] = asyncio.Queue()

    async def grow(job: Job, choice: Choice) -> None:
        try:
            async for piece, reason in _growth(service, job, choice, stops, final):
                await pieces.put((choice.index, piece, reason))
        except Exception as error:
            await pieces.put(error)

    tasks = [asyncio.create_task(grow(job, choice)) for job, choice in zip(jobs, choices, strict=True)]
    unfinished = len(tasks)
    try:
        if echo:
            for choice in choices:
                yield _chunk(head, choice.index, choice.before, None)
        while unfinished:
            item = await pieces.get()
            if isinstance(item, BaseException):
                yield b"data: " + json.dumps(refusal(item).body).encode() + b"\n\n"
                return
            unfinished -= item[2] is not None
            yield _chunk(head, *item)
        yield b"data: [DONE]\n\n"
    finally:
        for job in jobs:
            job.cancel()
        for task in tasks:
            task.cancel()


def _chunk(head: dict[str, Any], index: int, text: str, reason: str | None) -> bytes:
    choice = {"text": text, "index": index, "logprobs": None, "finish_reason": reason}
    return b"data: " + json.dumps({**head, "choices": [choice]}).encode() + b"\n\n"


async def _growth(
    service: Service, job: Job, choice: Choice, stops: list[str], final: bool
) -> AsyncIterator[tuple[str, str | None]]:
    """Yield pieces of one completion from left to right, and why it ends with the last one; one piece if tokens are not final."""
    tokenizer, sent = service.trained.tokenizer, ""
    mask, held = tokenizer.mask_token_id, max((len(stop) - 1 for stop in stops), default=0)
    assert mask is not None  # or no request would be accepted
    row: list[int] = []
    begin = end = 0
    while True:
        name, data = await job.events.get()
        if name == "error":
            raise data
        if name == "done":
            service.meters.placed.inc(choice.task.masked)
            text, stopped = cut(data.fills[-1].text, stops)
            yield text.removeprefix(sent), "stop" if stopped else "length"
            return
        if name == "start":
            row = list(data)
            end = len(row) - row[::-1].index(mask)
            begin = end - choice.task.masked
            continue
        if not final:
            continue
        for token in data["unmasked"]:
            row[token["position"]] = token["id"]
        known = next((n for n in range(begin, end) if row[n] == mask), end)
        text, stopped = cut(added_text(tokenizer, choice.before, row[begin:known]).rstrip("\ufffd"), stops)
        text = text if stopped else text[: len(text) - held]
        if len(text) > len(sent) and text.startswith(sent):
            yield text[len(sent) :], None
            sent = text
