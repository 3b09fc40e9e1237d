"""Options by name: each changes an output, and contradictions are refused."""

from pathlib import Path

import pytest
import torch

from tests.decode.networks import sure
from tests.naive.decoding import MASK, PAD
from unmask.contracts import SpecialIds
from unmask.decode import families
from unmask.decode.canvas import Canvas
from unmask.decode.families import ORDERS
from unmask.decode.forwards.cached import CachedForward
from unmask.decode.loop import fill_canvas
from unmask.decode.named import make_rules
from unmask.decode.orders.commit_rules import Factor
from unmask.decode.orders.scores import ConfidenceOrder, LeftToRight
from unmask.decode.predictor import MLMPredictor
from unmask.decode.remasking import ReMDM, ReMDMCap
from unmask.ops.confidence import CONFIDENCES
from unmask.registry import Registry

SPECIAL = SpecialIds(mask=MASK, pad=PAD, eos=2, vocab_size=20)


@pytest.fixture(scope="module")
def model():
    return sure(1, 20, 16, 1, 2, padding_idx=PAD, mask_idx=MASK)


def decode(model, **options):
    ids = torch.full((6, 12), MASK)
    ids[:, 0] = torch.arange(6) + 5
    rules = make_rules(**{"max_steps": 6, "special": SPECIAL, **options})
    return fill_canvas(model, Canvas.infill(ids, SPECIAL), rules, special=SPECIAL, seed=0).ids


def likely_eos(logits, view, where):
    logits[:, SPECIAL.eos] += 3.0
    return logits


def test_every_option_changes_the_outcome(model):
    for base, options in (
        ({}, {"order": "left_to_right"}),
        ({}, {"order": "entropy"}),
        ({"order": "top_prob"}, {"order_temperature": 2.0}),
        ({"order": "top_prob"}, {"threshold": 0.1}),
        ({"order": "top_prob"}, {"cumulative_error": 3.0}),
        ({"order": "top_prob"}, {"factor": 3.0}),
        ({"order": "top_prob"}, {"entropy_bound": 5.0}),
        ({"order": "top_prob", "threshold": 0.0}, {"non_adjacent": True}),
        ({}, {"schedule": "quadratic"}),
        ({}, {"order": "ancestral"}),
        ({"order": "ancestral"}, {"schedule": "cosine"}),
        ({"max_steps": 24}, {"order": "first_hitting", "max_steps": 11}),
        ({}, {"block_length": 4}),
        ({"max_steps": 24}, {"remask": "cap"}),
        ({"max_steps": 24, "remask": "rescale"}, {"remask_rate": 0.9}),
        ({"max_steps": 24, "remask": "rescale", "remask_rate": 0.9}, {"remask": "confidence"}),
        ({"max_steps": 24, "remask": "rescale", "remask_rate": 0.9}, {"remask_until": 0.5}),
        ({"max_steps": 24, "remask": "rescale", "remask_rate": 0.9}, {"remask_hold": 0.5}),
        ({"order": "top_prob", "max_steps": 24}, {"remask": "mask_predict"}),
        ({}, {"temperature": 0.5}),
        ({}, {"top_k": 2}),
        ({}, {"top_p": 0.5}),
        ({}, {"min_p": 0.5}),
        ({}, {"repetition_penalty": 2.0}),
        ({}, {"forbidden_ids": [7]}),
        ({}, {"required_ids": [7, 8]}),
        ({}, {"guidance": 2.0}),
        ({}, {"allow_eos": False}),
        ({}, {"eos_last": True}),
        ({"order": "left_to_right", "logits_processors": [likely_eos]}, {"stop_at_eos": True}),
        ({}, {"logits_processors": [lambda logits, view, where: -logits]}),
    ):
        same = (
            base.get("max_steps", 6) == 24 and options.get("order") == "first_hitting"
        )  # 24 steps for 11 positions: one per step
        assert torch.equal(decode(model, **base), decode(model, **base | options)) == same, options


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"order": "best"}, "left_to_right"),
        ({"order": "top_prob", "threshold": 0.5, "factor": 1.0}, "threshold and factor were given"),
        ({"factor": 1.0}, "measures none"),
        ({"order": "first_hitting", "schedule": "cosine"}, "one token per step"),
        ({"remask": "all"}, "mask_predict"),
        ({"order": "first_hitting", "non_adjacent": True}, "leaves no choice"),
        ({"remask_until": 0.5}, "choose one of cap, rescale"),
        ({"order": "top_prob", "remask": "mask_predict", "remask_until": 0.5}, "choose one of cap, rescale"),
        ({"remask_hold": 0.5}, "nothing is remasked"),
        ({"remask": "cap", "remask_hold": 1.5}, "between 0 and 1"),
        ({"remask": "mask_predict"}, "compares tokens by confidence"),
        ({"special": None, "guidance": 1.0}, "special ids"),
        ({"required_ids": [5], "constraint": object()}, "product automaton"),
        ({"order": "top_prob", "entropy_bound": -1.0}, "in nats"),
        ({"order": "top_prob", "cumulative_error": 0.0}, "admit nothing"),
    ],
)
def test_contradictions_are_refused(options, says):
    if "constraint" in options:
        from unmask.decode.logits.constraints import Unconstrained

        options = {**options, "constraint": Unconstrained()}
    with pytest.raises(ValueError, match=says):
        make_rules(**{"max_steps": 4, "special": SPECIAL, **options})


@pytest.mark.parametrize("order", ORDERS)
def test_a_predictor_accepts_complete_rules(model, order):
    rules = make_rules(6, order=order)
    batch = {"input_ids": torch.full((2, 12), MASK)}
    out = MLMPredictor(6, model=model, special=SPECIAL, rules=rules, seed=0).predict(batch)
    expected = fill_canvas(model, Canvas.infill(batch["input_ids"], SPECIAL), rules, special=SPECIAL, seed=0)
    assert torch.equal(out["ids"], expected.ids)
    with pytest.raises(ValueError, match="Give each option once"):
        MLMPredictor(6, model=model, special=SPECIAL, rules=rules, top_k=3)
    with pytest.raises(ValueError, match="must agree"):
        MLMPredictor(5, model=model, special=SPECIAL, rules=rules)


def test_an_order_is_a_name_an_object_or_a_function(model):
    named = decode(model, order="left_to_right")
    assert torch.equal(decode(model, order=LeftToRight()), named)
    assert torch.equal(decode(model, order=lambda view: -view.canvas.positions), named)


def test_commit_rules_remasking_and_caches_are_names_or_objects(model):
    by_name = decode(model, order="top_prob", factor=3.0)
    for rule in (("factor", 3.0), Factor(3.0)):
        assert torch.equal(decode(model, order="top_prob", commit_rule=rule), by_name)
    with pytest.raises(ValueError, match="threshold and commit_rule were given"):
        make_rules(4, order="top_prob", threshold=0.5, commit_rule=Factor(3.0))
    remasked = decode(model, max_steps=24, remask="cap", remask_rate=0.3)
    assert torch.equal(decode(model, max_steps=24, remask=ReMDM(ReMDMCap(0.3))), remasked)
    assert make_rules(4, cache=CachedForward("dual", 2)).forward == make_rules(4, cache="dual", cache_refresh=2).forward


@pytest.mark.parametrize("family", ["ORDERS", "COMPOSED_ORDERS", "COMMIT_RULES", "REMASKING", "CACHES"])
def test_every_entry_exists_and_the_documentation_lists_it(family):
    registry = getattr(families, family)
    assert all(callable(registry.choose(name)) for name in registry)
    text = (Path(__file__).parents[2] / "docs" / "decoding.md").read_text(encoding="utf-8")
    assert f"<!-- families: {family} -->\n{registry.table()}\n<!-- end -->" in text, registry.table()


def test_a_registered_order_is_known_everywhere():
    registry = Registry("order")
    registry.add("own", LeftToRight, "leftmost first")
    assert registry.choose("own")() == LeftToRight() and "own (leftmost first)" in registry.help()
    for name, description, says in (("own", "again", "registered already"), ("new", "", "one line")):
        with pytest.raises(ValueError, match=says):
            registry.add(name, LeftToRight, description)
    with pytest.raises(ValueError, match="There is no order 'oww'"):
        registry.choose("oww")


def test_the_orders_by_confidence_are_all_confidences():
    assert {name for name in ORDERS if isinstance(ORDERS.choose(name)(), ConfidenceOrder)} == set(CONFIDENCES)
