"""The axes of a decode as command-line options: one table, shared by every command that decodes.

    where    --order --critic --threshold … --block --remask      what   --temperature --top-k … --forbid --require --regex --eos
    budget   --steps --schedule                          network   --guidance --cache --compile

A command takes them with ``@decoding_options(**defaults)`` and receives one ``Decoding``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from unmask.decode.logits.constraints import Constraint
    from unmask.decode.predictor import MLMPredictor
    from unmask.decode.rules import Rules

_AXIS = functools.partial(typer.Option, rich_help_panel="Decoding")
_RANDOM_ORDERS = ("first_hitting", "ancestral")  # the random order under a budget of its own
_EOS = ("never", "late", "free")


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """What a user asked of a decode; the meaning of each option is its help."""

    steps: Annotated[int | None, _AXIS("--steps", help="Network evaluations, at most; by default one per blank.")] = (
        None
    )
    order: Annotated[
        str,
        _AXIS(
            "--order",
            "--confidence",
            help="Which blanks first: top_prob, prob_diff, entropy (the surest), random, left_to_right, drawn_prob (MaskGIT), critic (draw, then keep what "
            "a network believes), first_hitting (random, one a step: exact), ancestral (random, each at its own time).",
        ),
    ] = "random"
    critic: Annotated[
        str | None,
        _AXIS(
            "--critic",
            help="How --order critic asks: hidden (each drawn token hidden in turn: a row each; the default) or shown (all at once; for networks that "
            "were trained on visible tokens too).",
        ),
    ] = None
    critic_model: Annotated[
        Path | None,
        _AXIS(
            "--critic-model",
            help="The run that judges, with the same tokenizer; by default the model itself.",
            show_default=False,
        ),
    ] = None
    order_temperature: Annotated[
        float, _AXIS("--order-temperature", help="Chance in the choice of blanks; 0 = the surest.")
    ] = 0.0
    threshold: Annotated[
        float | None,
        _AXIS("--threshold", help="Reveal every blank at least this sure (0 to 1) instead of a fixed number a step."),
    ] = None
    cumulative_error: Annotated[
        float | None, _AXIS("--cumulative-error", help="Reveal the surest while their errors sum to less than this.")
    ] = None
    factor: Annotated[
        float | None,
        _AXIS("--factor", help="Reveal the n surest while (n + 1) times the last one's error is below this."),
    ] = None
    entropy_bound: Annotated[
        float | None,
        _AXIS("--entropy-bound", help="Reveal the surest while their entropies (nats) sum to at most this."),
    ] = None
    non_adjacent: Annotated[
        bool,
        _AXIS(
            "--non-adjacent",
            help="One token a step in each run of neighbouring blanks, as far as the budget allows: neighbours tend to repeat.",
        ),
    ] = False
    schedule: Annotated[
        str | None, _AXIS("--schedule", help="How many a step: linear, cosine, quadratic … ; by default equal shares.")
    ] = None
    block: Annotated[
        int | None,
        _AXIS(
            "--block",
            help="Finish one block of so many tokens before the next; counted from the first blank, or as the network's attention blocks are.",
        ),
    ] = None
    remask: Annotated[
        str | None,
        _AXIS("--remask", help="Hide revealed tokens again: cap, rescale, confidence (ReMDM), mask_predict."),
    ] = None
    remask_rate: Annotated[float, _AXIS("--remask-rate", help="How often, for cap, rescale and confidence.")] = 0.1
    remask_until: Annotated[
        float | None,
        _AXIS("--remask-until", help="Remask only while a smaller share than this is revealed (ReMDM-switch)."),
    ] = None
    remask_hold: Annotated[
        float | None,
        _AXIS(
            "--remask-hold", help="For half of the steps, stand still at this share revealed and revise (ReMDM-loop)."
        ),
    ] = None
    temperature: Annotated[float, _AXIS("--temperature", help="Of the tokens; 0 = always the likeliest.")] = 1.0
    top_k: Annotated[int | None, _AXIS("--top-k", help="Draw among the k likeliest tokens.")] = None
    top_p: Annotated[
        float | None, _AXIS("--top-p", help="Draw among the likeliest tokens that make up this probability.")
    ] = None
    min_p: Annotated[
        float | None, _AXIS("--min-p", help="Draw among tokens at least this many times as likely as the likeliest.")
    ] = None
    repetition_penalty: Annotated[
        float, _AXIS("--repetition-penalty", help="Above 1 makes tokens that already stand in the text less likely.")
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
            help="A pattern, as Python's re reads it, that the text of every run of blanks matches whole, such as '[0-9]{2} (cats|dogs)'.",
        ),
    ] = None
    guidance: Annotated[float, _AXIS("--guidance", help="Follow the given text more closely; 0 = the plain model.")] = (
        0.0
    )
    cache: Annotated[
        str | None,
        _AXIS(
            "--cache",
            help="Remember keys and values: block (exact, for networks trained with model.causal_block), or prefix, dual, vicinity, delayed (approximate, "
            "for any; meant for --block).",
        ),
    ] = None
    cache_refresh: Annotated[
        int | None,
        _AXIS("--cache-refresh", help="Run rows whole every so many evaluations too, not only when a block opens."),
    ] = None
    compiled: Annotated[
        bool,
        _AXIS(
            "--compile",
            help="Through torch.compile, in few shapes: for long work, as compiling takes a while; slower on a CPU. Not with --cache.",
        ),
    ] = False
    eos: Annotated[
        str,
        _AXIS(
            "--eos", help="End of text: never, late (once all before it is written), free (wherever the model puts it)."
        ),
    ] = "never"
    seed: Annotated[int, typer.Option("--seed", help="Of everything random.")] = 0

    def rules(self, model: Any, tokenizer: Any, blanks: int) -> Rules:
        """The rules for rows of at most ``blanks`` blanks. Blocks are lined up with the attention blocks of a network that has them.

        Raises:
            ValueError: options out of range or in contradiction, or a word that is not one token.
        """
        from unmask.contracts import SpecialIds
        from unmask.data.tokenizing.token_bytes import parts_of_characters
        from unmask.decode.named import ORDERS, make_rules

        orders = (*ORDERS, "critic", *_RANDOM_ORDERS)
        if self.order not in orders:
            raise ValueError(f"--order {self.order} is not known: choose {', '.join(orders)}.")
        if self.eos not in _EOS:
            raise ValueError(f"--eos {self.eos} is not known: choose {', '.join(_EOS)}.")
        causal_block = getattr(model, "causal_block", None)
        judge = (
            None
            if self.order != "critic" and self.critic_model is None
            else _judge(model, tokenizer, self.critic_model)
        )
        forward_passes = 2 * blanks - 1 if self.order == "critic" else blanks  # that place one token a step
        return make_rules(
            forward_passes if self.steps is None else self.steps,
            special=SpecialIds.of(tokenizer),
            order="random" if self.order in _RANDOM_ORDERS else self.order,
            ancestral=self.order == "ancestral",
            first_hitting=self.order == "first_hitting",
            order_temperature=self.order_temperature,
            critic=self.critic,
            critic_model=judge,
            threshold=self.threshold,
            cumulative_error=self.cumulative_error,
            factor=self.factor,
            entropy_bound=self.entropy_bound,
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
                *(i for word in self.forbid or () for i in _spellings(tokenizer, word, "--forbid")),
                *(parts_of_characters(tokenizer) if self.require else ()),  # what requires words does not count bytes
            ],
            required_ids=[_spellings(tokenizer, word, "--require")[0] for word in self.require or ()],
            constraint=self._constraint(tokenizer),
            guidance=self.guidance,
            cache=self.cache,
            cache_refresh=self.cache_refresh,
            compiled=self.compiled,
            allow_eos=self.eos != "never",
            eos_last=self.eos == "late",
            stop_at_eos=self.eos != "never" and self.remask is None,
        )

    def _constraint(self, tokenizer: Any) -> Constraint | None:
        """What tokens may stand together: a pattern, or whole characters; None where required words take that place."""
        from unmask.decode.logits.characters import WholeCharacters

        if self.regex is not None:
            return _pattern(tokenizer, self.regex)
        return None if self.require else WholeCharacters.of(tokenizer)

    def predictor(self, model: Any, tokenizer: Any, *, blanks: int, new_tokens: int | None = None) -> MLMPredictor:
        """A predictor under these rules; ``blanks`` of the row that has most, ``new_tokens`` appended to every row."""
        from unmask.decode.predictor import MLMPredictor

        rules = self.rules(model, tokenizer, blanks)
        return MLMPredictor(rules.max_steps, new_tokens, tokenizer, model, rules=rules, seed=self.seed)


def decoding_options(**defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of ``Decoding``, some with other defaults; it receives them as its argument ``decoding``."""

    def give(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**given: Any) -> None:
            command(decoding=Decoding(**{name: given.pop(name) for name in hints}), **given)

        hints = get_type_hints(Decoding, include_extras=True)
        own = get_type_hints(command, {**command.__globals__, "Decoding": Decoding}, include_extras=True)
        parameters = [
            p.replace(annotation=own[name], kind=p.KEYWORD_ONLY)
            for name, p in inspect.signature(command).parameters.items()
            if name != "decoding"
        ]
        axes = [
            inspect.Parameter(
                f.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=defaults.get(f.name, f.default),
                annotation=hints[f.name],
            )
            for f in fields(Decoding)
        ]
        run.__signature__ = inspect.Signature([*parameters, *axes])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in (*parameters, *axes)}
        return run

    return give


def _judge(model: Any, tokenizer: Any, run: Path | None) -> Any:
    """The network that judges: that of another run, or the one that decodes.

    Raises:
        ValueError: the other run has another tokenizer, so that its ids mean other words.
    """
    if run is None:
        return model
    from unmask.runs import load_run

    other = load_run(run)
    if other.tokenizer.fingerprint != tokenizer.fingerprint:
        raise ValueError(
            f"--critic-model {run} has another tokenizer than --model, so it would judge other words. Give a run trained on the same store or "
            "with the same data.tokenizer."
        )
    return other.model.to(next(model.parameters()).device)


def _pattern(tokenizer: Any, regex: str) -> Constraint:
    """The automaton of a pattern over what this tokenizer's tokens write."""
    from unmask.text.patterns import pattern_automaton

    return pattern_automaton(tokenizer, regex)


def _spellings(tokenizer: Any, word: str, option: str) -> list[int]:
    """The tokens that write a word: as the next word of a text (with a space before it) first, then as it stands."""
    if not word.strip():
        raise ValueError(f"{option} {word!r} is no word: give one that is a single token.")
    encoded = [tokenizer.encode(text) for text in (f" {word}", word)]
    single = list(dict.fromkeys(ids[0] for ids in encoded if len(ids) == 1))
    if not single:
        pieces = ", ".join(repr(tokenizer.token_text(i)) for i in encoded[1])
        raise ValueError(
            f"{option} {word!r}: this tokenizer writes it as {len(encoded[1])} tokens ({pieces or 'none'}), and the option is about "
            "single tokens. Give a word that is one token, or a piece of this one."
        )
    return single
