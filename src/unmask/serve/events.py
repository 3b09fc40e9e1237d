"""Server-sent events of a decode: ``start``, a ``step`` for each forward pass, then ``done`` or ``error``."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from unmask.serve.engine import Job
from unmask.serve.failures import refusal
from unmask.serve.service import Service

log: logging.Logger = logging.getLogger("unmask.serve")
EVENTS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class EventStream(StreamingResponse):
    """A stream of events whose source is closed with the answer, however that ends; a suspended source would keep its decode."""

    def __init__(self, source: AsyncGenerator[bytes, None]) -> None:
        super().__init__(source, media_type="text/event-stream", headers=EVENTS)
        self._source: AsyncGenerator[bytes, None] = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._source.aclose()


def event(name: str, data: Any) -> bytes:
    """Return one event; ``data`` is one line of ASCII."""
    return f"event: {name}\ndata: {json.dumps(data, allow_nan=False)}\n\n".encode()


async def server_sent(service: Service, job: Job, id: str, seed: int) -> AsyncGenerator[bytes, None]:
    """Yield the events of a decode. Closing the iterator, as a disconnected client does, cancels it."""
    mask = service.trained.tokenizer.mask_token_id
    try:
        while True:
            name, data = await job.events.get()
            if name == "start":
                tokens = service.decodes.tokens(data, [token != mask for token in data])
                yield event(
                    "start",
                    {
                        "id": id,
                        "model": service.name,
                        "mask_token": service.trained.tokenizer.mask_token,
                        "tokens": tokens,
                    },
                )
            elif name == "done":
                service.meters.placed.inc(len(data.given) - sum(data.given))
                yield event("done", {"id": id, **service.decodes.reply(data, job, seed)})
                return
            elif name == "error":
                refused = refusal(data)
                if refused.status >= 500:
                    log.error("A streamed request failed.", exc_info=data)
                yield event("error", refused.body)
                return
            else:
                yield event(name, data)
    finally:
        job.cancel()
