"""Prometheus metrics of one service, in a registry of its own."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Meters:
    """Counters, gauges and histograms.

    Attributes:
        waiting, running: requests without and with a place in the batch.
        answered: requests by route and status.
        latency: seconds of a request by route, body to last byte.
        in_queue: seconds until a request has a place.
        batch_rows: rows of a forward pass.
        passes: forward passes.
        computed: tokens that forward passes processed, padding included.
        placed: tokens placed.
        cancelled: requests that ended early, by reason.
    """

    def __init__(self) -> None:
        self.registry: CollectorRegistry = CollectorRegistry()
        own = self.registry
        self.waiting: Gauge = Gauge(
            "unmask_requests_waiting", "Requests that wait for a place in the batch.", registry=own
        )
        self.running: Gauge = Gauge("unmask_requests_running", "Requests that are decoded now.", registry=own)
        self.answered: Counter = Counter(
            "unmask_requests", "Answered requests.", ["route", "status"], registry=self.registry
        )
        self.latency: Histogram = Histogram(
            "unmask_request_seconds", "Time of a request.", ["route"], buckets=_SECONDS, registry=self.registry
        )
        self.in_queue: Histogram = Histogram(
            "unmask_queue_seconds", "Time until a request has a place.", buckets=_SECONDS, registry=self.registry
        )
        self.batch_rows: Histogram = Histogram(
            "unmask_batch_rows", "Rows of a forward pass.", buckets=_ROWS, registry=self.registry
        )
        self.passes: Counter = Counter("unmask_forward_passes", "Forward passes.", registry=own)
        self.computed: Counter = Counter("unmask_tokens_computed", "Tokens processed by forward passes.", registry=own)
        self.placed: Counter = Counter("unmask_tokens_placed", "Tokens placed in finished texts.", registry=own)
        self.cancelled: Counter = Counter(
            "unmask_requests_cancelled", "Requests that ended early.", ["reason"], registry=self.registry
        )

    def page(self) -> bytes:
        """Return the metrics in the text format of Prometheus."""
        return generate_latest(self.registry)


class Metered:
    """Count requests, and their time from the headers to the last byte.

    Args:
        app: the application.
        meters: the metrics.
    """

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        self.app = app
        self.meters = meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.monotonic(), "none"

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
                message["headers"] = [*message.get("headers", ()), (b"x-content-type-options", b"nosniff")]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.meters.answered.labels(route, status).inc()
            self.meters.latency.labels(route).observe(time.monotonic() - begun)
