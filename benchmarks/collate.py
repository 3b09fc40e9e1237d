"""Collation: tokens per second, beside transformers' ``DataCollatorForLanguageModeling`` in the same run.

    python -m benchmarks.collate [--json collate.json] [--rounds 12]

Both mask 15% of random tokens with 80/10/10. Ours is measured from lists of Python integers, the input of the peer, and
from int64 columns as in a token store; the other corruptions are beside it. Each figure is the median of rounds in
which all contestants take turns, so that a busy machine slows all of them alike. One thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tokenizers
import torch

import unmask
from benchmarks import harness
from unmask.collate.labels import MaskedLMCollator
from unmask.collate.packed import PackedMLMCollator
from unmask.collate.padded import DefaultMLMCollator
from unmask.contracts import SpecialIds
from unmask.measure.report_table import Row
from unmask.ops.corrupt import corrupt_bert, corrupt_uniform
from unmask.ops.corruption import bert_corruption, uniform_corruption

VOCAB = 30_000
PAD, MASK, BOS, EOS, UNK = range(5)
SPECIAL = SpecialIds(mask=MASK, vocab_size=VOCAB, pad=PAD, bos=BOS, eos=EOS, others=(UNK,))
SHAPES = ((32, 512), (32, 1024))
PEER = "transformers, from lists"


def peer() -> Callable[[Any], Any]:
    """transformers' collator, with a vocabulary of the same size."""
    from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

    names = ["[PAD]", "[MASK]", "[BOS]", "[EOS]", "[UNK]"]
    words = {word: id for id, word in enumerate([*names, *(f"w{i}" for i in range(len(names), VOCAB))])}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    roles = {f"{role}_token": name for role, name in zip(("pad", "mask", "bos", "eos", "unk"), names, strict=True)}
    return DataCollatorForLanguageModeling(
        PreTrainedTokenizerFast(tokenizer_object=backend, **roles), mlm_probability=0.15
    )


def contestants(rows: int, length: int) -> dict[str, Callable[[], Any]]:
    """What is measured: a name, and a call that makes one batch."""
    ids = torch.randint(UNK + 1, VOCAB, (rows, length), generator=torch.Generator().manual_seed(0))
    ids[:, -1] = ids[:, length // 3] = EOS
    lists = [{"input_ids": row.tolist()} for row in ids]
    with_mask = [{"tokens": row.tolist(), "mask": [1] * length} for row in ids]
    example_id = np.arange(rows)
    columns = {"input_ids": ids.numpy(), "example_id": example_id}
    tokens = {"tokens": ids.numpy(), "mask": np.ones((rows, length), dtype=np.int64), "example_id": example_id}
    loss_mask = torch.ones(rows, length, dtype=torch.bool)
    bert = bert_corruption(MASK, VOCAB, SPECIAL.all)
    theirs, masked = peer(), MaskedLMCollator(MASK, VOCAB, tokenizer=SPECIAL)
    default = DefaultMLMCollator(SPECIAL, length, bert, add_bos=False, add_eos=False)
    packed, packed_bert = PackedMLMCollator(SPECIAL, length), PackedMLMCollator(SPECIAL, length, bert)
    counted = PackedMLMCollator(SPECIAL, length, uniform_corruption(MASK, exact=True))
    return {
        PEER: lambda: theirs(lists),
        "DefaultMLMCollator, 80/10/10, from lists": lambda: default(lists),
        "MaskedLMCollator, 80/10/10, from lists": lambda: masked(with_mask),
        "MaskedLMCollator, 80/10/10, from columns": lambda: masked(tokens),
        "PackedMLMCollator, 80/10/10, from columns": lambda: packed_bert(columns),
        "PackedMLMCollator, diffusion, from columns": lambda: packed(columns),
        "PackedMLMCollator, diffusion, exact counts, from columns": lambda: counted(columns),
        "corrupt_bert, ready tensors": lambda: corrupt_bert(ids, loss_mask, MASK, VOCAB, SPECIAL.all),
        "corrupt_uniform, ready tensors": lambda: corrupt_uniform(ids, loss_mask, MASK),
    }


def every_collator(rows: int, length: int) -> dict[str, Callable[[], Any]]:
    """Name of a public collator -> a call that makes a batch of ``rows`` × ``length`` tokens from int64 columns."""
    ids = torch.randint(UNK + 1, VOCAB, (rows, length), generator=torch.Generator().manual_seed(0)).numpy()
    prompts = np.where(np.random.default_rng(0).random(ids.shape) < 0.5, MASK, ids)
    columns = {"input_ids": ids, "example_id": np.arange(rows)}
    infilling = columns | {"prompt_ids": prompts}
    half = length // 2
    pairs = {"prompt_ids": ids[:, :half], "target_ids": ids[:, half:], "example_id": np.arange(rows)}
    answers = columns | {"loss_mask": (np.arange(length) >= half) * np.ones((rows, 1), dtype=np.int64)}
    tokens = {"tokens": ids, "mask": np.ones_like(ids), "example_id": np.arange(rows)}
    bare: dict[str, Any] = {"add_bos": False, "add_eos": False}
    calls: dict[str, tuple[Any, Any]] = {
        "DefaultMLMCollator": (unmask.DefaultMLMCollator(SPECIAL, length, **bare), columns),
        "DefaultInfillMLMCollator": (unmask.DefaultInfillMLMCollator(SPECIAL, length, **bare), infilling),
        "MLMInfillWithExactTargetPredCollator": (
            unmask.MLMInfillWithExactTargetPredCollator(SPECIAL, length, **bare), infilling,
        ),
        "MLMSeq2SeqCollator": (unmask.MLMSeq2SeqCollator(SPECIAL, None, half, half, **bare), pairs),
        "MLMSeq2SeqTrainCollator": (unmask.MLMSeq2SeqTrainCollator(SPECIAL, None, half, half, **bare), pairs),
        "MLMSeq2SeqPredCollator": (unmask.MLMSeq2SeqPredCollator(SPECIAL, None, half, half, **bare), pairs),
        "MaskedLMCollator": (MaskedLMCollator(MASK, VOCAB, tokenizer=SPECIAL), tokens),
        "PackedMLMCollator": (PackedMLMCollator(SPECIAL, length), columns),
        "SupervisedMLMCollator": (unmask.SupervisedMLMCollator(SPECIAL, length), answers),
    }  # fmt: skip
    return {name: lambda collate=collate, given=given: collate(given) for name, (collate, given) in calls.items()}  # type: ignore[misc]


def measure_all(rounds: int, rows: int = 32, length: int = 512) -> dict[str, dict[str, float]]:
    """Tokens per second of every public collator, how many times the peer's, and bytes of its batches per second."""
    torch.set_num_threads(1)
    calls = every_collator(rows, length)
    lists = contestants(rows, length)[PEER]
    found = {}
    for name, call in calls.items():
        size = sum(value.nbytes for value in call().values())
        seconds = harness.short_turns({"ours": call, "peer": lists}, rounds, each=2)
        found[name] = {
            "ratio": seconds["peer"] / seconds["ours"],
            "million_tokens_per_second": rows * length / seconds["ours"] / 1e6,
            "gigabytes_per_second": size / seconds["ours"] / 1e9,
        }
    return found


def section(rounds: int = 6) -> tuple[list[Row], dict[str, Any]]:
    """A row for each public collator, from a process of its own."""
    found = harness.in_fresh_process(measure_all, rounds)
    beside = "transformers' collator, tokens/s"
    return [Row.single(name, beside, of["ratio"], 2.5) for name, of in found.items()], {"collators": found}


def measure(rows: int, length: int, rounds: int) -> dict[str, float]:
    """Tokens per second of every contestant."""
    seconds = harness.short_turns(contestants(rows, length), rounds)
    return {name: rows * length / median for name, median in seconds.items()}


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = harness.arguments(__doc__, threads=1)
    parser.add_argument("--rounds", type=int, default=12)
    options = harness.parse(parser)
    figures = []
    for rows, length in SHAPES:
        speeds = measure(rows, length, options.rounds)
        ratios = {name: speed / speeds[PEER] for name, speed in speeds.items()}
        cells = [[name, f"{speed / 1e6:.1f}", f"{ratios[name]:.1f}"] for name, speed in speeds.items()]
        harness.show(f"{rows} × {length}", ["collator", "M tokens/s", "× peer"], cells)
        figures += [
            {"rows": rows, "length": length, "name": name, "tokens_per_second": speed, "ratio": ratios[name]}
            for name, speed in speeds.items()
        ]
    harness.write(options.json, "collate", {"figures": figures})


if __name__ == "__main__":
    main()
