"""``unmask serve``: a model behind HTTP."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from unmask.cli.model_options import DEFAULT_MODEL, ModelChoice, model_options


@model_options
def serve(
    run: Annotated[
        str | None,
        typer.Argument(
            help="Run folder, checkpoint, or Hugging Face model folder or name; like --model.", show_default=False
        ),
    ] = None,
    chosen: ModelChoice = DEFAULT_MODEL,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine's own need an API key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 = any free one.")] = 8000,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the model for clients; by default that of its folder.", show_default=False),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(help="File with one API key per line, beside those of UNMASK_SERVE_KEYS.", show_default=False),
    ] = None,
    open_to_all: Annotated[
        bool, typer.Option("--open", help="Listen on an address that others reach, without a key.")
    ] = False,
    max_rows: Annotated[int, typer.Option(help="Requests decoded together.")] = 64,
    max_queue: Annotated[int, typer.Option(help="Requests that wait; further ones get status 429.")] = 256,
    max_tokens: Annotated[int, typer.Option(help="Tokens of one request, masked ones included.")] = 1024,
    max_steps: Annotated[int, typer.Option(help="Forward passes of one request.")] = 1024,
    seconds: Annotated[float, typer.Option(help="Time of one request, waiting included.")] = 120.0,
    max_body: Annotated[int, typer.Option(help="Bytes of the body of a request.")] = 1 << 20,
    read_seconds: Annotated[
        float, typer.Option(help="Time in which a client sends a request, and reads a part of an answer.")
    ] = 20.0,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Origin of another site that may call the service from a browser; repeat for several.",
            show_default=False,
        ),
    ] = None,
    batching: Annotated[
        str, typer.Option(help="continuous; or, for comparison, batches that nothing joins: static, dropping.")
    ] = "continuous",
) -> None:
    """Serve a model over HTTP: fill, generate, score, embed, and OpenAI's completions."""
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ValueError(f"unmask serve needs the package {error.name}: pip install 'unmask[serve]'.") from None
    from unmask.cli.screen import note
    from unmask.serve.app import create_app
    from unmask.serve.server import run_server
    from unmask.serve.settings import ServeSettings, read_keys
    from unmask.text.generation_defaults import GenerationDefaults

    settings = ServeSettings(
        host=host,
        port=port,
        keys=read_keys(keys),
        max_rows=max_rows,
        max_queue=max_queue,
        max_tokens=max_tokens,
        max_steps=max_steps,
        seconds=seconds,
        max_body=max_body,
        read_seconds=read_seconds,
        origins=tuple(origin or ()),
        batching=batching,
    )
    settings.check_address(open_to_all)
    chosen = chosen if run is None else replace(chosen, model=Path(run))
    model = str(chosen.model)
    trained = chosen.load()
    if (tuned := GenerationDefaults.of(trained.folder)) is not None:
        note(f"Defaults of generation.json: {tuned}.")
    app = create_app(trained, name or Path(model).resolve().name, settings)
    run_server(
        app, settings, lambda url: note(f"Serving {model} at {url} (OpenAPI: {url}/openapi.json). Stop with Ctrl-C.")
    )
