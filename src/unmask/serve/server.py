"""The Uvicorn process of the service: one worker, HTTP/1.1, a graceful end."""

from __future__ import annotations

from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from unmask.serve.guards import HeaderTimer
from unmask.serve.settings import ServeSettings


class Server(uvicorn.Server):
    """A Uvicorn server that reports its address.

    Args:
        config: of Uvicorn.
        ready: receives the URL once requests are accepted.
    """

    def __init__(self, config: uvicorn.Config, ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Start, and report the address."""
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            address = self.servers[0].sockets[0].getsockname()
            host = f"[{address[0]}]" if ":" in address[0] else address[0]
            self._ready(f"http://{host}:{address[1]}")


def run_server(app: FastAPI, settings: ServeSettings, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. Requests that run are finished first, within their time; new ones are refused.

    Args:
        app: the application.
        settings: address and limits.
        ready: receives the URL once requests are accepted.
    """
    protocol = type("TimedProtocol", (HeaderTimer,), {"seconds": settings.read_seconds})
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=protocol,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=max(1, int(settings.read_seconds)),
        timeout_graceful_shutdown=int(settings.seconds) + 1,
        h11_max_incomplete_event_size=1 << 16,
        limit_concurrency=4 * (settings.max_rows + settings.max_queue) + 64,
    )
    Server(config, ready).run()
