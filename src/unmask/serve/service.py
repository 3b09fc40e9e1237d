"""``Service``: the parts of a running service, shared by its routes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, TypeVar

from fastapi import Request

from unmask import __version__
from unmask.decode.continuous import company_changes_nothing
from unmask.decode.families import COMPOSED_ORDERS, ORDERS
from unmask.devices import device_of
from unmask.serve.engine import Engine, Job
from unmask.serve.failures import Refused
from unmask.serve.meters import Meters
from unmask.serve.requested import Decodes
from unmask.serve.settings import ServeSettings
from unmask.text.holes import max_length_of
from unmask.text.model import TrainedModel

T = TypeVar("T")
FILL: dict[str, Any] = {"order": "top_prob", "temperature": 0.0}
GENERATE: dict[str, Any] = {"order": "random", "temperature": 0.8}
NEW_TOKENS = 64


class Service:
    """The parts of a running service.

    Args:
        trained: the model.
        name: its name for clients.
        settings: limits.
    """

    def __init__(self, trained: TrainedModel, name: str, settings: ServeSettings) -> None:
        self.trained = trained
        self.name = name
        self.settings = settings
        self.meters: Meters = Meters()
        self.engine: Engine = Engine(trained, settings, self.meters)
        self.decodes: Decodes = Decodes(trained, settings)
        self.created: int = int(time.time())
        self.same_in_company: bool | None = None

    def start(self) -> None:
        """Measure whether company changes answers, and start decoding."""
        mask = self.trained.tokenizer.mask_token_id
        if mask is not None:
            self.same_in_company = company_changes_nothing(
                self.trained.model, len(self.trained.tokenizer), mask, min(self.decodes.limit, 160)
            )
        self.engine.start()

    def card(self) -> dict[str, Any]:
        """Return the entry of ``/v1/models``."""
        config = self.trained.config
        limits = {name: getattr(self.settings, name) for name in ("max_steps", "seconds", "max_rows", "max_queue")}
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "unmask",
            "unmask": {
                "mask_token": self.trained.tokenizer.mask_token,
                "mask_token_id": self.trained.tokenizer.mask_token_id,
                "orders": [*ORDERS, *(name for name in COMPOSED_ORDERS if name != "critic")],
                "max_length": max_length_of(self.trained.model),
                "max_tokens": self.decodes.limit,
                "objective": None if config is None else config.objective.name,
                "defaults": {**FILL, "steps": None, "threshold": None, "seed": 0, "top_k": 5},
                "generate": {**GENERATE, "steps": None, "threshold": None, "seed": 0, "length": NEW_TOKENS},
                "limits": limits,
                "same_in_company": self.same_in_company,
                "device": str(device_of(self.trained.model)),
                "version": __version__,
            },
        }


async def while_connected(request: Request, work: Awaitable[T], *jobs: Job) -> T:
    """Wait for a result; a client that disconnects cancels the jobs."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    waiting, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise Refused(408, "The client has gone.", code="cancelled")
        return waiting.result()
    finally:
        for job in jobs:
            if not waiting.done():
                job.cancel()
        for task in (waiting, leaving):
            if not task.done():
                task.cancel()
