"""Special tokens that a masked language model needs and a tokenizer lacks, added after its last id."""

from __future__ import annotations

import tokenizers

from unmask.data.tokenizing.tokenizers import SPECIAL_TOKENS, Tokenizer

REQUIRED = ("mask", "pad", "eos")


def with_required_roles(tokenizer: Tokenizer) -> Tokenizer:
    """Return the tokenizer with a mask, a padding and an end token; those that it has keep their ids.

    Examples:
        >>> tokenizer = Tokenizer.train(["a cat"], 261)
        >>> with_required_roles(tokenizer) is tokenizer
        True
    """
    missing = [role for role in REQUIRED if role not in tokenizer.special_tokens]
    if not missing:
        return tokenizer
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    backend.add_special_tokens(
        [
            tokenizers.AddedToken(
                SPECIAL_TOKENS[role],
                special=True,
                normalized=False,
                lstrip=role == "mask" and tokenizer.writes_spaces,
            )
            for role in missing
        ]
    )
    names = {**tokenizer.special_tokens, **{role: SPECIAL_TOKENS[role] for role in missing}}
    return Tokenizer(backend, names, tokenizer.settings)
