"""Shared forward passes have few sizes, whatever the requests: oneDNN keeps a program for each."""

import random

import pytest
import torch

from tests.decode.test_continuous import FIELDS, SIZES, SPECIAL, VOCAB
from unmask import Canvas, RotaryTransformerMLMModel, make_rules
from unmask.decode.continuous import ContinuousBatch
from unmask.decode.loop import decode_steps
from unmask.decode.shared_logits import FEWEST_READS, FEWEST_TOKENS, size_of
from unmask.nn import linear


@pytest.mark.parametrize("least", [1, FEWEST_READS, FEWEST_TOKENS])
def test_sizes_are_few_and_an_eighth_larger_at_most(least):
    sizes = [size_of(count, least) for count in range(1, 4097)]
    assert sizes == sorted(sizes) and all(size % least == 0 and size_of(size, least) == size for size in sizes)
    assert all(n <= size <= max(n * 9 / 8, n + least - 1) for n, size in enumerate(sizes, start=1))
    assert size_of(0, least) == 0 and len(set(sizes)) <= 8 * 13


def test_products_have_few_sizes_however_many_requests_there_are(monkeypatch):
    """Four times the requests bring no new numbers of rows but sizes; tokens and answers of a request are tested in ``test_continuous``."""
    network, generator, seen = RotaryTransformerMLMModel(*SIZES, **FIELDS).eval(), random.Random(0), set()
    product = linear.matmul

    def noted(x, weight, bias=None):
        seen.add(x.numel() // x.shape[-1])
        return product(x, weight, bias)

    monkeypatch.setattr(linear, "matmul", noted)

    def job():
        ids = torch.tensor([[5] * generator.randint(1, 20) + [0] * generator.randint(1, 40)])
        rules = make_rules(generator.randint(1, 6), order=generator.choice(["random", "top_prob"]), special=SPECIAL)
        canvas = Canvas.infill(ids, SPECIAL, torch.ones_like(ids, dtype=torch.bool))
        return decode_steps(canvas, rules, SPECIAL, generator.randrange(100), (), True)

    tokens = set()
    with ContinuousBatch(network, vocab_size=VOCAB) as batch:
        for _ in range(24):
            for _ in range(generator.randint(1, 12)):
                batch.join(job())
            batch.advance()
            tokens |= {part.tokens for part in batch.passes}
    assert {size_of(count, FEWEST_READS) for count in seen} == seen
    assert len(tokens) > 12  # or requests would not differ
