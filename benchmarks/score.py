"""Pseudo-log-likelihood of sentences beside the loop that scoring libraries run, over the same network.

The loop is minicons' (Misra 2022, 2203.13112) and Salazar et al.'s (2020, 1910.14659): one sentence at a time, its masked copies in one batch, logits and
log-probabilities at all positions, of which one per copy is read. Ours runs the copies of all sentences sorted by length, in batches of equal size, and
projects the masked positions alone. Both take turns, and their scores must agree.

    python -m benchmarks.score --sentences 100 --turns 3 --json score.json
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import harness
from unmask.contracts import SpecialIds
from unmask.evaluate.pseudo import pseudo_log_likelihood
from unmask.measure.report_table import Row
from unmask.models.hf import HuggingFaceMLM

VOCAB, MASK, CLS, SEP, PAD = 30_522, 103, 101, 102, 0
SPECIAL = SpecialIds(mask=MASK, pad=PAD, bos=CLS, eos=SEP, vocab_size=VOCAB)


def network() -> Any:
    """BERT-mini (4 layers of 256), untrained, which costs the same."""
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
    return BertForMaskedLM(BertConfig(vocab_size=VOCAB, **sizes)).eval()


def sentences_of(count: int) -> list[list[int]]:
    """Rows of 7 to 26 random tokens between [CLS] and [SEP], the lengths of BLiMP's sentences and of prose."""
    draw = np.random.default_rng(0)
    return [[CLS, *draw.integers(1000, VOCAB, draw.integers(7, 27)).tolist(), SEP] for _ in range(count)]


@torch.inference_mode()
def plain_loop(net: Any, rows: list[list[int]]) -> list[float]:
    """The sum of each sentence's log-probabilities, one sentence a batch."""
    sums = []
    for row in rows:
        ids = torch.tensor(row)
        inner = torch.arange(1, len(row) - 1)
        copies = ids.repeat(len(inner), 1)
        copies[torch.arange(len(inner)), inner] = MASK
        log_p: Tensor = net(input_ids=copies, attention_mask=torch.ones_like(copies)).logits.log_softmax(-1)
        sums.append(float(log_p[torch.arange(len(inner)), inner, ids[inner]].sum()))
    return sums


def measure(count: int, turns: int) -> dict[str, Any]:
    """Seconds of both, in turns, and the largest difference of their scores."""
    net = network()
    ours, rows = HuggingFaceMLM(net), sentences_of(count)
    pseudo_log_likelihood(ours, rows[:2], SPECIAL)
    plain_loop(net, rows[:2])
    seconds: dict[str, list[float]] = {"ours": [], "loop": []}
    difference = 0.0
    for _ in range(turns):
        began = time.perf_counter()
        found = [float(np.nansum(each)) for each in pseudo_log_likelihood(ours, rows, SPECIAL)]
        between = time.perf_counter()
        theirs = plain_loop(net, rows)
        seconds["ours"].append(between - began)
        seconds["loop"].append(time.perf_counter() - between)
        difference = max(difference, float(np.abs(np.subtract(found, theirs)).max()))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "sentences": count,
        "seconds": medians,
        "ratio": medians["loop"] / medians["ours"],
        "difference": difference,
    }


def section(turns: int, count: int = 100) -> tuple[list[Row], dict[str, Any]]:
    """The row of this benchmark, and its figures."""
    found = harness.in_fresh_process(measure, count, turns)
    assert found["difference"] < 1e-2, f"the scores differ by {found['difference']} nats"
    return [Row.single("scores of sentences", "a loop over sentences, full logits", found["ratio"], 2.0)], found


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--sentences", type=int, default=100)
    parser.add_argument("--turns", type=int, default=3)
    options = harness.parse(parser)
    rows, found = section(options.turns, options.sentences)
    harness.show_rows("score", rows)
    print(found)
    harness.write(options.json, "score", {"rows": [row.as_dict() for row in rows], **found})


if __name__ == "__main__":
    main()
