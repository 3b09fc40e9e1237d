"""The tokenizer of ready token ids: each decimal number has its own value as id.

    without special ids   the special tokens follow the numbers: ids ``vocab_size - 5 .. vocab_size - 1``
    with special ids      those that the data were made with, such as ``{"mask": 0, "pad": 1, "eos": 2}``; ``vocab_size`` counts them
                          too. Of mask, pad, eos and unk, those that are not given take the last free ids.

The number of a special id is an ordinary word of the text (``2``), and its token is the role in brackets (``[EOS]``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from unmask.data.document import Document
from unmask.data.tokenizing.tokenizers import SPECIAL_TOKENS, Tokenizer
from unmask.suggestions import nearest

REQUIRED = ("mask", "pad", "eos", "unk")


def number_tokenizer(texts: Iterable[str], vocab_size: int, special_ids: Mapping[str, int] | None = None) -> Tokenizer:
    """Return the tokenizer of ready ids, after checking the ids of the texts.

    Args:
        texts: decimal numbers, separated by spaces.
        vocab_size: number of ids, special ones included.
        special_ids: ids of the special tokens by role (``mask``, ``pad``, ``bos``, ``eos``, ``unk``); None = behind the numbers.

    Raises:
        ValueError: an id that is no number of the vocabulary, a special id that is contradictory or inside the data.
    """
    roles = roles_of(vocab_size, special_ids)
    check = NumberCheck(vocab_size, special_ids)
    for number, text in enumerate(texts):
        check(f"Document {number}", text)
    numbers = {str(id): id for id in range(vocab_size)}
    for role, id in roles.items():
        del numbers[str(id)]
        numbers[SPECIAL_TOKENS[role]] = id
    backend = tokenizers.Tokenizer(models.WordLevel(numbers, unk_token=SPECIAL_TOKENS["unk"]))
    if special_ids is not None:  # the number of a special id is its token
        backend.normalizer = normalizers.Sequence(
            [
                normalizers.Replace(tokenizers.Regex(rf"(?<!\S){id}(?!\S)"), SPECIAL_TOKENS[role])
                for role, id in roles.items()
                if role != "mask"
            ]
        )
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(
        [tokenizers.AddedToken(SPECIAL_TOKENS[role], special=True, normalized=False) for role in roles]
    )
    return Tokenizer(backend, {role: SPECIAL_TOKENS[role] for role in roles})


def is_number_tokenizer(tokenizer: Tokenizer) -> bool:
    """Return whether every ordinary token is the decimal number of its id."""
    special = set(tokenizer.all_special_ids)
    return all(tokenizer.backend.id_to_token(id) == str(id) for id in range(len(tokenizer)) if id not in special)


def without_ends(documents: Iterable[Document], vocab_size: int, special_ids: Mapping[str, int]) -> Iterator[Document]:
    """Yield documents of ready ids without their padding and without one EOS at the end, which a store writes itself.

    Args:
        documents: decimal numbers, separated by spaces.
        vocab_size: number of ids.
        special_ids: ids by role.

    Raises:
        ValueError: as in :func:`number_tokenizer`.
    """
    check = NumberCheck(vocab_size, special_ids)
    pad, eos = (f" {special_ids[role]}" if role in special_ids else None for role in ("pad", "eos"))
    for document in documents:
        text = f" {document.text}"
        while pad is not None and text.endswith(pad):
            text = text[: -len(pad)]
        if eos is not None and text.endswith(eos):
            text = text[: -len(eos)]
        if text:
            check(document.name, text)
            yield Document(document.name, text[1:], document.held_out)


class NumberCheck:
    """The check of ready ids: whole numbers of the vocabulary, without special ids inside.

    Args:
        vocab_size: number of ids.
        special_ids: ids by role; None = behind the numbers.
    """

    def __init__(self, vocab_size: int, special_ids: Mapping[str, int] | None) -> None:
        roles = roles_of(vocab_size, special_ids)
        self.vocab_size, self.given = vocab_size, special_ids is not None
        self.largest = vocab_size - 1 - (0 if self.given else len(roles))
        self.special = {str(id): role for role, id in roles.items() if self.given and role != "bos"}

    def __call__(self, name: str, text: str) -> None:
        """Check the ids of one document.

        Raises:
            ValueError: an id outside the vocabulary, or a special one.
        """
        for word in text.split():
            if not (word.isascii() and word.isdecimal() and int(word) <= self.largest):
                raise ValueError(
                    f"{name} holds {word!r}, and ready ids are whole numbers from 0 to {self.largest}: "
                    + (
                        f"vocab_size={self.vocab_size:,} counts them. Raise vocab_size, or choose another tokenizer."
                        if self.given
                        else f"vocab_size={self.vocab_size:,} has room for {self.largest + 1:,} of them and {len(SPECIAL_TOKENS)} special tokens. "
                        "Raise vocab_size, say which ids are special (--special-ids 'mask: 0, pad: 1, eos: 2'), or choose another tokenizer."
                    )
                )
            if word in self.special:
                raise ValueError(
                    f"{name} holds the id {word}, which is the {self.special[word]} token. Padding and EOS stand at the end of a row only, and "
                    "the other special ids nowhere: correct the row, the special ids, or raise vocab_size, whose last ids take the roles that are not given."
                )


def check_special_ids(special_ids: Mapping[str, int], vocab_size: int) -> None:
    """Check special ids against the vocabulary.

    Raises:
        ValueError: an unknown role, an id outside the vocabulary, or one id for two roles.
    """
    for role, id in special_ids.items():
        if role not in SPECIAL_TOKENS:
            raise ValueError(
                f"special_ids has the role {role!r}.{nearest(role, SPECIAL_TOKENS)} Roles are {', '.join(SPECIAL_TOKENS)}: "
                "special_ids={mask: 0, pad: 1, eos: 2}."
            )
        if isinstance(id, bool) or not isinstance(id, int) or not 0 <= id < vocab_size:
            raise ValueError(
                f"The special id of {role} is {id!r}, and the ids are whole numbers from 0 to {vocab_size - 1} (vocab_size={vocab_size:,}). "
                "Raise vocab_size, which counts special ids too, or correct the id."
            )
    same = [role for role, id in special_ids.items() if list(special_ids.values()).count(id) > 1]
    if same:
        raise ValueError(
            f"The special ids of {' and '.join(same)} are both {special_ids[same[0]]}. Each role needs an id of its own."
        )


def roles_of(vocab_size: int, special_ids: Mapping[str, int] | None) -> dict[str, int]:
    """Return the id of each role: those given and the required ones at the last free ids; or all behind the numbers."""
    if special_ids is None:
        first = vocab_size - len(SPECIAL_TOKENS)
        return {role: first + number for number, role in enumerate(SPECIAL_TOKENS)}
    check_special_ids(special_ids, vocab_size)
    roles = dict(special_ids)
    for role in (role for role in REQUIRED if role not in roles):
        free = next((id for id in reversed(range(vocab_size)) if id not in roles.values()), None)
        if free is None:
            raise ValueError(f"vocab_size={vocab_size} leaves no id for the {role} token. Raise it.")
        roles[role] = free
    return roles
