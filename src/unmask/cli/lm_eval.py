"""``unmask lm-eval``: the evaluation harness with the model ``unmask``."""

from __future__ import annotations

import sys

import typer


def lm_eval(context: typer.Context) -> None:
    """Run lm-eval with trained models: options are those of `lm-eval run`, with --model_args pretrained=RUN,likelihood=bound."""
    try:
        from lm_eval.__main__ import cli_evaluate
    except ImportError as error:
        raise ImportError("`unmask lm-eval` needs the package lm-eval. Type: pip install 'unmask[lm-eval]'") from error
    from unmask.harness.adapter import NAME, register_with_harness

    register_with_harness()
    given = list(context.args)
    if not given or given[0] not in ("run", "ls", "validate"):
        given.insert(0, "run")
    if given[0] == "run" and not any(option.split("=")[0] in ("--model", "-M") for option in given):
        given[1:1] = ["--model", NAME]
    before, sys.argv = sys.argv, ["lm-eval", *given]
    try:
        cli_evaluate()
    finally:
        sys.argv = before
