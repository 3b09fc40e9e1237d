"""Embeddings of texts: the mean hidden state of their tokens.

Shapes: ``N`` texts, ``D`` width of the network.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.contracts import MLMModel, offers_hidden_states
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.devices import device_of
from unmask.nn.modes import eval_mode
from unmask.text.batching import in_batches, left_padded


def embed_texts(
    model: MLMModel, tokenizer: Tokenizer, texts: Sequence[str], batch_size: int
) -> Float[Tensor, "texts width"]:
    """Embed texts, as float32 ``[N, D]`` on the CPU.

    Args:
        model: the network.
        tokenizer: its tokenizer.
        texts: the texts, none of them empty.
        batch_size: texts per forward pass.

    Raises:
        ValueError: no text, a text without tokens or longer than ``max_length``, or a network without hidden states.
    """
    if not texts:
        raise ValueError("There is no text to embed: give one text or more.")
    if not offers_hidden_states(model):
        raise ValueError(f"{type(model).__name__} has no hidden_states, which embeddings are the mean of.")
    rows = [tokenizer.encode(each) for each in texts]
    if empty := [each for each, row in zip(texts, rows, strict=True) if not row]:
        raise ValueError(f"{empty[0]!r} has no tokens, so it has no embedding: give a text that is not empty.")
    limit = getattr(model, "max_length", None)
    if isinstance(limit, int) and max(map(len, rows), default=0) > limit:
        raise ValueError(
            f"A text has {max(map(len, rows))} tokens, and the max_length of this model is {limit}. Embed shorter texts."
        )
    device, parts = device_of(model), []
    with eval_mode(model):
        for numbers in in_batches(len(rows), batch_size):
            batch = left_padded([rows[i] for i in numbers], tokenizer.pad_token_id or 0)
            real = batch["attention_mask"].to(device)
            states = model.hidden_states(batch["input_ids"].to(device), real).float()
            parts.append(((states * real[..., None]).sum(1) / real.sum(1, keepdim=True)).cpu())
    return torch.cat(parts)
