"""Decoding options of the command line, shared by every command that decodes.

    order      --order --critic --threshold … --block --remask     tokens    --temperature --top-k … --forbid --require --regex --eos
    budget     --steps --schedule                                  network   --guidance --cache --compile

A command declares them with ``@decoding_options(**defaults)`` and receives one ``Decoding``. Names and descriptions of orders, commit rules, remasking
strategies and caches come from the registries of ``unmask.decode.families``: a new entry appears here by itself.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from unmask.cli.decoding_parts import critic_of, pattern, spellings
from unmask.decode.families import CACHES, COMMIT_RULES, COMPOSED_ORDERS, ORDERS, REMASKING

if TYPE_CHECKING:
    from unmask.contracts import MLMModel
    from unmask.decode.logits.constraints import Constraint
    from unmask.decode.predictor import MLMPredictor
    from unmask.decode.rules import Rules
    from unmask.text.generation_defaults import GenerationDefaults

_AXIS = functools.partial(typer.Option, rich_help_panel="Decoding")
_EOS = ("never", "late", "free")


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Decoding options; each option is described by its help."""

    steps: Annotated[
        int | None, _AXIS("--steps", help="Forward passes, at most; by default one per masked position.")
    ] = None
    order: Annotated[
        str,
        _AXIS(
            "--order",
            "--confidence",
            help=f"Which masked position is unmasked first: {ORDERS.help()}; {COMPOSED_ORDERS.help()}.",
        ),
    ] = "random"
    critic: Annotated[
        str | None,
        _AXIS(
            "--critic",
            help="How --order critic rates tokens: hidden (mask each token in turn, one row each; the default) or shown (one forward pass with nothing "
            "masked, for networks trained with loss on visible tokens).",
        ),
    ] = None
    critic_model: Annotated[
        Path | None,
        _AXIS(
            "--critic-model",
            help="Critic model: a run folder with the same tokenizer; by default the model itself.",
            show_default=False,
        ),
    ] = None
    order_temperature: Annotated[
        float, _AXIS("--order-temperature", help="Temperature of the choice of positions; 0 = the highest scores.")
    ] = 0.0
    bounds: Mapping[str, float] = field(default_factory=dict)  # one option per commit rule, see decoding_options
    non_adjacent: Annotated[
        bool,
        _AXIS(
            "--non-adjacent",
            help="Unmask at most one token per contiguous masked span and step, as far as the budget allows: adjacent tokens of one step tend to repeat.",
        ),
    ] = False
    schedule: Annotated[
        str | None,
        _AXIS("--schedule", help="How many positions per step: linear, cosine, quadratic …; by default uniform."),
    ] = None
    block: Annotated[
        int | None,
        _AXIS(
            "--block",
            help="Unmask blocks of this many tokens from left to right; counted from the first masked position, or like the network's attention blocks.",
        ),
    ] = None
    remask: Annotated[
        str | None,
        _AXIS("--remask", help=f"Mask unmasked tokens again: {REMASKING.help()}."),
    ] = None
    remask_rate: Annotated[
        float, _AXIS("--remask-rate", help="ReMDM's eta: how often cap, rescale and confidence remask.")
    ] = 0.1
    remask_until: Annotated[
        float | None,
        _AXIS("--remask-until", help="Remask only while the unmasked fraction is below this (ReMDM-switch)."),
    ] = None
    remask_hold: Annotated[
        float | None,
        _AXIS("--remask-hold", help="For half of the steps, only remask, at this unmasked fraction (ReMDM-loop)."),
    ] = None
    temperature: Annotated[
        float, _AXIS("--temperature", help="Sampling temperature of the tokens; 0 = the likeliest token.")
    ] = 1.0
    top_k: Annotated[int | None, _AXIS("--top-k", help="Sample among the k likeliest tokens.")] = None
    top_p: Annotated[
        float | None, _AXIS("--top-p", help="Sample among the likeliest tokens with this total probability.")
    ] = None
    min_p: Annotated[
        float | None,
        _AXIS("--min-p", help="Sample among tokens with at least this fraction of the largest probability."),
    ] = None
    repetition_penalty: Annotated[
        float,
        _AXIS("--repetition-penalty", help="Above 1 lowers the logits of tokens that occur in the text already."),
    ] = 1.0
    forbid: Annotated[
        list[str] | None, _AXIS("--forbid", help="A word that never appears; repeat for several.", show_default=False)
    ] = None
    require: Annotated[
        list[str] | None,
        _AXIS("--require", help="A word that appears at least once; repeat for several.", show_default=False),
    ] = None
    regex: Annotated[
        str | None,
        _AXIS(
            "--regex",
            help="A pattern of Python's re that the whole text of every masked span matches, such as '[0-9]{2} (cats|dogs)'.",
        ),
    ] = None
    guidance: Annotated[
        float,
        _AXIS("--guidance", help="Weight of classifier-free guidance by the given text; 0 = the plain model."),
    ] = 0.0
    cache: Annotated[
        str | None,
        _AXIS("--cache", help=f"Reuse keys and values, for --block: {CACHES.help()}."),
    ] = None
    cache_refresh: Annotated[
        int | None,
        _AXIS(
            "--cache-refresh",
            help="Recompute whole rows every this many forward passes too, not only when a block opens.",
        ),
    ] = None
    compiled: Annotated[
        bool,
        _AXIS(
            "--compile",
            help="Run the network through torch.compile in a few shapes: for long jobs on accelerators; slower on a CPU. Not with --cache.",
        ),
    ] = False
    eos: Annotated[
        str,
        _AXIS(
            "--eos", help="End of text: never, late (only after complete text), free (wherever the model predicts it)."
        ),
    ] = "never"
    seed: Annotated[int, typer.Option("--seed", help="Random seed.")] = 0
    decided: bool = False  # no option: whether order or budget are given, so that generation.json is not read
    tuned: GenerationDefaults | None = None  # no option

    def with_defaults_of(self, checkpoint: Path) -> Decoding:
        """Return these options with order and budget of the run's ``generation.json``, if none are given; print a note."""
        from unmask.cli.screen import note
        from unmask.text.generation_defaults import GenerationDefaults

        tuned = None if self.decided else GenerationDefaults.of(checkpoint)
        if tuned is None:
            return self
        note(f"Defaults of generation.json: {tuned}.")
        bounds = {} if tuned.threshold is None else {"threshold": tuned.threshold}
        return replace(self, order=tuned.order, bounds=bounds, tuned=tuned)

    def rules(self, model: MLMModel | None, tokenizer: Any, blanks: int) -> Rules:
        """Return the rules for rows with at most ``blanks`` masked positions. Blocks are aligned with the network's attention blocks, if any.

        Raises:
            ValueError: options out of range or in contradiction, or a word of several tokens.
        """
        from unmask.contracts import SpecialIds
        from unmask.data.tokenizing.token_bytes import parts_of_characters
        from unmask.decode.left_to_right import order_for, rules_for_network
        from unmask.decode.named import make_rules

        if self.order not in (*ORDERS, *COMPOSED_ORDERS):
            raise ValueError(
                f"--order {self.order} is not known: choose one of {', '.join((*ORDERS, *COMPOSED_ORDERS))}."
            )
        if self.eos not in _EOS:
            raise ValueError(f"--eos {self.eos} is not known: choose one of {', '.join(_EOS)}.")
        if len(self.bounds) > 1:
            options = " and ".join(f"--{name.replace('_', '-')}" for name in self.bounds)
            raise ValueError(f"{options} were given, and each decides how many positions a step unmasks. Choose one.")
        causal_block = getattr(model, "causal_block", None)
        critic_model = (
            None
            if self.order != "critic" and self.critic_model is None
            else critic_of(model, tokenizer, self.critic_model)
        )
        one_per_step = 2 * blanks - 1 if self.order == "critic" else blanks  # forward passes for one token per step
        rules = make_rules(
            self._default_steps(one_per_step) if self.steps is None else self.steps,
            special=SpecialIds.of(tokenizer),
            order=order_for(model, self.order),
            order_temperature=self.order_temperature,
            critic=self.critic,
            critic_model=critic_model,
            commit_rule=next(iter(self.bounds.items()), None),
            non_adjacent=self.non_adjacent,
            schedule=self.schedule,
            block_length=causal_block if self.block is None and self.cache == "block" else self.block,
            aligned_blocks=causal_block is not None and self.block is not None,
            remask=self.remask,
            remask_rate=self.remask_rate,
            remask_until=self.remask_until,
            remask_hold=self.remask_hold,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            forbidden_ids=[
                *(i for word in self.forbid or () for i in spellings(tokenizer, word, "--forbid")),
                *(
                    parts_of_characters(tokenizer) if self.require else ()
                ),  # the automaton of required words reads no bytes
            ],
            required_ids=[spellings(tokenizer, word, "--require")[0] for word in self.require or ()],
            constraint=self._constraint(tokenizer),
            guidance=self.guidance,
            cache=self.cache,
            cache_refresh=self.cache_refresh,
            compiled=self.compiled,
            allow_eos=self.eos != "never",
            eos_last=self.eos == "late",
            stop_at_eos=self.eos != "never" and self.remask is None,
        )
        return rules_for_network(model, rules)

    def _default_steps(self, one_per_step: int) -> int:
        return one_per_step if self.tuned is None else self.tuned.steps(one_per_step)

    def _constraint(self, tokenizer: Any) -> Constraint | None:
        """Return the pattern, or whole characters; None with required words, which are a constraint of their own."""
        from unmask.decode.logits.characters import WholeCharacters

        if self.regex is not None:
            return pattern(tokenizer, self.regex)
        return None if self.require else WholeCharacters.of(tokenizer)

    def predictor(self, model: MLMModel, tokenizer: Any, *, blanks: int, new_tokens: int | None = None) -> MLMPredictor:
        """Return a predictor with these rules.

        Args:
            model: the network.
            tokenizer: its tokenizer.
            blanks: masked positions of the row that has most.
            new_tokens: masked positions appended to every row, or None.
        """
        from unmask.decode.predictor import MLMPredictor

        rules = self.rules(model, tokenizer, blanks)
        return MLMPredictor(rules.max_steps, new_tokens, tokenizer, model, rules=rules, seed=self.seed)


def decoding_options(**defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options of ``Decoding`` to a command, some with other defaults; the command receives them as ``decoding``."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**arguments: Any) -> None:
            context = arguments.pop("context", None)
            bounds = {name: arguments.pop(name) for name in COMMIT_RULES}
            given = {name: bound for name, bound in bounds.items() if bound is not None}
            options = {name: arguments.pop(name) for name in hints}
            decoding = Decoding(bounds=given, decided=bool(given) or _decides_order(context), **options)
            command(decoding=decoding, **arguments)

        hints = [f.name for f in fields(Decoding) if f.name not in _NO_OPTIONS]
        annotations = get_type_hints(Decoding, {**globals(), "GenerationDefaults": Any}, include_extras=True)
        own = get_type_hints(command, {**command.__globals__, "Decoding": Decoding}, include_extras=True)
        parameters = [
            p.replace(annotation=own[name], kind=p.KEYWORD_ONLY)
            for name, p in inspect.signature(command).parameters.items()
            if name != "decoding"
        ]
        for f in fields(Decoding):
            if f.name == "bounds":
                parameters += [_bound_option(name) for name in COMMIT_RULES]
            elif f.name not in _NO_OPTIONS:
                default = defaults.get(f.name, f.default)
                parameters.append(
                    inspect.Parameter(
                        f.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotations[f.name]
                    )
                )
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter("context", kind, annotation=typer.Context))
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads the signature
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


_NO_OPTIONS = ("bounds", "decided", "tuned")
_DECIDE = ("steps", "order", "critic", "order_temperature", "non_adjacent", "schedule", "block", "remask", "cache")


def _decides_order(context: typer.Context | None) -> bool:
    """Tell whether the command line gives an option of order or budget."""
    sources = [] if context is None else [context.get_parameter_source(name) for name in _DECIDE]
    return any(source is not None and source.name == "COMMANDLINE" for source in sources)


def _bound_option(name: str) -> inspect.Parameter:
    """Return the option of one commit rule."""
    text = COMMIT_RULES.descriptions[name]
    option = _AXIS(f"--{name.replace('_', '-')}", help=f"{text[0].upper()}{text[1:]}.")
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[float | None, option]
    )
