"""Decode the answers of tasks: as many tokens as the true answer has, in any order of decoding."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from unmask.contracts import MLMModel, SpecialIds
from unmask.data.corpus.row_shapes import row_as_text
from unmask.data.row_encoding import RowEncoder
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.decode.predictor import MLMPredictor
from unmask.decode.rules import Rules
from unmask.devices import device_of
from unmask.evaluate.estimate import ratio
from unmask.evaluate.likelihood import nelbo
from unmask.evaluate.windows import Windows, batches, stack
from unmask.tasks.catalogue import Distribution, Row

Progress = Callable[[int, int | None], None]


def decode_answers(
    model: MLMModel,
    tokenizer: Tokenizer,
    rows: Sequence[Row],
    rules_for: Callable[[int], Rules],
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
    observers: Sequence[Any] = (),
) -> tuple[list[str], float]:
    """Decode the answer of each row, given its prompt, its length and the EOS after it.

    Args:
        model: the network.
        tokenizer: its tokenizer.
        rows: rows of a task with answers.
        rules_for: largest number of blanks of a row -> decoding rules.
        seed: random seed of decoding.
        batch_size: rows decoded together.
        progress: callback ``(rows done, all rows)``.
        observers: of each batch, such as a trace.

    Returns:
        The answers (of a puzzle: the whole solution), and the mean number of forward passes of a row.
    """
    special = SpecialIds.of(tokenizer).require("eos")
    encode = RowEncoder(tokenizer, int(special.eos or 0))
    encoded = [encode(row_as_text(row, f"row {number}")) for number, row in enumerate(rows)]
    ids = [np.asarray(row.ids) for row in encoded]
    blank = [(np.asarray(row.learnt) != 0) & (np.asarray(row.ids) != special.eos) for row in encoded]
    answers, passes, device = [""] * len(rows), 0.0, device_of(model)
    lengths = np.array([len(row) for row in ids])
    rules = rules_for(max(int(each.sum()) for each in blank))
    done = 0
    for numbers in batches(lengths, batch_size * int(lengths.max())):
        given, real, hidden = stack(
            [ids[i] for i in numbers], special, torch.device("cpu"), [blank[i] for i in numbers]
        )
        predictor = MLMPredictor(rules.max_steps, None, tokenizer, model, rules=rules, seed=seed, observers=observers)
        batch = {"input_ids": given.masked_fill(hidden, special.mask).to(device), "attention_mask": real.to(device)}
        decoded = predictor.predict({**batch, "example_id": torch.from_numpy(numbers).to(device)})
        passes += float(sum(decoded["steps_taken"]))
        for line, number in enumerate(numbers.tolist()):
            places = np.flatnonzero(blank[number])
            kept = slice(0, len(ids[number]) - 1) if "solution" in rows[number] else places
            answers[number] = tokenizer.decode(decoded["ids"][line].cpu().numpy()[kept].tolist())
        done += len(numbers)
        if progress is not None:
            progress(done, len(rows))
    return answers, passes / len(rows)


def excess_bits(
    model: MLMModel,
    tokenizer: Tokenizer,
    task: Distribution,
    rows: Sequence[Row],
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return the bits per token of texts with a known distribution: bound of the model, exact value, and their difference.

    Args:
        model: the network.
        tokenizer: its tokenizer.
        task: the distribution.
        rows: its texts.
        seed: random seed of the masks.
        progress: callback of the bound.
    """
    texts = [row["text"] for row in rows]
    encoded = tokenizer.encode_batch(texts)
    windows = Windows.of_rows(encoded, max(map(len, encoded)), texts)
    bound = nelbo(model, windows, SpecialIds.of(tokenizer), samples=4, seed=seed, progress=progress)
    exact = np.array([task.nats(text) for text in texts])
    tokens = np.array([len(row) for row in encoded], dtype=np.float64)
    nats = {
        "bits_per_token": bound.nats,
        "exact_bits_per_token": exact[None],
        "excess_bits_per_token": bound.nats - exact,
    }
    return {name: ratio(values, tokens).scaled(1 / math.log(2)).as_dict() for name, values in nats.items()}
