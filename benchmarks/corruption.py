"""Every public corruption on a ready tensor, beside the lines of torch that do the same.

    python -m benchmarks.corruption [--rounds 40] [--json corruption.json]

32 rows of 512 tokens, one thread, medians of rounds in which all take turns. The peers are written as the libraries of the
field write them: BERT's twelve lines, LLaDA's ``rand < t``, Gumbel top-k in blocks (as in NeMo Automodel), an argsort of
noise (MaskGIT), loops over spans and words in Python (SpanBERT, whole-word masking). A peer's noise is torch's generator;
ours is keyed by row. A test compares the list with the package's public corruptions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import harness
from unmask.measure.report_table import Row
from unmask.ops import corrupt, corruption
from unmask.ops.schedule import SCHEDULES
from unmask.ops.scheme import Corruption
from unmask.ops.whole_words import WordTable
from unmask.randomness import Noise, row_keys

ROWS, LENGTH, VOCAB, MASK, BLOCK = 32, 512, 30_000, 1, 32
SPECIAL = (0, 1, 2, 3, 4)
BYTES_A_TOKEN = 22  # ids and noisy ids of 8 bytes, two masks of 1, a probability of 4
Call = Callable[[], Any]


def uniform_peer(ids: Tensor, loss_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A rate for each row, a coin for each token."""
    rate = (torch.rand(len(ids), 1) * (1 - 1e-3) + 1e-3).expand(ids.shape)
    chosen = (torch.rand(ids.shape) < rate) & loss_mask
    return torch.where(chosen, MASK, ids), chosen, rate


def block_peer(ids: Tensor, loss_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A rate for each block, a coin for each token."""
    rate = (torch.rand(len(ids), ids.shape[1] // BLOCK) * (1 - 1e-3) + 1e-3).repeat_interleave(BLOCK, 1)
    chosen = (torch.rand(ids.shape) < rate) & loss_mask
    return torch.where(chosen, MASK, ids), chosen, rate


def random_peer(ids: Tensor, loss_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A rate for each row, a coin and a random token for each token."""
    rate = (torch.rand(len(ids), 1) * (1 - 1e-3) + 1e-3).expand(ids.shape)
    chosen = (torch.rand(ids.shape) < rate) & loss_mask
    return torch.where(chosen, torch.randint(len(SPECIAL), VOCAB, ids.shape), ids), chosen, rate


def bert_peer(ids: Tensor, loss_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """80/10/10, in the usual lines: three tensors of coins, and a random token for each position."""
    rate = torch.full(ids.shape, 0.15)
    chosen = torch.bernoulli(rate.masked_fill(~loss_mask, 0.0)).bool()
    noisy = ids.clone()
    masked = torch.bernoulli(torch.full(ids.shape, 0.8)).bool() & chosen
    noisy[masked] = MASK
    randomised = torch.bernoulli(torch.full(ids.shape, 0.5)).bool() & chosen & ~masked
    noisy[randomised] = torch.randint(len(SPECIAL), VOCAB, ids.shape)[randomised]
    return noisy, chosen, rate


def count_peer(ids: Tensor, loss_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Exactly k positions of each row: the ranks of random numbers."""
    n = loss_mask.sum(-1, keepdim=True)
    k = (torch.cos(math.pi / 2 * torch.rand(len(ids), 1)) * n).ceil()
    rank = torch.rand(ids.shape).masked_fill(~loss_mask, 2.0).argsort(-1).argsort(-1)
    chosen = (rank < k) & loss_mask
    return torch.where(chosen, MASK, ids), chosen, (k / n).expand(ids.shape)


def weighted_peer(ids: Tensor, loss_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Exactly k positions of each block by weight: ranks of log-weights with Gumbel noise."""
    rows, length = ids.shape
    rate = torch.rand(rows * length // BLOCK, 1) * (1 - 1e-3) + 1e-3
    k = torch.round(rate * BLOCK)
    log_w = math.log(2) / (0.25 * BLOCK) * (1 - rate) * torch.arange(BLOCK, dtype=torch.float32)
    scores = log_w - torch.log(-torch.log(torch.rand(log_w.shape).clamp(1e-20, 1 - 1e-7)))
    order = scores.argsort(-1, descending=True)
    taken = torch.arange(BLOCK) < k
    chosen = torch.zeros_like(taken).scatter_(1, order, taken.expand_as(order)).view(rows, length) & loss_mask
    return torch.where(chosen, MASK, ids), chosen, rate.expand(-1, BLOCK).reshape(rows, length)


def all_peer(ids: Tensor, loss_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One call of torch, and copies of what it is given."""
    return torch.where(loss_mask, MASK, ids), loss_mask.clone(), torch.ones(ids.shape)


def span_peer(ids: Tensor, loss_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Spans of geometric length until 15% of a row is masked, row by row."""
    chosen = np.zeros(ids.shape, dtype=bool)
    for row in chosen:
        while row.sum() < 0.15 * len(row):
            start = np.random.randint(len(row))
            row[start : start + min(10, np.random.geometric(0.2))] = True
    selected = torch.from_numpy(chosen) & loss_mask
    return torch.where(selected, MASK, ids), selected


def word_peer(ids: Tensor, loss_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Words in random order until 15% of a row is masked, row by row; a third of the ids continue a word."""
    chosen = np.zeros(ids.shape, dtype=bool)
    for row, tokens in zip(chosen, ids.tolist(), strict=True):
        words: list[list[int]] = []
        for place, token in enumerate(tokens):
            if words and token >= VOCAB * 2 // 3:
                words[-1].append(place)
            else:
                words.append([place])
        count = 0
        for index in np.random.permutation(len(words)):
            if count >= 0.15 * len(tokens):
                break
            row[words[index]] = True
            count += len(words[index])
    selected = torch.from_numpy(chosen) & loss_mask
    return torch.where(selected, MASK, ids), selected


def functions(ids: Tensor, loss_mask: Tensor) -> dict[str, tuple[Call, Call]]:
    """Name of a ``corrupt_*`` function -> ours and the peer's call."""
    peers = {
        "corrupt_uniform": (lambda: corrupt.corrupt_uniform(ids, loss_mask, MASK), uniform_peer),
        "corrupt_bert": (lambda: corrupt.corrupt_bert(ids, loss_mask, MASK, VOCAB, SPECIAL), bert_peer),
        "corrupt_blockwise": (lambda: corrupt.corrupt_blockwise(ids, loss_mask, MASK, BLOCK), weighted_peer),
        "corrupt_scheduled": (lambda: corrupt.corrupt_scheduled(ids, loss_mask, MASK), count_peer),
        "corrupt_uniform_random": (
            lambda: corrupt.corrupt_uniform_random(ids, loss_mask, VOCAB, SPECIAL), random_peer,
        ),
        "corrupt_all_masked": (lambda: corrupt.corrupt_all_masked(ids, loss_mask, MASK), all_peer),
    }  # fmt: skip
    return {name: (ours, lambda peer=peer: peer(ids, loss_mask)) for name, (ours, peer) in peers.items()}  # type: ignore[misc]


def objects(ids: Tensor, loss_mask: Tensor) -> dict[str, tuple[Call, Call]]:
    """Name of a ``*_corruption`` -> ours and the peer's call."""
    continues = torch.arange(VOCAB) >= VOCAB * 2 // 3
    words = WordTable(~continues, continues, *torch.zeros(2, VOCAB, dtype=torch.long))
    bert = corruption.bert_corruption(MASK, VOCAB, SPECIAL)
    made: dict[str, tuple[Corruption, Callable[[Tensor, Tensor], Any]]] = {
        "uniform_corruption": (corruption.uniform_corruption(MASK), uniform_peer),
        "scheduled_corruption": (corruption.scheduled_corruption(MASK, SCHEDULES["cosine"]), uniform_peer),
        "count_corruption": (corruption.count_corruption(MASK, SCHEDULES["cosine"]), count_peer),
        "block_diffusion_corruption": (corruption.block_diffusion_corruption(MASK, BLOCK), block_peer),
        "blockwise_corruption": (corruption.blockwise_corruption(MASK, BLOCK), weighted_peer),
        "span_corruption": (corruption.span_corruption(MASK), span_peer),
        "bert_corruption": (bert, bert_peer),
        "whole_words": (corruption.whole_words(bert, words), word_peer),
    }

    def ours(scheme: Corruption) -> Call:
        keys = row_keys(0, 0, torch.arange(len(ids)))
        return lambda: scheme(ids, loss_mask, Noise(keys))

    return {name: (ours(scheme), lambda peer=peer: peer(ids, loss_mask)) for name, (scheme, peer) in made.items()}  # type: ignore[misc]


def measure(rounds: int, rows: int = ROWS, length: int = LENGTH) -> dict[str, dict[str, float]]:
    """Median milliseconds of ours and of its peer, tokens and bytes per second; each pair takes turns."""
    torch.set_num_threads(1)
    ids = torch.randint(len(SPECIAL), VOCAB, (rows, length), generator=torch.Generator().manual_seed(0))
    loss_mask = torch.ones(rows, length, dtype=torch.bool)
    found = {}
    for name, (ours, peer) in (functions(ids, loss_mask) | objects(ids, loss_mask)).items():
        slow = name in ("span_corruption", "whole_words")
        seconds = harness.short_turns({"ours": ours, "peer": peer}, max(1, rounds // 10) if slow else rounds)
        found[name] = {
            "milliseconds": 1e3 * seconds["ours"], "peer_milliseconds": 1e3 * seconds["peer"],
            "ratio": seconds["peer"] / seconds["ours"], "million_tokens_per_second": rows * length / seconds["ours"] / 1e6,
            "gigabytes_per_second": rows * length * BYTES_A_TOKEN / seconds["ours"] / 1e9,
        }  # fmt: skip
    return found


def rows_of(found: dict[str, dict[str, float]]) -> list[Row]:
    """A row for each corruption, and those of the goals in milliseconds and tokens."""
    rows = [Row.single(name, "lines of torch with its law", of["ratio"], 2.5) for name, of in found.items()]
    blockwise = found["corrupt_blockwise"]["million_tokens_per_second"]
    return [
        *rows,
        Row.single("corrupt_blockwise, blocks of 32", "", blockwise, 60.0, unit="M tokens/s"),
        Row.single("corrupt_bert, 32 × 512", "", found["corrupt_bert"]["milliseconds"], 0.24, unit="ms", at_most=True),
        Row.single("corrupt_uniform, 32 × 512", "", found["corrupt_uniform"]["milliseconds"], 0.10, unit="ms", at_most=True),
    ]  # fmt: skip


def section(rounds: int = 40) -> tuple[list[Row], dict[str, Any]]:
    """Rows and figures, from a process of their own."""
    found = harness.in_fresh_process(measure, rounds)
    return rows_of(found), {"corruptions": found}


def main() -> None:
    parser = harness.arguments(__doc__, threads=1)
    parser.add_argument("--rounds", type=int, default=40)
    options = harness.parse(parser)
    rows, found = section(options.rounds)
    harness.show_rows("corruption", rows)
    cells = [[name, f"{of['milliseconds']:.3f}", f"{of['peer_milliseconds']:.3f}", f"{of['million_tokens_per_second']:.0f}",
              f"{of['gigabytes_per_second']:.1f}"] for name, of in found["corruptions"].items()]  # fmt: skip
    harness.show("corruption", ["corruption", "ms", "peer's ms", "M tokens/s", "GB/s"], cells)
    harness.write(options.json, "corruption", {"rows": [row.as_dict() for row in rows], **found})


if __name__ == "__main__":
    main()
