"""One of each family is added by name, works, and is removed: one line in a registry is all it takes."""

import pytest
import torch

import unmask
from unmask.data.corpus.formats import FORMATS, register_format
from unmask.decode.families import COMMIT_RULES, ORDERS, REMASKING
from unmask.decode.orders.commit_rules import Threshold
from unmask.decode.orders.scores import LeftToRight
from unmask.decode.remasking import NoRemasking
from unmask.ops.schedule import SCHEDULES, linear
from unmask.ops.weighting import WEIGHTINGS

SPECIAL = unmask.SpecialIds(mask=9, vocab_size=10)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return unmask.RotaryTransformerMLMModel(10, 16, 1, 2, mask_idx=9, dropout=0.0, max_length=8)


def decoded(network, **options):
    canvas = unmask.Canvas.infill(torch.tensor([[1, 9, 9, 2, 9]]), SPECIAL)
    return unmask.fill_canvas(
        network, canvas, unmask.make_rules(4, special=SPECIAL, **options), special=SPECIAL, seed=0
    ).ids


@pytest.mark.parametrize("registry, part, options, same", [
    (ORDERS, LeftToRight, {"order": "own"}, {"order": "left_to_right"}),
    (ORDERS, lambda: lambda view: LeftToRight()(view, None), {"order": "own"}, {"order": "left_to_right"}),
    (REMASKING, lambda rate, until: NoRemasking(), {"remask": "own"}, {"schedule": "linear"}),
], ids=["order", "order that is a function", "remasking"])  # fmt: skip
def test_a_decoding_part_with_a_name(network, registry, part, options, same):
    with pytest.raises(ValueError, match="own"):
        decoded(network, **options)
    registry.add("own", part, "one of your own")
    try:
        assert torch.equal(decoded(network, **options), decoded(network, **same))
        assert "`own` | one of your own" in registry.table() and "own (one of your own)" in registry.help()
    finally:
        registry.remove("own")


def test_a_commit_rule_with_a_name(network):
    COMMIT_RULES.add("own", Threshold, "one of your own")
    try:
        own = decoded(network, order="top_prob", commit_rule=COMMIT_RULES.choose("own")(0.3))
        assert torch.equal(own, decoded(network, order="top_prob", threshold=0.3))
    finally:
        COMMIT_RULES.remove("own")


def test_a_weighting_and_a_schedule_with_names(network):
    batch = {
        "input_ids": torch.tensor([[1, 9, 3, 9]]),
        "target_ids": torch.tensor([[1, 2, 3, 4]]),
        "p_mask": torch.full((1, 4), 0.25),
    }
    WEIGHTINGS.add("own", torch.reciprocal, "one of your own")
    SCHEDULES.add("own", linear, "one of your own")
    try:
        own, known = (
            unmask.MLMLoss(model=network, tokenizer=SPECIAL, weighting=w)(batch)["loss"] for w in ("own", "inverse_p")
        )
        assert torch.equal(own, known) and unmask.as_schedule("own") is linear
    finally:
        WEIGHTINGS.remove("own")
        SCHEDULES.remove("own")
    function = unmask.MLMLoss(model=network, tokenizer=SPECIAL, weighting=lambda p: 1 / p)(batch)["loss"]
    assert torch.equal(function, known)
    with pytest.raises(ValueError, match="one finite weight of at least 0"):
        unmask.MLMLoss(model=network, tokenizer=SPECIAL, weighting=lambda p: -p)(batch)


def test_a_format_with_a_name(tmp_path):
    class Shout:
        description = "a line, in capitals"
        suffixes = (".shout",)
        compressed = False

        def recognises(self, path):
            return True

        def documents(self, source, options):
            for number, line in enumerate(source.path.read_text().splitlines()):
                yield unmask.Document(f"{source.name}:{number}", line.upper())

    (tmp_path / "a.shout").write_text("one\ntwo\n")
    register_format("shout", Shout())
    try:
        assert [d.text for d in unmask.Source.parse(tmp_path / "a.shout").documents()] == ["ONE", "TWO"]
    finally:
        del FORMATS["shout"]
