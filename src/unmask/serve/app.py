"""The application: routes, and what stands before them (``unmask.serve.guards``)."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from unmask import __version__
from unmask.evaluate.scoring import score_texts
from unmask.serve.completions import add_completions
from unmask.serve.engine import Busy, Job, TooLate
from unmask.serve.events import EventStream, server_sent
from unmask.serve.failures import Refused, refusal
from unmask.serve.guards import Keys, PatientSend, WholeBody
from unmask.serve.meters import Metered
from unmask.serve.page_file import POLICY, page_html
from unmask.serve.schemas import (
    DecodeBody,
    DecodeReply,
    EmbedBody,
    EmbedReply,
    ErrorReply,
    GenerateBody,
    Health,
    ModelList,
    ScoreBody,
    ScoreReply,
)
from unmask.serve.service import FILL, GENERATE, NEW_TOKENS, Service, while_connected
from unmask.serve.settings import ServeSettings
from unmask.text.model import TrainedModel

log: logging.Logger = logging.getLogger("unmask.serve")
EMBEDDED = 8
"""Texts of one forward pass of an embedding; its time is checked before each."""
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorReply, "description": text}
    for status, text in (
        (400, "A value that cannot be served."),
        (401, "No API key, or a wrong one."),
        (408, "Too slow: the client, or the request."),
        (413, "The body is too large."),
        (422, "A body of another form."),
        (429, "Too many requests wait; Retry-After says when to come again."),
        (500, "The service failed."),
    )
}


def create_app(trained: TrainedModel, name: str, settings: ServeSettings | None = None) -> FastAPI:
    """Return the application that serves a model. It decodes while its lifespan runs.

    Args:
        trained: the model.
        name: its name for clients.
        settings: limits and keys; the defaults if None.
    """
    settings = settings or ServeSettings()
    service = Service(trained, name, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.start)
        yield
        await asyncio.to_thread(service.engine.stop)

    app = FastAPI(
        title="unmask",
        version=__version__,
        description="A masked language model: fill, generate, score, embed.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses=ERRORS,
    )
    app.state.service = service
    _add_errors(app)
    _add_state(app, service)
    _add_decodes(app, service)
    _add_measures(app, service)
    add_completions(app, service)

    app.add_middleware(WholeBody, limit=settings.max_body, seconds=settings.read_seconds)
    app.add_middleware(Keys, keys=settings.keys)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(settings.origins), allow_methods=["*"], allow_headers=["*"]
        )
    app.add_middleware(PatientSend, seconds=settings.read_seconds)
    app.add_middleware(Metered, meters=service.meters)
    return app


def _answer(error: BaseException) -> JSONResponse:
    refused = refusal(error)
    return JSONResponse(refused.body, refused.status, refused.headers)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def wrong_body(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body") or None
        return _answer(Refused(422, f"{place or 'The body'}: {first['msg']}.", place, first["type"]))

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> JSONResponse:
        return _answer(Refused(error.status_code, f"{error.detail}.", headers=dict(error.headers or {})))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        refused = refusal(error)
        if refused.status >= 500:
            log.error("A request failed.", exc_info=error)
        return _answer(refused)

    for kind in (Refused, Busy, TooLate, ValueError):
        app.add_exception_handler(kind, failed)


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(
            page_html(), headers={"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}
        )

    @app.get("/healthz", tags=["state"])
    async def healthz() -> Health:
        """Tell whether the process lives."""
        return Health(status="ok")

    @app.get("/readyz", tags=["state"], responses={503: {"model": ErrorReply}})
    async def readyz() -> Health:
        """Tell whether requests are accepted."""
        if not service.engine.accepts:
            raise Refused(503, "The service does not accept requests.", code="not_ready")
        return Health(status="ready")

    @app.get("/metrics", tags=["state"], response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Return the metrics for Prometheus."""
        return Response(service.meters.page(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/models", tags=["models"])
    async def models() -> ModelList:
        """Describe the served model."""
        return ModelList(object="list", data=[service.card()])


def _add_decodes(app: FastAPI, service: Service) -> None:
    async def decode(request: Request, body: DecodeBody, defaults: dict[str, Any], length: int) -> Any:
        task = service.decodes.task(body, length)
        rules = await service.decodes.rules(body, **defaults)
        job, id = Job(service.settings.seconds), f"{'fill' if not length else 'gen'}-{uuid.uuid4().hex[:24]}"
        job.work = service.decodes.work(task, rules, body.seed, job, body.top_k if body.stream else None)
        service.engine.submit(job)
        if body.stream:
            return EventStream(server_sent(service, job, id, body.seed))
        answer = await while_connected(request, job.result(), job)
        service.meters.placed.inc(len(answer.given) - sum(answer.given))
        return {"id": id, "model": service.name, **service.decodes.reply(answer, job, body.seed)}

    streams: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}

    @app.post("/v1/fill", tags=["decoding"], response_model=DecodeReply, responses=streams)
    async def fill(request: Request, body: DecodeBody) -> Any:
        """Fill the blanks of a text or the nulls of a row; with `stream`, send every step."""
        return await decode(request, body, FILL, 0)

    @app.post("/v1/generate", tags=["decoding"], response_model=DecodeReply, responses=streams)
    async def generate(request: Request, body: GenerateBody) -> Any:
        """Continue a text by `length` tokens; with `stream`, send every step."""
        return await decode(request, body, GENERATE, min(NEW_TOKENS, service.decodes.limit // 2))


def _add_measures(app: FastAPI, service: Service) -> None:
    trained = service.trained

    def texts_of(text: str | list[str]) -> list[str]:
        texts = [text] if isinstance(text, str) else text
        if not texts or any(not each for each in texts):
            raise Refused(400, "Give one text or more, none of them empty.", "text")
        tokens = [len(trained.tokenizer.encode(each)) for each in texts]
        if max(tokens) > service.decodes.limit or sum(tokens) > 64 * service.decodes.limit:
            raise Refused(
                400,
                f"A text has {max(tokens)} tokens, and the limit is {service.decodes.limit}.",
                "text",
                "context_length_exceeded",
            )
        return texts

    @app.post("/v1/score", tags=["measures"])
    async def score(request: Request, body: ScoreBody) -> ScoreReply:
        """Score texts by log-probability in nats; higher is more likely."""
        texts, model = texts_of(body.text), trained.model
        samples = body.samples if body.bound else None

        def run(check: Callable[..., None]) -> list[dict[str, Any]]:
            scores = score_texts(model, trained.tokenizer, texts, samples=samples, seed=body.seed, progress=check)  # type: ignore[arg-type]
            return [each.as_dict() for each in scores]

        scores = await while_connected(request, service.engine.measure(run))
        return ScoreReply(model=service.name, scores=scores)

    @app.post("/v1/embed", tags=["measures"])
    async def embed(request: Request, body: EmbedBody) -> EmbedReply:
        """Embed texts as the mean hidden state of their tokens."""
        texts = texts_of(body.text)

        def run(check: Callable[..., None]) -> list[list[float]]:
            vectors = list[list[float]]()
            for start in range(0, len(texts), EMBEDDED):
                check()
                vectors += trained.embed(texts[start : start + EMBEDDED], batch_size=EMBEDDED).tolist()
            return vectors

        vectors = await while_connected(request, service.engine.measure(run))
        return EmbedReply(model=service.name, embeddings=vectors)
