"""Parts of decoding that options name: a critic network, the automaton of a pattern, single tokens of a word."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.decode.logits.constraints import Constraint


def critic_of(model: Any, tokenizer: Any, run: Path | None) -> Any:
    """Return the critic network: that of another run, or the decoding one.

    Raises:
        ValueError: the other run has another tokenizer, so that its ids are other tokens.
    """
    if run is None:
        return model
    from unmask.runs import load_run

    other = load_run(run)
    if other.tokenizer.fingerprint != tokenizer.fingerprint:
        raise ValueError(
            f"--critic-model {run} has another tokenizer than --model, so its ids are other tokens. Give a run trained on the same store or "
            "with the same data.tokenizer."
        )
    return other.model.to(next(model.parameters()).device)


def pattern(tokenizer: Any, regex: str) -> Constraint:
    """Return the automaton of a pattern over this tokenizer's tokens."""
    from unmask.text.patterns import pattern_automaton

    return pattern_automaton(tokenizer, regex)


def spellings(tokenizer: Any, word: str, option: str) -> list[int]:
    """Return the single tokens that write a word: first as the next word of a text (after a space), then by itself."""
    if not word.strip():
        raise ValueError(f"{option} {word!r} is empty: give a word that is a single token.")
    encoded = [tokenizer.encode(text) for text in (f" {word}", word)]
    single = list(dict.fromkeys(ids[0] for ids in encoded if len(ids) == 1))
    if not single:
        pieces = ", ".join(repr(tokenizer.token_text(i)) for i in encoded[1])
        raise ValueError(
            f"{option} {word!r}: this tokenizer writes it as {len(encoded[1])} tokens ({pieces or 'none'}), and the option needs single tokens: "
            "give a word that is one token, or one of these pieces."
        )
    return single
