"""Evaluation of answers given their prompts: exact match of greedy answers, and the conditional likelihood bound.

Of each row, the last answer is masked and everything else is given. A greedy answer has as many tokens as the true one
and is decoded one token a step, the most probable first.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unmask.contracts import MLMModel, SpecialIds
from unmask.data.corpus.sources import Source
from unmask.data.row_encoding import RowEncoder
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.decode.left_to_right import order_for
from unmask.decode.named import make_rules
from unmask.decode.predictor import MLMPredictor
from unmask.devices import device_of
from unmask.evaluate.estimate import proportion
from unmask.evaluate.likelihood import nelbo
from unmask.evaluate.windows import Windows, batches, stack

Progress = Callable[[int, int | None], None]  # items done, items in all or None
Stages = Callable[[str], AbstractContextManager[Progress]]
"""Title of a stage -> context manager of its progress."""


def answers_of_source(source: Source, tokenizer: Tokenizer, block_size: int, documents: int | None = None) -> Windows:
    """Return the rows of a supervised source with their last answers.

    Args:
        source: a source with ``supervised=True``.
        tokenizer: the tokenizer.
        block_size: largest number of tokens of a row; a longer one is cut around its last answer.
        documents: number of rows to read; None = all.
    """
    encode = RowEncoder(tokenizer, int(SpecialIds.of(tokenizer).require("eos").eos or 0))
    rows = (encode(document.text) for document in islice(source.documents(), documents))
    return Windows.of_answers(((row.ids, row.learnt) for row in rows), block_size)


def answer_figures(
    model: MLMModel, windows: Windows, special: SpecialIds, *, samples: int, seed: int, stages: Stages
) -> dict[str, Any]:
    """Measure the answers of rows.

    Args:
        model: the network.
        windows: rows with answers, ``Windows.of_answers``.
        special: special ids of the tokenizer.
        samples: passes of the bound over the rows, each with other masks.
        seed: random seed of the masks.
        stages: progress, per stage.

    Returns:
        A JSON object: ``rows``, ``tokens`` (of answers), and the estimates ``exact_match``, ``nats_per_token`` and
        ``perplexity_per_token``.
    """
    with stages("bounding answers") as progress:
        bound = nelbo(model, windows, special, samples=samples, seed=seed, progress=progress)
    with stages("decoding answers") as progress:
        exact = exact_matches(model, windows, special, progress=progress)
    return {
        "rows": len(windows),
        "tokens": int(bound.tokens.sum()),
        "exact_match": proportion(int(exact.sum()), len(exact)).as_dict(),
        "nats_per_token": bound.nats_per_token.as_dict(),
        "perplexity_per_token": bound.perplexity_per_token.as_dict(),
    }


def exact_matches(
    model: MLMModel,
    windows: Windows,
    special: SpecialIds,
    *,
    batch_tokens: int = 16384,
    progress: Progress | None = None,
) -> NDArray[np.bool_]:
    """Return whether the greedy answer of each row equals the true one, bool ``[W]``.

    Args:
        model: the network.
        windows: rows with answers, ``Windows.of_answers``.
        special: special ids of the tokenizer.
        batch_tokens: padded tokens of a batch.
        progress: callback ``(rows done, all rows)``.

    Examples:
        >>> import torch
        >>> from unmask import SpecialIds, Windows
        >>> def always_six(x_t, attention_mask=None, positions=None, block_mask=None):
        ...     return torch.nn.functional.one_hot(torch.full_like(x_t, 6), 9).float()
        >>> windows = Windows.of_answers([([5, 6, 6], [0, 1, 1]), ([5, 7], [0, 1])], block_size=8)
        >>> exact_matches(always_six, windows, SpecialIds(mask=0, vocab_size=9, pad=1)).tolist()
        [True, False]
    """
    answers = windows.answers
    assert answers is not None, "Windows.of_answers marks the answers"
    decodable = answer_special_ids(windows, special)
    exact = np.zeros(len(windows), dtype=bool)
    device, done = device_of(model), 0
    for numbers in batches(windows.lengths, batch_tokens):
        ids, real, answer = stack(
            [windows.rows[i] for i in numbers], special, torch.device("cpu"), [answers[i] for i in numbers]
        )
        rules = make_rules(int(answer.sum(-1).max()), order=order_for(model, "top_prob"), temperature=0.0)
        predictor = MLMPredictor(rules.max_steps, None, None, model, rules=rules, special=decodable, seed=0)
        batch = {"input_ids": ids.masked_fill(answer, special.mask).to(device), "attention_mask": real.to(device)}
        decoded = predictor.predict({**batch, "example_id": torch.from_numpy(numbers).to(device)})["ids"].cpu()
        exact[numbers] = ((decoded == ids) | ~answer).all(-1).numpy()
        done += len(numbers)
        if progress is not None:
            progress(done, len(windows))
    return exact


def answer_special_ids(windows: Windows, special: SpecialIds) -> SpecialIds:
    """Return the special ids for decoding answers: those that occur in answers, such as ends of turns, are ordinary tokens.

    Args:
        windows: rows with answers, ``Windows.of_answers``.
        special: special ids of the tokenizer.
    """
    assert windows.answers is not None, "Windows.of_answers marks the answers"
    learnt = {int(id) for row, answer in zip(windows.rows, windows.answers, strict=True) for id in row[answer]}
    # Ends of turns are part of answers, so here they are ordinary tokens; EOS is one anywhere in a chat.
    others = tuple(id for id in special.all if id != special.mask and id not in learnt)
    return SpecialIds(special.mask, special.vocab_size, others=others)
