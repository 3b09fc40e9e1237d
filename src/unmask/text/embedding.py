"""Embeddings of texts: hidden states of their tokens, pooled or one by one.

    mean     mean over the tokens of a text                             [N, D]
    cls      state of the token that the tokenizer puts before a text   [N, D]
    token    one vector for every token                                 N times [l, D]

Texts of similar length run together. The vectors of a text do not depend on the other texts, their order or the batch size.

Shapes: ``N`` texts, ``l`` tokens of a text, ``D`` width of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from unmask.contracts import MLMModel, offers_hidden_states
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.devices import device_of
from unmask.models.layer_states import layer_states
from unmask.nn.modes import eval_mode
from unmask.registry import Registry
from unmask.text.batching import in_batches, left_padded

Pool = Callable[[Float[Tensor, "batch seq width"], Bool[Tensor, "batch seq"]], list[Tensor]]
"""States ``[B, L, D]`` and the mask of real tokens -> ``[D]`` or ``[l, D]`` for each row."""


def mean_of_tokens(states: Float[Tensor, "batch seq width"], real: Bool[Tensor, "batch seq"]) -> list[Tensor]:
    """Return the mean state of each row, ``[D]``."""
    return list(torch.where(real[..., None], states, 0.0).sum(1) / real.sum(1, keepdim=True))


def first_token(states: Float[Tensor, "batch seq width"], real: Bool[Tensor, "batch seq"]) -> list[Tensor]:
    """Return the state of the first token of each row, ``[D]``."""
    return list(states[torch.arange(len(states), device=states.device), real.int().argmax(1)])


def every_token(states: Float[Tensor, "batch seq width"], real: Bool[Tensor, "batch seq"]) -> list[Tensor]:
    """Return the states of the tokens of each row, ``[l, D]``."""
    return [row[kept] for row, kept in zip(states, real, strict=True)]


POOLINGS: Registry[Pool] = Registry(
    "pooling",
    {
        "mean": (mean_of_tokens, "mean over the tokens of a text"),
        "cls": (first_token, "state of the token that the tokenizer puts before a text, such as `[CLS]`"),
        "token": (every_token, "one vector for every token"),
    },
)


class EmbeddingKeywords(TypedDict, total=False):
    """How to embed: keyword options of ``TrainedModel.embed``, all of them optional.

    Attributes:
        layer: layer to read, 0 = embeddings; negative numbers count from the last; absent = the last.
        normalise: scale every vector to length 1.
        special_tokens: encode a text with the tokens that its tokenizer puts around it; absent = for ``"cls"`` only.
        truncate: cut texts longer than the network takes; absent = refuse them.

    Examples:
        >>> chosen: EmbeddingKeywords = {"layer": -2, "normalise": True}
        >>> # model.embed("A text", **chosen)
        >>> sorted(chosen)
        ['layer', 'normalise']
    """

    layer: int | None
    normalise: bool
    special_tokens: bool | None
    truncate: bool


@dataclass(frozen=True)
class EmbeddingOptions:
    """How vectors are made of hidden states.

    Attributes:
        pooling: a name of ``POOLINGS``.
        layer: layer to read, 0 = embeddings; negative numbers count from the last; None = the last.
        normalise: scale every vector to length 1.
        special_tokens: encode a text with the tokens that its tokenizer puts around it; None = for ``cls`` only.
        truncate: cut texts longer than the network takes; False = refuse them.

    Raises:
        ValueError: no such pooling.
    """

    pooling: str = "mean"
    layer: int | None = None
    normalise: bool = False
    special_tokens: bool | None = None
    truncate: bool = False

    def __post_init__(self) -> None:
        POOLINGS.choose(self.pooling)
        if self.pooling == "cls" and self.special_tokens is False:
            raise ValueError(
                "Pooling cls reads a special token, and the special tokens are turned off: leave one of the two out."
            )

    def encode(self, tokenizer: Tokenizer, text: str, limit: int | None) -> list[int]:
        """Return the ids of a text.

        Args:
            tokenizer: the tokenizer.
            text: the text.
            limit: largest number of tokens; None = no limit.

        Raises:
            ValueError: the text is longer than the limit, or pooling ``cls`` without a token before texts.
        """
        framed = self.pooling == "cls" if self.special_tokens is None else self.special_tokens
        plain = tokenizer.encode(text)
        before, after = frame(tokenizer) if framed else ((), ())
        if self.pooling == "cls" and not before:
            raise ValueError("This tokenizer puts no token before a text, so there is none for pooling cls: use mean.")
        length = len(before) + len(plain) + len(after)
        if limit is not None and length > limit:
            if not self.truncate:
                raise ValueError(
                    f"A text has {length} tokens, and the max_length of this model is {limit}. Embed shorter texts, or cut them "
                    "with truncate=True (--truncate)."
                )
            plain = plain[: limit - len(before) - len(after)]
        return [*before, *plain, *after] if plain else []


def frame(tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ids that the tokenizer puts before and after a text, such as ``[CLS]`` and ``[SEP]``."""
    inside = tokenizer.backend.encode("a", add_special_tokens=False).ids
    whole = tokenizer.backend.encode("a", add_special_tokens=True).ids
    extra = len(whole) - len(inside)
    start = next((n for n in range(extra + 1) if whole[n : n + len(inside)] == inside), 0)
    return tuple(whole[:start]), tuple(whole[start + len(inside) :])


def embed_rows(
    model: MLMModel, rows: Sequence[Sequence[int]], pad_id: int, batch_size: int, options: EmbeddingOptions
) -> list[Tensor]:
    """Embed rows of ids.

    Args:
        model: the network.
        rows: ids of each text, none of them empty.
        pad_id: id of PAD.
        batch_size: rows per forward pass.
        options: pooling, layer and scale.

    Returns:
        float32 ``[D]`` for each row, ``[l, D]`` for pooling ``token``, on the CPU.

    Raises:
        ValueError: a network without hidden states, or no such layer.
    """
    if not offers_hidden_states(model):
        raise ValueError(f"{type(model).__name__} has no hidden_states, which embeddings are made of.")
    device, pool = device_of(model), POOLINGS[options.pooling]
    vectors: list[Tensor] = [torch.empty(0)] * len(rows)
    by_length = sorted(range(len(rows)), key=lambda i: (-len(rows[i]), i))
    with eval_mode(model):
        for part in in_batches(len(rows), batch_size):
            numbers = [by_length[i] for i in part]
            batch = left_padded([list(rows[i]) for i in numbers], pad_id)
            ids, real = batch["input_ids"].to(device), batch["attention_mask"].to(device)
            states = (
                model.hidden_states(ids, real)
                if options.layer is None
                else layer_states(model, options.layer, ids, real)
            )
            for number, vector in zip(numbers, pool(states.float(), real), strict=True):
                vectors[number] = (F.normalize(vector, dim=-1) if options.normalise else vector).cpu()
    return vectors


def embed_texts(
    model: MLMModel, tokenizer: Tokenizer, texts: Sequence[str], batch_size: int, options: EmbeddingOptions
) -> list[Tensor]:
    """Embed texts; the result is that of :func:`embed_rows`.

    Args:
        model: the network.
        tokenizer: its tokenizer.
        texts: the texts, none of them empty.
        batch_size: texts per forward pass.
        options: pooling, layer and scale.

    Raises:
        ValueError: no text, a text without tokens or longer than ``max_length``, or a network without hidden states.
    """
    if not texts:
        raise ValueError("There is no text to embed: give one text or more.")
    limit = longest_row(model)
    rows = [options.encode(tokenizer, text, limit) for text in texts]
    if empty := [text for text, row in zip(texts, rows, strict=True) if not row]:
        raise ValueError(f"{empty[0]!r} has no tokens, so it has no embedding: give a text that is not empty.")
    return embed_rows(model, rows, tokenizer.pad_token_id or 0, batch_size, options)


def longest_row(model: object) -> int | None:
    """Return the largest number of tokens of a row; None = no limit."""
    limit = getattr(model, "max_length", None)
    return limit if isinstance(limit, int) else None
