"""The special token ids of a tokenizer: mask, padding, beginning and end of a text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Self


@dataclass(frozen=True)
class SpecialIds:
    """The special token ids of a tokenizer. ``mask`` is required; the others may be None.

    Attributes:
        mask: id of ``[MASK]``.
        vocab_size: number of ids that the model embeds.
        pad, bos, eos: their ids, or None.
        others: further special ids (unknown, separators, chat markers).

    Examples:
        >>> special = SpecialIds(mask=4, vocab_size=100, pad=0, bos=1, eos=2)
        >>> special.all
        (0, 1, 2, 4)
    """

    mask: int
    vocab_size: int
    pad: int | None = None
    bos: int | None = None
    eos: int | None = None
    others: tuple[int, ...] = ()

    @property
    def all(self) -> tuple[int, ...]:
        """Every special id, ascending."""
        named = {i for i in (self.mask, self.pad, self.bos, self.eos) if i is not None}
        return tuple(sorted(named | set(self.others)))

    @classmethod
    def of(cls, tokenizer: Any) -> Self:
        """Read the ids from an object with Hugging Face's tokenizer attributes; return a ``SpecialIds`` unchanged.

        BOS falls back to CLS and EOS to SEP, the names of BERT-style tokenizers.

        Raises:
            ValueError: the tokenizer has no mask token.
        """
        if isinstance(tokenizer, cls):
            return tokenizer
        mask = getattr(tokenizer, "mask_token_id", None)
        if mask is None:
            raise ValueError(
                f"The tokenizer ({type(tokenizer).__name__}) has no mask token, and a masked language model needs "
                "one. Add it (with transformers: tokenizer.add_special_tokens({'mask_token': '[MASK]'})), or train a "
                "tokenizer with `unmask prepare`, which always adds one."
            )

        def first(*names: str) -> int | None:
            ids = (getattr(tokenizer, name, None) for name in names)
            return next((int(i) for i in ids if i is not None), None)

        every: Iterable[int] = getattr(tokenizer, "all_special_ids", None) or ()
        size = len(tokenizer) if hasattr(tokenizer, "__len__") else int(tokenizer.vocab_size)
        named = cls(
            mask=int(mask),
            vocab_size=size,
            pad=first("pad_token_id"),
            bos=first("bos_token_id", "cls_token_id"),
            eos=first("eos_token_id", "sep_token_id"),
        )
        others = tuple(sorted(int(i) for i in set(every) - set(named.all)))
        return cls(named.mask, size, named.pad, named.bos, named.eos, others)

    def require(self, *names: Literal["pad", "bos", "eos"]) -> Self:
        """Return self, or raise ``ValueError`` with the name of the first missing special token."""
        for name in names:
            if getattr(self, name) is None:
                raise ValueError(
                    f"The tokenizer has no {name.upper()} token, which this option needs. Add one to the tokenizer, or "
                    f"turn the option off (add_bos, add_eos, or padding to unequal lengths)."
                )
        return self
