"""The softmax runs only if a part reads probabilities, and no token depends on it."""

import pytest
import torch

from tests.decode.networks import sure
from tests.naive.decoding import EOS, FIRST_WORD, MASK, PAD, TableModel, specials, table
from unmask.contracts import SpecialIds
from unmask.decode import loop
from unmask.decode.block_schedule import Blocks
from unmask.decode.budget import AncestralBudget, ScheduleWithRemasking
from unmask.decode.canvas import Canvas
from unmask.decode.forwards.plain import GuidedForward
from unmask.decode.logits.automaton import Automaton
from unmask.decode.logits.processors import EosLast, ForbiddenIds, PositionVocabulary, RepetitionPenalty
from unmask.decode.logits.sampler import Tokens
from unmask.decode.loop import fill_canvas
from unmask.decode.orders.commit_rules import NonAdjacent, Threshold, TopK
from unmask.decode.orders.scores import ConfidenceOrder, DrawnProbability, LeftToRight, OrderBy, RandomOrder
from unmask.decode.orders.selector import Selector
from unmask.decode.remasking import MaskPredict, ReMDM, ReMDMCap
from unmask.decode.rules import Rules
from unmask.ops.confidence import top_prob
from unmask.ops.schedule import cosine

SPECIAL = SpecialIds(mask=MASK, pad=PAD, eos=EOS, vocab_size=20)
TOKENS = {
    "greedy": Tokens(0.0),
    "drawn": Tokens(1.0),
    "cool": Tokens(0.6),
    "top-k": Tokens(1.0, top_k=3),
    "top-p": Tokens(1.3, top_p=0.7),
    "min-p": Tokens(1.0, min_p=0.3),
    "annealed": Tokens(1.5, annealed=True),
}
BLIND = {
    "random": {},
    "left to right": {"selector": Selector(LeftToRight())},
    "non_adjacent": {"selector": Selector(RandomOrder(), NonAdjacent(TopK()))},
    "ancestral": {"budget": AncestralBudget(cosine)},
    "blocks": {"block_schedule": Blocks(3)},
    "remasking": {"budget": ScheduleWithRemasking(), "remasking": ReMDM(ReMDMCap(0.3))},
    "guided": {"forward": GuidedForward(1.0, SPECIAL)},
    "automaton": {"constraint": Automaton.requiring([17, 5], SPECIAL)},
    "own vocabulary": {
        "logits_processors": (PositionVocabulary((torch.arange(20) % torch.arange(1, 10)[:, None] == 0)[None]),)
    },
    "other adjustments": {
        "logits_processors": (EosLast(SPECIAL), RepetitionPenalty(1.5, SPECIAL), ForbiddenIds((7, 8)))
    },
}
READING = {
    "a confidence": {"selector": Selector(ConfidenceOrder(top_prob))},
    "a threshold": {"selector": Selector(ConfidenceOrder(top_prob), Threshold(0.1))},
    "a draft": {"selector": Selector(DrawnProbability())},
    "remasking by confidence": {
        "budget": ScheduleWithRemasking(),
        "remasking": ReMDM(ReMDMCap(0.3), by_confidence=True),
    },
    "keep surest": {"selector": Selector(ConfidenceOrder(top_prob)), "remasking": MaskPredict()},
    "an order of the caller's": {"selector": Selector(OrderBy(lambda view: torch.zeros(view.ids.shape)))},
    "a hook of the caller's": {"logits_processors": (lambda logits, view, where: logits,)},
}
every_blind_rule = pytest.mark.parametrize("options", BLIND.values(), ids=BLIND.keys())


class Keep:
    def __init__(self, wants_all_logits=False):
        self.steps, self.wants_all_logits = [], wants_all_logits

    def update_history(self, step_results):
        self.steps.append(step_results)


@pytest.fixture(scope="module")
def model():
    return sure(0, 20, 16, 1, 2, padding_idx=PAD, mask_idx=MASK)


def canvas():
    ids = torch.full((3, 9), MASK)
    ids[:, 0] = torch.tensor([9, 10, 11])
    ids[1, 4], ids[2, 7:] = 12, PAD
    return Canvas.infill(ids, SPECIAL)


def decode(model, options, tokens, *, reader=False, observers=(), steps=4):
    hooks = options.get("logits_processors", ()) + ((lambda logits, view, where: logits,) if reader else ())
    rules = Rules(steps, **{**options, "tokens": tokens, "logits_processors": hooks})
    assert rules.reads_probabilities == reader
    return fill_canvas(model, canvas(), rules, special=SPECIAL, seed=3, observers=observers).ids


@every_blind_rule
@pytest.mark.parametrize("tokens", TOKENS.values(), ids=TOKENS.keys())
def test_tokens_are_those_of_normalised_logits_and_no_softmax_runs(model, options, tokens, monkeypatch):
    normalised = decode(
        model, options, tokens, reader=True
    )  # a hook of the caller's might read: probabilities are made for it
    monkeypatch.setattr(loop, "_normalised", lambda logits: pytest.fail("nobody reads probabilities"))
    assert torch.equal(decode(model, options, tokens), normalised)


@pytest.mark.parametrize("options", READING.values(), ids=READING.keys())
def test_parts_that_read_probabilities_receive_them(model, options, monkeypatch):
    seen = []
    normalise = loop._normalised
    monkeypatch.setattr(loop, "_normalised", lambda logits: seen.append(1) or normalise(logits))
    rules = Rules(4, **options)
    decoded = fill_canvas(model, canvas(), rules, special=SPECIAL, seed=3)
    assert rules.reads_probabilities and len(seen) == decoded.forward_passes > 0


@every_blind_rule
@pytest.mark.parametrize("every", [False, True])
def test_observers_receive_log_probabilities_and_change_nothing(model, options, every):
    keep, tokens = Keep(every), Tokens(0.8)
    assert torch.equal(decode(model, options, tokens, observers=[keep]), decode(model, options, tokens))
    for step in keep.steps:
        odds = step["log_probs"].exp()
        torch.testing.assert_close(odds.sum(-1), torch.ones(len(odds), dtype=torch.float64))
        assert len(odds) == step["scored"].sum() and (not every or torch.equal(step["scored"], step["candidates"]))
        placed = step["committed"] & step["scored"]
        own = odds[placed[step["scored"]]].gather(-1, step["output_ids"][placed][:, None])[:, 0]
        torch.testing.assert_close(step["probability"][placed], own)


def test_observed_probabilities_are_those_of_the_model():
    p, keep = [[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]], Keep(True)
    logits = table(p) + torch.tensor([[3.0], [-5.0]])
    rules = Rules(1, tokens=Tokens(2.0, top_k=2), allow_eos=False)
    ids = fill_canvas(
        TableModel(logits),
        Canvas.unconditional(1, 2, specials(3)),
        rules,
        special=specials(3),
        seed=0,
        observers=[keep],
    ).ids
    step = keep.steps[0]
    torch.testing.assert_close(step["log_probs"].exp()[:, FIRST_WORD:], torch.tensor(p, dtype=torch.float64))
    assert step["probability"][0].tolist() == pytest.approx([p[n][int(id) - FIRST_WORD] for n, id in enumerate(ids[0])])


def test_observers_never_change_a_tie_of_rounding():
    # In float32 both words have the same log-probability, and the first of equals would be taken; the second has the larger logit.
    logits = torch.full((3, 6), -50.0)
    logits[:, FIRST_WORD:] = 0.0
    logits[:, FIRST_WORD + 1] = 1e-9
    assert logits.log_softmax(-1)[0, FIRST_WORD] == logits.log_softmax(-1)[0, FIRST_WORD + 1]
    special = specials(2)
    logits = logits[:, : special.vocab_size]
    rules = Rules(2, tokens=Tokens(0.0), allow_eos=False)
    found = [
        fill_canvas(
            TableModel(logits), Canvas.unconditional(1, 3, special), rules, special=special, seed=0, observers=watching
        ).ids.tolist()
        for watching in ((), (Keep(),), (Keep(True),))
    ]
    assert found == [[[FIRST_WORD + 1] * 3]] * 3


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("observers", [(), (Keep(),)], ids=["alone", "watched"])
@pytest.mark.parametrize("selector", [Selector(), Selector(ConfidenceOrder(top_prob))], ids=["random", "top_prob"])
def test_rows_without_an_allowed_token_are_refused(temperature, observers, selector):
    for bad in ([-torch.inf] * 2, [torch.nan, 0.0], [0.0, torch.nan], [torch.inf, 0.0], [0.0, torch.inf]):
        logits = table([[1.0, 1.0]] * 3)
        logits[1, FIRST_WORD:] = torch.tensor(bad, dtype=torch.float64)
        rules = Rules(1, selector, tokens=Tokens(temperature), allow_eos=False)
        with pytest.raises(ValueError, match="No token may be placed at position 1 of row 0"):
            fill_canvas(
                TableModel(logits),
                Canvas.unconditional(1, 3, specials(2)),
                rules,
                special=specials(2),
                seed=0,
                observers=observers,
            )


def test_an_order_as_a_function_receives_commit_probabilities():
    seen = []

    def left_to_right(view):
        seen.append(view.commit_prob[0].tolist())
        return -torch.arange(3.0).expand(view.ids.shape)

    p = [[0.75, 0.25], [0.4, 0.6], [0.5, 0.5]]
    rules = Rules(3, Selector(OrderBy(left_to_right)), tokens=Tokens(0.0), allow_eos=False)
    fill_canvas(TableModel(table(p)), Canvas.unconditional(1, 3, specials(2)), rules, special=specials(2), seed=0)
    assert seen == [pytest.approx(row) for row in ([0, 0, 0], [0.75, 0, 0], [0.75, 0.6, 0])]
