"""Server-sent events of a decode: ``start``, a ``step`` for each forward pass, then ``done`` or ``error``."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

from unmask.serve.engine import Job
from unmask.serve.failures import refusal
from unmask.serve.service import Service

log: logging.Logger = logging.getLogger("unmask.serve")
EVENTS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def event(name: str, data: Any) -> bytes:
    """Return one event; ``data`` is one line of ASCII."""
    return f"event: {name}\ndata: {json.dumps(data, allow_nan=False)}\n\n".encode()


async def server_sent(service: Service, job: Job, id: str, seed: int) -> AsyncIterator[bytes]:
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
