"""The mask of a tokenizer that names none: a token of the vocabulary, or a new one at the id that the network has for it."""

from __future__ import annotations

import tokenizers

from unmask.data.tokenizing.tokenizers import SPECIAL_TOKENS, Tokenizer


def with_mask(tokenizer: Tokenizer, given: str | int | None = None, id: int | None = None) -> Tokenizer:
    """Return the tokenizer with a mask.

    Args:
        tokenizer: a tokenizer, with or without a mask.
        given: text or id of the mask, by the user; it precedes all others.
        id: id of the mask in the network, where known. A missing token is added there.

    Raises:
        ValueError: nothing names a mask, or the tokenizer and the network name different ones.

    Examples:
        >>> tokenizer = Tokenizer.train(["a cat"], 261)
        >>> with_mask(tokenizer, "[UNK]").mask_token_id == tokenizer.backend.token_to_id("[UNK]")
        True
    """
    backend = tokenizer.backend
    if given is not None:
        found = given if isinstance(given, int) else backend.token_to_id(given)
        if found is None and not str(given).isdecimal():
            raise ValueError(
                f"The tokenizer has no token {given!r}. Give the mask as the text of a token, or as its id."
            )
        return _at(tokenizer, int(given) if found is None else found)
    if tokenizer.mask_token_id is not None:
        if id is not None and id != tokenizer.mask_token_id:
            raise ValueError(
                f"The network's mask has the id {id}, and the tokenizer's mask {tokenizer.mask_token} has the id {tokenizer.mask_token_id}. Choose "
                f"one: --mask-token {id}, or --mask-token {tokenizer.mask_token_id} (in Python: mask_token=…)."
            )
        return tokenizer
    if id is None:
        raise ValueError(
            "Neither the tokenizer nor the config of this model names a mask token. Look it up in the model's card, and give its text or id: "
            "--mask-token '<|mask|>' (in Python: mask_token=…)."
        )
    return _at(tokenizer, id)


def _at(tokenizer: Tokenizer, id: int) -> Tokenizer:
    """Return the tokenizer whose mask has this id."""
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    if backend.id_to_token(id) is None:
        if id < len(tokenizer):
            raise ValueError(
                f"The id {id} of the mask lies in a gap of the tokenizer's vocabulary. Give another one: --mask-token."
            )
        between = [f"<|reserved_special_token_{n}|>" for n in range(id - len(tokenizer))]
        for text in (*between, SPECIAL_TOKENS["mask"]):
            backend.add_special_tokens([tokenizers.AddedToken(text, special=True, normalized=False)])
    token = backend.id_to_token(id)
    assert token is not None
    return Tokenizer(backend, {**tokenizer.special_tokens, "mask": token}, {**tokenizer.settings, "mask_token": token})
