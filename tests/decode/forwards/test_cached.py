"""Cached forwards: refreshed at every step they equal the plain one; otherwise they run exactly the stated positions."""

import pytest
import torch

from tests.decode.test_loop import SPECIAL, ragged
from tests.naive.decoding import MASK, PAD
from unmask.decode.canvas import Canvas
from unmask.decode.forwards.cached import KINDS, VICINITY, CachedForward
from unmask.decode.forwards.plain import GuidedForward, PlainForward
from unmask.decode.loop import fill_canvas
from unmask.decode.named import make_rules
from unmask.models.rotary_mlm import RotaryTransformerMLMModel

every_kind = pytest.mark.parametrize("kind", KINDS)
AXES = {
    "one by one": {},
    "ancestral": {"order": "ancestral"},
    "surest": {"order": "top_prob", "threshold": 0.3},
    "blocks": {"block_length": 3},
    "blocks, surest": {"block_length": 3, "order": "entropy"},
    "guided": {"block_length": 3, "guidance": 1.0},
}


@pytest.fixture(autouse=True)
def near(monkeypatch):
    """A vicinity smaller than these short rows."""
    assert VICINITY == 16
    monkeypatch.setattr("unmask.decode.forwards.cached.VICINITY", 1)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = RotaryTransformerMLMModel(32, 16, 3, 2, padding_idx=PAD, mask_idx=MASK, dropout=0.3).double()
    for parameter in model.parameters():
        parameter.data.mul_(4)
    return model


class Recording:
    """Wraps a model and records its inputs."""

    def __init__(self, model):
        self.model, self.calls, self.tokens = model, [], []

    @property
    def causal_block(self):
        return self.model.causal_block

    def hidden_states(self, *args, **kwargs):
        return self.model.hidden_states(*args, **kwargs)

    def hidden_states_at(self, x_t, where, *rest):
        self.calls.append(where)
        self.tokens.append(x_t)
        return self.model.hidden_states_at(x_t, where, *rest)

    def __call__(self, *args, **kwargs):
        raise AssertionError("a cached decode runs no whole forward pass")

    def logits_at(self, *args):
        return self.model.logits_at(*args)


class Logits:
    """Records the log-probabilities of every step."""

    def __init__(self):
        self.steps = []

    def update_history(self, step_results):
        self.steps.append(step_results["log_probs"])


def decode(model, canvas, **options):
    logits = Logits()
    rules = make_rules(**{"max_steps": 20, "special": SPECIAL, **options})
    return fill_canvas(model, canvas, rules, special=SPECIAL, seed=3, observers=[logits]), torch.cat(logits.steps)


@every_kind
@pytest.mark.parametrize("options", AXES.values(), ids=AXES.keys())
def test_refreshed_at_every_step_it_equals_the_plain_forward(model, kind, options):
    plain, expected = decode(model, ragged(), **options)
    cached, found = decode(model, ragged(), cache=kind, cache_refresh=1, **options)
    assert torch.equal(cached.ids, plain.ids) and torch.equal(cached.steps_taken, plain.steps_taken)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    assert cached.positions_computed == plain.positions_computed


@every_kind
def test_a_refresh_costs_tokens_and_changes_logits(model, kind):
    (never, a), (sometimes, b), (always, c) = (
        decode(model, ragged(), block_length=6, cache=kind, cache_refresh=n) for n in (None, 2, 1)
    )
    assert never.positions_computed < sometimes.positions_computed < always.positions_computed
    for one, other in ((a, b), (b, c), (a, c)):
        assert one.shape != other.shape or not torch.allclose(one, other)


def test_the_positions_that_run(model):
    """Two blocks of two after a prompt of three: the whole row when a block opens, then the block, or the block and the rest."""
    canvas = Canvas.prefix(torch.tensor([[PAD, 3, 7, 9], [5, 6, 7, 8]]), None, 4, SPECIAL)
    parts = {
        "dual": ("....xx..", "......xx"), "prefix": ("....xxxx", "......xx"), "vicinity": ("...xxxx.", ".....xxx"),
        "delayed": ("....xxxx", "......xx"),
    }  # fmt: skip
    for kind, (first, second) in parts.items():
        asked = Recording(model)
        decoded, _ = decode(asked, canvas, block_length=2, cache=kind)
        pattern = ["".join(".x"[int(x)] for x in where[0]) for where in asked.calls]
        assert pattern == [".xxxxxxx", first, ".xxxxxxx", second]
        assert decoded.positions_computed == sum(int(where.sum()) for where in asked.calls)
        assert decoded.forward_passes == len(asked.calls) == 4


def test_the_number_of_positions_that_run(monkeypatch):
    """For L positions and a block of B from s on: prefix L - s, dual B, vicinity B + 32, delayed the masked and the newly placed."""
    monkeypatch.setattr("unmask.decode.forwards.cached.VICINITY", VICINITY)
    ids = torch.full((1, 96), 5)
    ids[:, 40:56] = MASK
    ids[:, 60] = 7
    model = RotaryTransformerMLMModel(32, 16, 1, 2, padding_idx=PAD, mask_idx=MASK).eval()
    for kind, expected in (
        ("prefix", [96 - 40] * 3),
        ("dual", [16] * 3),
        ("vicinity", [16 + 32] * 3),
        ("delayed", [12 + 4, 8 + 4, 4 + 4]),
    ):
        asked = Recording(model)
        decode(asked, Canvas.infill(ids, SPECIAL), max_steps=4, cache=kind)
        assert [int(where.sum()) for where in asked.calls] == [96, *expected]


def test_delayed_runs_a_placed_token_once_more_and_never_again(model):
    asked = Recording(model)
    canvas = Canvas.prefix(torch.tensor([[3, 7, 9]]), None, 4, SPECIAL)
    for options in ({}, {"remask": "cap", "remask_rate": 0.5, "max_steps": 12}):
        asked.calls.clear()
        asked.tokens.clear()
        decode(asked, canvas, cache="delayed", **options)
        stored = torch.full((7,), -1)
        for where, ids in zip(asked.calls, asked.tokens, strict=True):
            expected = (ids[0] == MASK) | (ids[0] != stored)
            assert torch.equal(where[0], expected)
            stored = ids[0].clone()
        assert not options or len(asked.calls) > 4


@every_kind
@pytest.mark.parametrize("options", AXES.values(), ids=AXES.keys())
def test_a_row_is_the_same_alone_and_in_a_batch(model, kind, options):
    canvas = ragged()
    together, _ = decode(model, canvas, cache=kind, **options)
    for row in (0, 1, 3):
        alone, _ = decode(model, canvas.rows(torch.tensor([row])), cache=kind, **options)
        assert torch.equal(alone.ids[0], together.ids[row]) and alone.steps_taken[0] == together.steps_taken[row]


def test_a_model_without_kv_cache_is_refused(model):
    with pytest.raises(ValueError, match="hidden_states_at"):
        decode(lambda *args, **kwargs: model(*args, **kwargs), ragged(), cache="dual")
    with pytest.raises(ValueError, match="prefix, dual, vicinity, delayed"):
        CachedForward("all")
    with pytest.raises(ValueError, match="Choose one of block, prefix"):
        make_rules(4, cache="all")
    with pytest.raises(ValueError, match="at least 1"):
        CachedForward("dual", 0)
    with pytest.raises(ValueError, match="there is none"):
        make_rules(4, cache_refresh=2)


def test_one_forward_serves_many_decodes(model):
    """The cache of one decode does not affect the next."""
    rules = make_rules(20, special=SPECIAL, block_length=3, cache="dual")
    assert isinstance(rules.forward, CachedForward) and isinstance(make_rules(1).forward, PlainForward)
    first = fill_canvas(model, ragged(), rules, special=SPECIAL, seed=3)
    fill_canvas(model, Canvas.unconditional(2, 9, SPECIAL), rules, special=SPECIAL, seed=4)
    assert torch.equal(fill_canvas(model, ragged(), rules, special=SPECIAL, seed=3).ids, first.ids)
    assert isinstance(make_rules(1, special=SPECIAL, guidance=1.0, cache="dual").forward, GuidedForward)
