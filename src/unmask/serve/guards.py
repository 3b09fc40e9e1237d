"""What stands before the routes: keys, the size and the pace of requests and answers.

Keys          ``Authorization: Bearer KEY``, compared in constant time
WholeBody     a body is read up to its limit, in limited time, before anything parses it
PatientSend   a client that stops reading an answer is disconnected
HeaderTimer   Uvicorn's protocol, which ends a connection whose headers take too long, or whose answer is not read
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from unmask.serve.failures import Refused

OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/openapi.json"})


async def send_refusal(error: Refused, send: Send) -> None:
    """Answer a request with an error."""
    body = json.dumps(error.body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
    if error.status in (408, 413):
        headers["connection"] = "close"  # the rest of the body is not read
    await send(
        {
            "type": "http.response.start",
            "status": error.status,
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})


class Keys:
    """Refuse requests without a key.

    Args:
        app: the application.
        keys: accepted keys; none = all requests.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self.app = app
        self._digests = [sha256(key.encode()).digest() for key in keys]

    def accepts(self, header: bytes) -> bool:
        """Tell whether an ``Authorization`` header holds a key. The time does not depend on the key."""
        scheme, _, key = header.partition(b" ")
        digest, found = sha256(key.strip()).digest(), False
        for known in self._digests:
            found |= hmac.compare_digest(digest, known)
        return found and scheme.lower() == b"bearer"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] == "http"
            and self._digests
            and scope["path"] not in OPEN_PATHS
            and scope["method"] != "OPTIONS"
        ):
            headers = [value for name, value in scope["headers"] if name == b"authorization"]
            if len(headers) != 1 or not self.accepts(headers[0]):
                error = Refused(
                    401,
                    "Give an API key: Authorization: Bearer KEY.",
                    code="invalid_api_key",
                    headers={"WWW-Authenticate": "Bearer"},
                )
                await send_refusal(error, send)
                return
        await self.app(scope, receive, send)


class WholeBody:
    """Read the body of a request before its route runs.

    Args:
        app: the application.
        limit: bytes.
        seconds: time to receive it.
    """

    def __init__(self, app: ASGIApp, limit: int, seconds: float) -> None:
        self.app = app
        self.limit = limit
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self.seconds):
                body = await self._read(scope, receive)
        except TimeoutError:
            await send_refusal(
                Refused(408, "The body of the request did not arrive in time.", code="slow_client"), send
            )
            return
        except Refused as error:
            await send_refusal(error, send)
            return
        if body is None:
            return
        given = False

        async def replay() -> Message:
            nonlocal given
            if not given:
                given = True
                return {"type": "http.request", "body": body, "more_body": False}
            return await receive()

        await self.app(scope, replay, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """Return the body; None if the client has gone."""
        too_large = Refused(413, f"The body exceeds the limit of {self.limit} bytes.", code="too_large")
        for name, value in scope["headers"]:
            if name == b"content-length" and int(value) > self.limit:
                raise too_large
        parts, size = list[bytes](), 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size += len(part)
            if size > self.limit:
                raise too_large
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)


class PatientSend:
    """Disconnect a client that does not read its answer.

    Args:
        app: the application.
        seconds: time in which a part of the answer is taken.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self.app = app
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def limited(message: Message) -> None:
            async with asyncio.timeout(self.seconds):
                await send(message)

        await self.app(scope, receive, limited if scope["type"] == "http" else send)


class HeaderTimer(H11Protocol):
    """Uvicorn's HTTP/1.1 protocol, with a limit on the time in which the headers of a request arrive, or a full write buffer shrinks.

    Attributes:
        seconds: the limit; a server sets it on a subclass.
    """

    seconds: float = 20.0
    _timer: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the timer: a client that sends nothing is a slow one."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(self.seconds, self._too_slow)

    def data_received(self, data: bytes) -> None:
        """Stop the timer once the headers are there; start it with the first byte of a further request."""
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._timer = self.loop.call_later(self.seconds, self._too_slow)
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        self._stop_timer()
        self._stop_unread()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start a timer: closing such a connection would wait for its client, so it is aborted."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the timer."""
        self._stop_unread()
        super().resume_writing()

    def _stop_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()
