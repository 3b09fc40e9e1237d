"""Text to ids and back: a thin wrapper around a Hugging Face ``tokenizers`` tokenizer.

The wrapper guarantees three properties that masked models need:

    special tokens have names    mask_token_id, pad_token_id, bos_token_id, eos_token_id
    text is only text            "[MASK]" inside a corpus is four ordinary letters in brackets
    a prompt can contain masks   with allow_mask=True, "[MASK]" is the mask and absorbs the space before it

The mask absorbs the space because a word and the space before it are one token: "The [MASK] is" must become
``The, mask, ␣is`` so that ``␣cat`` can fill the mask. Text after a mask is tokenised as a continuation
(``unmask.data.tokenizing.continuation``); ``unmask.data.prompts`` inserts fillings into the text as it was written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from unmask.data.tokenizing.continuation import Continuation
from unmask.data.tokenizing.download import download_tokenizer
from unmask.data.tokenizing.reserved import reserved_ids
from unmask.data.tokenizing.roles import CONFIG, config_with_roles, named, read_settings, roles
from unmask.data.tokenizing.slow_tokenizers import how_to_convert
from unmask.data.tokenizing.splitting import LONGEST_COUNTED_WORD, word_splitter
from unmask.data.tokenizing.token_bytes import BYTE_OF, decoders_of
from unmask.storage import read_json, write_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = {"pad": "[PAD]", "mask": "[MASK]", "bos": "[BOS]", "eos": "[EOS]", "unk": "[UNK]"}
SMALLEST_VOCABULARY = len(SPECIAL_TOKENS) + 256
LARGEST_VOCABULARY = 2**24  # the trainer allocates memory in proportion


class Tokenizer:
    """Convert text to ids and back, with any fast tokenizer.

    Use :meth:`load` or :meth:`train` to create one.

    Args:
        backend: the ``tokenizers.Tokenizer``, which is copied.
        special_tokens: literal text of the special tokens by role: ``mask``, ``pad``, ``bos``, ``eos``, ``unk``,
            ``next``. All are optional here; ``SpecialIds.of`` requires the mask.
        settings: other contents of a ``tokenizer_config.json``; ``save`` writes them back.

    Attributes:
        mask_token_id, pad_token_id, bos_token_id, eos_token_id: ids, or None for missing tokens.
        next_token_id: id of the separator between the instructions of a trace; None in other tokenizers.
        all_special_ids: every id that is not text, ascending, reserved entries (``[unused12]``) included.
        vocab_size: number of ids that a model must embed; equal to ``len(tokenizer)``.
        mask_takes_space: whether the mask includes the space before it.

    Examples:
        >>> from unmask import Tokenizer
        >>> tokenizer = Tokenizer.train(["the cat sat on the mat"] * 3, vocab_size=270)
        >>> tokenizer.decode(tokenizer.encode("the mat"))
        'the mat'
        >>> tokenizer.mask_token_id in tokenizer.encode("the [MASK] sat", allow_mask=True)
        True
        >>> tokenizer.mask_token_id in tokenizer.encode("the [MASK] sat")
        False
    """

    mask_token_id: int | None
    pad_token_id: int | None
    bos_token_id: int | None
    eos_token_id: int | None
    next_token_id: int | None
    all_special_ids: list[int]
    vocab_size: int
    mask_takes_space: bool

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        special_tokens: Mapping[str, str],
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._backend = tokenizers.Tokenizer.from_str(backend.to_str())
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = True  # special tokens inside text are encoded as text
        self.special_tokens: dict[str, str] = {
            role: token for role, token in special_tokens.items() if self._backend.token_to_id(token) is not None
        }
        self.settings: dict[str, Any] = dict(settings or {})
        self.mask_token: str | None = self.special_tokens.get("mask")
        self.mask_token_id, self.pad_token_id, self.bos_token_id, self.eos_token_id, self.next_token_id = (
            self._backend.token_to_id(self.special_tokens[role]) if role in self.special_tokens else None
            for role in ("mask", "pad", "bos", "eos", "next")
        )
        vocabulary = self._backend.get_vocab(with_added_tokens=True)
        added = self._backend.get_added_tokens_decoder()
        marked = {id for id, token in added.items() if token.special}
        declared = {*self.special_tokens.values(), *named(self.settings)}
        known = {vocabulary[token] for token in declared if token in vocabulary}
        self.all_special_ids = sorted(marked | known | reserved_ids(self._backend))
        self.vocab_size = max(vocabulary.values()) + 1
        self.mask_takes_space = self.mask_token_id in added and added[self.mask_token_id].lstrip

    def __len__(self) -> int:
        return self.vocab_size

    @property
    def backend(self) -> tokenizers.Tokenizer:
        """The wrapped ``tokenizers.Tokenizer``; do not modify it."""
        return self._backend

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._backend.to_str(), self.special_tokens, self.settings)

    def encode(self, text: str, allow_mask: bool = False) -> list[int]:
        """Return the ids of a text, without BOS and EOS.

        Args:
            text: the text.
            allow_mask: True = the literal mask token in ``text`` is the mask (prompts); False = it is text (corpora).

        Raises:
            ValueError: ``text`` contains a lone surrogate.
        """
        if not allow_mask or self.mask_token is None or self.mask_token_id is None:
            try:
                return self._backend.encode(text, add_special_tokens=False).ids
            except TypeError as error:  # a lone surrogate: a terminal's substitute for bytes that are not UTF-8
                raise ValueError(f"{text!r} is not valid Unicode text. Pass text in UTF-8.") from error
        return self.encode_around_masks(text.split(self.mask_token))

    def encode_around_masks(self, pieces: Sequence[str]) -> list[int]:
        """Return the ids of literal texts with one mask between each two; a mask token written inside a text stays text.

        Args:
            pieces: the texts before, between and after the masks.
        """
        if self.mask_token_id is None:
            raise ValueError(
                "This tokenizer has no mask token, so it cannot mark a blank: choose one of a masked model."
            )
        first, *others = pieces
        ids: list[int] = []
        for number, piece in enumerate([first, *others]):
            if self.mask_takes_space and number < len(others):
                piece = piece.removesuffix(" ")
            ids += self.encode(piece) if number == 0 else [self.mask_token_id, *self._continuation.encode(piece)]
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of many texts, on all cores unless ``TOKENIZERS_PARALLELISM=false``.

        Args:
            texts: texts without masks.
        """
        return [encoding.ids for encoding in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def encode_behind(self, before: str, text: str) -> list[int]:
        """Return the ids of a text that directly follows another one, without the space that a first text may get.

        Args:
            before: the text before it; a letter at its end continues in a word-piece tokenizer.
            text: the text.
        """
        if not before or not (self.writes_spaces or before[-1].isalnum()):
            return self.encode(text)
        return self._continuation.encode(text)

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """Return the text of ids.

        For tokenizers trained by :meth:`train`, ``decode(encode(text)) == text`` for every text.

        Args:
            ids: token ids.
            skip_special_tokens: omit special tokens.
        """
        return self._backend.decode([int(id) for id in ids], skip_special_tokens=skip_special_tokens)

    def decode_behind(self, ids: Sequence[int]) -> str:
        """Return the text of ids after other text, with the leading space that :meth:`decode` may drop."""
        if not ids:
            return ""
        anchor = [] if self._anchor is None else [self._anchor]
        before, text = self.decode(anchor), self.decode([*anchor, *ids])
        return text[len(before) :] if text.startswith(before) else self.decode(ids)

    def token_text(self, id: int) -> str:
        """Return the readable text of one id; bytes that are no complete character are written as ``<E2><80>``.

        Args:
            id: a token id.

        Raises:
            ValueError: no token has this id.
        """
        token = self._backend.id_to_token(id)
        if token is None:
            raise ValueError(f"There is no token {id}: this tokenizer's ids run from 0 to {self.vocab_size - 1}.")
        if id in self.all_special_ids:
            return token
        if not self._is_byte_level:
            return token.replace("▁", " ")
        data = bytes(BYTE_OF[character] for character in token if character in BYTE_OF)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return "".join(f"<{byte:02X}>" for byte in data)

    @cached_property
    def writes_spaces(self) -> bool:
        """Whether tokens contain their spaces; otherwise decoding inserts spaces between words."""
        kinds = decoders_of(self._backend)
        return bool(kinds) and not {"WordPiece", "BPEDecoder", "CTC"} & set(kinds)

    @cached_property
    def begins_with_a_space(self) -> bool:
        """Whether decoding prepends a space to every text."""
        return self._anchor is not None and self.decode(self.encode("a")).startswith(" ")

    @cached_property
    def _anchor(self) -> int | None:
        """An ordinary token of letters, or else of digits; other tokens are decoded after it."""
        vocabulary = self._backend.get_vocab(with_added_tokens=False)
        special = set(self.all_special_ids)
        plain = [token for token, id in vocabulary.items() if token.isascii() and token.isalnum() and id not in special]
        return min((not token.isalpha(), vocabulary[token]) for token in plain)[1] if plain else None

    @cached_property
    def _continuation(self) -> Continuation:
        return Continuation(self._backend, keep_prefix=self.next_token_id is not None)

    @cached_property
    def _is_byte_level(self) -> bool:
        return '"ByteLevel"' in json.dumps(json.loads(self._backend.to_str())["decoder"])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that determines the ids of a text."""
        content = json.dumps([self._backend.to_str(), sorted(self.special_tokens.items())])
        return sha256(content.encode()).hexdigest()

    def files(self) -> dict[str, str]:
        """Return the files of this tokenizer as ``{name: text}``.

        ``tokenizer_config.json`` holds the special tokens and all other settings, so that the ``AutoTokenizer`` of
        transformers reads the same roles.
        """
        config = json.dumps(config_with_roles(self.settings, self.special_tokens), indent=2) + "\n"
        return {CONFIG: config, "tokenizer.json": self._backend.to_str(pretty=True)}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``tokenizer.json``, and the other ``files`` beside it.

        Args:
            path: a folder, or the path of a ``.json`` file.
        """
        file = Path(path) if Path(path).suffix == ".json" else Path(path) / "tokenizer.json"
        for name, text in self.files().items():
            write_text(file if name == "tokenizer.json" else file.with_name(name), text)

    def to_transformers(self) -> PreTrainedTokenizerFast:
        """Return the same tokenizer as a transformers object, for which "[MASK]" in a text is always the mask."""
        from transformers import PreTrainedTokenizerFast

        with TemporaryDirectory() as folder:
            self.save(folder)
            tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
            return tokenizer

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Train a byte-level BPE (Sennrich et al. 2016, arXiv:1508.07909) whose first ids are ``SPECIAL_TOKENS``.

        The order of the texts does not matter. Words are counted in parts of at most ``LONGEST_COUNTED_WORD``
        characters, because training time is quadratic in the length of a word. Encoding does not cut words.

        Args:
            texts: training texts.
            vocab_size: number of ids; a small corpus may yield fewer.

        Raises:
            ValueError: ``vocab_size`` is below the special tokens and the 256 bytes, or above ``LARGEST_VOCABULARY``.
        """
        if vocab_size > LARGEST_VOCABULARY:
            raise ValueError(
                f"vocab_size is {vocab_size:,}, and the largest tokenizer trained here has {LARGEST_VOCABULARY:,} "
                "tokens. Language models use 8,192 to 262,144; a few thousand suit a few megabytes of text."
            )
        if vocab_size < SMALLEST_VOCABULARY:
            raise ValueError(
                f"vocab_size is {vocab_size}, and a byte-level tokenizer needs at least {SMALLEST_VOCABULARY}: "
                f"256 bytes and {len(SPECIAL_TOKENS)} special tokens. A few thousand suit a few megabytes of text."
            )
        backend = tokenizers.Tokenizer(models.BPE())
        backend.pre_tokenizer = word_splitter(LONGEST_COUNTED_WORD)
        backend.decoder = decoders.ByteLevel()
        specials = [
            tokenizers.AddedToken(token, special=True, normalized=False, lstrip=role == "mask")
            for role, token in SPECIAL_TOKENS.items()
        ]
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
        backend.pre_tokenizer = word_splitter()
        return cls(backend, SPECIAL_TOKENS)

    @classmethod
    def load(cls, path_or_name: str | os.PathLike[str]) -> Tokenizer:
        """Load a tokenizer.

        Args:
            path_or_name: a ``tokenizer.json``, a folder that holds one, or the name of a model on the Hugging Face hub.

        Raises:
            ValueError: there is no such tokenizer, it is damaged, or the hub cannot be reached.
        """
        path = Path(path_or_name).expanduser()
        if not path.exists():
            path = download_tokenizer(str(path_or_name))
        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.exists():
            raise ValueError(f"The folder {path} holds no tokenizer.json. {how_to_convert(path)}")
        if file.suffix != ".json":
            raise ValueError(f"{file} is not a tokenizer.json. {how_to_convert(file)}")
        content = read_json(file)
        try:
            backend = tokenizers.Tokenizer.from_str(json.dumps(content))
        except Exception as error:  # the library raises bare Exception
            raise ValueError(
                f"{file} is not a tokenizer.json that `tokenizers` can read ({error}). {how_to_convert(file)}"
            ) from error
        settings = read_settings(file.parent)
        return cls(backend, roles(settings, backend), settings)


def _rebuild(content: str, special_tokens: Mapping[str, str], settings: Mapping[str, Any] | None = None) -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer.from_str(content), special_tokens, settings)
