"""``unmask export``: a trained model as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unmask.cli.options import DEMO_RUN, Json, Which


def export(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write: new, empty, or an unchanged export.")
    ],
    run: Annotated[Path, typer.Argument(metavar="[RUN]", help="Run folder or checkpoint.")] = DEMO_RUN,
    which: Which = "last",
    license: Annotated[
        str | None, typer.Option("--license", help="Licence identifier for the model card, such as apache-2.0.")
    ] = None,
    push: Annotated[
        str | None, typer.Option("--push", metavar="NAME", help="Upload to this Hugging Face repository: user/model.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="With --push: make a new repository private.")] = False,
    as_json: Json = False,
) -> None:
    """Export a model for transformers: weights, tokenizer, code and model card in one folder."""
    from unmask.cli.screen import print_json, show
    from unmask.export.hub_folder import export_run

    if private and push is None:
        raise ValueError(
            "--private makes the repository of --push private, and --push was not given: add it, or drop --private."
        )
    written = export_run(run, output, checkpoint=which, license=license, push_to=push, private=private)
    if as_json:
        print_json(written.as_dict())
        return
    show(f"Exported: {written.folder} ({written.parameters:,} parameters, step {written.step:,})")
    if written.url is not None:
        show(f"Uploaded: {written.url}")
    name = push or str(written.folder)
    show(f"Next: transformers.pipeline('fill-mask', model={name!r}, trust_remote_code=True)")
