"""Options that choose the model of a command: where it is, and how to use one that others trained.

A command declares them with ``@model_options`` and receives one ``ModelChoice``; ``load`` opens the model.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from unmask.cli.options import DEMO_RUN, Device, Dtype, Model, Which

if TYPE_CHECKING:
    from unmask.text.model import TrainedModel

_FOREIGN = functools.partial(typer.Option, rich_help_panel="Models of others")
TrustRemoteCode = Annotated[
    bool,
    _FOREIGN("--trust-remote-code", help="Run the code that comes with the weights (LLaDA, Dream …). Read it first."),
]


@dataclass(frozen=True)
class ModelChoice:
    """The model of a command; each option is described by its help."""

    model: Model = DEMO_RUN
    which: Which = "last"
    device: Device = "auto"
    dtype: Dtype = "auto"
    trust_remote_code: TrustRemoteCode = False
    shift: Annotated[
        bool | None,
        _FOREIGN(
            "--shift/--no-shift",
            help="Read the prediction of a token one position earlier, or not; by default as published, checked on plain text.",
            show_default=False,
        ),
    ] = None
    mask_token: Annotated[
        str | None, _FOREIGN("--mask-token", help="Text or id of the mask, if tokenizer and config name none.")
    ] = None
    attention_block: Annotated[
        int | None,
        _FOREIGN("--attention-block", help="Tokens of an attention block (block diffusion); by default as published."),
    ] = None

    def load(self) -> TrainedModel:
        """Return the model."""
        from unmask.text.loading import load

        return load(
            self.model, self.which, self.device, self.dtype, self.trust_remote_code, self.shift, self.mask_token, self.attention_block
        )  # fmt: skip


DEFAULT_MODEL = ModelChoice()


def model_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of ``ModelChoice`` to a command, in place of its parameter ``chosen``."""
    return options_of(ModelChoice, "chosen", command)


def options_of(choice: type[Any], name_of_choice: str, command: Callable[..., None]) -> Callable[..., None]:
    """Add the fields of a dataclass as options of a command, in place of one of its parameters.

    Args:
        choice: a dataclass with a default for every field.
        name_of_choice: the parameter that receives it.
        command: the command.
    """
    hints = get_type_hints(choice, include_extras=True)
    defaults = {each.name: each.default for each in fields(choice)}

    @functools.wraps(command)
    def run(*positional: Any, **arguments: Any) -> None:
        made = choice(**{name: arguments.pop(name, default) for name, default in defaults.items()})
        command(*positional, **{name_of_choice: made}, **arguments)

    own = get_type_hints(command, {**command.__globals__, choice.__name__: choice}, include_extras=True)
    before = inspect.signature(command).parameters.values()
    parameters: list[inspect.Parameter] = []
    for parameter in before:
        if parameter.name != name_of_choice:
            parameters.append(parameter.replace(annotation=own.get(parameter.name, parameter.annotation)))
            continue
        parameters += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=hints[name])
            for name in defaults
        ]
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # typer reads it
        [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    )
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run
