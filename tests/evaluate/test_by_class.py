"""Accuracy by class: as counted by hand at the same hidden positions, and the classes of traces."""

import math

import numpy as np
import pytest
import torch

from unmask.contracts import SpecialIds
from unmask.data.traces.trace_tokenizer import trace_tokenizer
from unmask.evaluate.by_class import accuracy_by_class
from unmask.evaluate.hidden import hide_in_batches
from unmask.evaluate.metrics import masked_accuracy
from unmask.evaluate.trace_classes import POPPED, TRACE_CLASSES, TraceClasses
from unmask.evaluate.windows import Windows
from unmask.ops.mask_rates import ConstantMaskRate

SPECIAL = SpecialIds(mask=0, vocab_size=8, pad=1)
ROWS = [np.random.default_rng(n).integers(2, 8, 3 + n % 7).tolist() for n in range(30)]


class Always:
    """A model that is three quarters sure of one token, whatever it sees."""

    def __init__(self, token):
        self.token = token

    def __call__(self, x_t, attention_mask=None, positions=None, block_mask=None):
        logits = torch.full((*x_t.shape, 8), math.log(0.05))
        logits[..., self.token] = math.log(0.75)
        logits[..., :2] = -torch.inf
        return logits


def test_by_hand():
    windows = Windows.of_rows(ROWS, 6)
    models = {"two": Always(2), "five": Always(5)}
    found = accuracy_by_class(
        models, windows, SPECIAL, lambda ids: ids % 3, ("nought", "one", "two"), rate=0.4, samples=2, batch_tokens=40
    )
    hidden = [
        int(token)
        for part in hide_in_batches(windows, SPECIAL, ConstantMaskRate(0.4), samples=2, seed=0, batch_tokens=1000)
        for token in part.ids[part.where]
    ]
    assert found["all"]["tokens"] == len(hidden) == sum(found[name]["tokens"] for name in ("nought", "one", "two"))
    for number, name in enumerate(("nought", "one", "two")):
        mine = [token for token in hidden if token % 3 == number]
        assert found[name]["tokens"] == len(mine)
        for model, always in (("two", 2), ("five", 5)):
            right = sum(token == always for token in mine) / len(mine)
            bits = -right * math.log2(0.75) - (1 - right) * math.log2(0.05)
            got = found[name]["models"][model]
            assert got["accuracy"] == pytest.approx(right) and got["bits_per_token"] == pytest.approx(bits, rel=1e-5)


def test_all_is_the_masked_accuracy_and_options_do_something():
    windows, model = Windows.of_rows(ROWS, 6), Always(3)
    names = ("everything", "never")
    run = lambda **options: accuracy_by_class({"m": model}, windows, SPECIAL, np.zeros_like, names, **options)  # noqa: E731
    found = run()
    assert set(found) == {"all", "everything"}, "a class that was never hidden is left out"
    assert found["all"]["models"]["m"]["accuracy"] == pytest.approx(
        masked_accuracy(model, windows, SPECIAL).top_1.value
    )
    assert (
        any(run(seed=seed) != found for seed in (1, 2, 3))
        and run(rate=0.9)["all"]["tokens"] > found["all"]["tokens"]
        and run(samples=2)["all"]["tokens"] > found["all"]["tokens"]
    )
    with pytest.raises(ValueError, match=r"rate=0\.0"):
        run(rate=0.0)


def test_popped_registers_are_a_class_of_their_own():
    trace = "push rbx [NEXT] mov rbx dword [ rdi + 300 ] [NEXT] pop rbx [NEXT] ret"
    tokenizer = trace_tokenizer([trace] * 3, 4096)
    classes = TraceClasses(tokenizer)(np.array([tokenizer.encode(trace)]))[0]
    words = [TRACE_CLASSES[n] for n in classes]
    assert words[:3] == ["mnemonic", "register", "special"] and words.count(POPPED) == 1
    assert words[-4:] == ["mnemonic", POPPED, "special", "mnemonic"]
