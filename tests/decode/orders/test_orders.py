"""Orders, admissions and blocks: which positions each step reveals, by hand and beside slow references."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.naive.decoding import (
    FIRST_WORD,
    MASK,
    ExactModel,
    TableModel,
    chi_square,
    cumulative_error_count,
    factor_count,
    specials,
    table,
)
from unmask.decode.block_schedule import Blocks
from unmask.decode.budget import AncestralBudget, MinOnePerStep, OnePerStep, UniformBudget
from unmask.decode.canvas import Canvas
from unmask.decode.logits.sampler import Tokens
from unmask.decode.loop import fill_canvas
from unmask.decode.orders.commit_rules import (
    CumulativeError,
    EntropyBound,
    Factor,
    NonAdjacent,
    StepScores,
    Threshold,
    TopK,
)
from unmask.decode.orders.scores import ConfidenceOrder, LeftToRight, OrderBy, RandomOrder
from unmask.decode.orders.selector import Selector
from unmask.decode.rules import Rules
from unmask.decode.view import StepView
from unmask.ops.confidence import top_prob
from unmask.randomness import Noise


class Steps:
    """Remembers which positions of each row each step revealed."""

    def __init__(self):
        self.of = {}

    def update_history(self, step_results):
        for row, committed in zip(step_results["rows"].tolist(), step_results["committed"], strict=True):
            self.of.setdefault(row, []).append(committed.nonzero()[:, 0].tolist())


def revealed(ids, rules, p=None):
    steps = Steps()
    p = p or [[0.6, 0.4]] * len(ids[0])
    canvas = Canvas.infill(torch.tensor(ids), specials(len(p[0])))
    fill_canvas(TableModel(table(p)), canvas, rules, special=specials(len(p[0])), seed=0, observers=[steps])
    return steps.of


def test_left_to_right_and_the_callers_order():
    row = [MASK, FIRST_WORD, MASK, MASK, MASK]
    assert revealed([row], Rules(4, Selector(LeftToRight())))[0] == [[0], [2], [3], [4]]
    assert revealed([row], Rules(2, Selector(LeftToRight())))[0] == [[0, 2], [3, 4]]
    outward = OrderBy(lambda view: -(torch.arange(5) - 3).abs().expand(view.ids.shape))
    assert revealed([row], Rules(4, Selector(outward)))[0] == [[3], [2], [4], [0]]
    by_row = OrderBy(lambda view: torch.arange(5) * (1 - 2 * view.rows[:, None]))
    assert revealed([row, row], Rules(4, Selector(by_row))) == {0: [[4], [3], [2], [0]], 1: [[0], [2], [3], [4]]}


def test_an_order_of_the_wrong_shape_is_refused():
    for function in (lambda view: torch.zeros(3), lambda view: torch.full(view.ids.shape, torch.nan)):
        with pytest.raises(ValueError, match="finite score for every candidate"):
            revealed([[MASK, MASK]], Rules(2, Selector(OrderBy(function))))


def admitted(commit_rule, confidence, log_probs=None, quota=1):
    scores = torch.tensor([confidence], dtype=torch.float64)
    ids = torch.full(scores.shape, MASK)
    canvas = Canvas.infill(ids, specials(2))
    everywhere = torch.ones_like(ids, dtype=torch.bool)
    noise = Noise(torch.zeros(1, dtype=torch.int64))
    view = StepView(
        0, torch.tensor([0]), ids, canvas, everywhere, everywhere, everywhere, torch.tensor([quota]), scores * 0, noise
    )
    chosen = commit_rule(StepScores(view, torch.tensor([quota]), scores, scores, log_probs))
    return chosen[0].nonzero()[:, 0].tolist()


scores = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@settings(deadline=None)
@given(scores, st.floats(0.01, 3))
def test_cumulative_error_is_its_definition(confidence, most):
    n = max(1, cumulative_error_count(confidence, most))
    # A sum in another order may round across the bound; the reference must agree just beside it.
    near = {max(1, cumulative_error_count(confidence, most * (1 + sign * 1e-9))) for sign in (-1, 1)} | {n}
    assert len(admitted(CumulativeError(most), confidence)) in near


@settings(deadline=None)
@given(scores, st.floats(0.01, 5))
def test_factor_is_its_definition(confidence, most):
    assert len(admitted(Factor(most), confidence)) == max(1, factor_count(confidence, most))


def test_admissions_by_hand():
    confidence = [0.5, 0.99, 0.9, 0.98]
    # errors, least first: .01 .02 .10 .50; their sums without the largest: 0 .01 .03 .13
    assert admitted(CumulativeError(0.02), confidence) == [1, 3]
    assert admitted(CumulativeError(0.05), confidence) == [1, 2, 3]
    # (n + 1) (1 - c_n): .02 .06 .40 2.5
    assert admitted(Factor(0.05), confidence) == [1]
    assert admitted(Factor(0.5), confidence) == [1, 2, 3]
    assert admitted(Factor(0.001), confidence) == [1]  # one in any case
    assert admitted(Factor(0.001), confidence, quota=3) == [1, 2, 3]  # and the quota
    assert admitted(Threshold(0.9), confidence) == [1, 2, 3]
    assert admitted(TopK(), confidence, quota=2) == [1, 3]


def test_apart_takes_one_of_every_run_as_far_as_the_quota_allows():
    row, p = (
        [MASK, MASK, FIRST_WORD, MASK, MASK, MASK, FIRST_WORD],
        [[s, 1 - s] for s in (0.9, 0.8, 0.5, 0.7, 0.95, 0.92, 0.5)],
    )

    def by_budget(steps):
        return revealed([row], Rules(steps, Selector(ConfidenceOrder(top_prob), NonAdjacent(TopK()))), p)[0]

    assert revealed([row], Rules(2, Selector(ConfidenceOrder(top_prob))), p)[0] == [[4, 5], [0, 1, 3]]
    assert by_budget(1) == [[0, 1, 3, 4, 5]]
    assert by_budget(2) == [[0, 4], [1, 3, 5]]  # three runs are left, of one each
    crowded = Selector(ConfidenceOrder(top_prob), NonAdjacent(TopK()))
    assert revealed([[MASK] * 2 + [FIRST_WORD]], Rules(1, crowded), p[:3])[0] == [[0, 1]]  # one run, and a quota of two
    everything = Selector(ConfidenceOrder(top_prob), NonAdjacent(Threshold(0.0)))
    assert revealed([row], Rules(5, everything, MinOnePerStep()), p)[0] == [[0, 4], [1, 3, 5]]
    wide = Selector(ConfidenceOrder(top_prob), NonAdjacent(EntropyBound(9.0)))
    assert revealed([row], Rules(5, wide, MinOnePerStep()), p)[0] == [[0, 4], [1, 3, 5]]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=9).filter(
        lambda r: any(c for c, _ in r)
    ),
    st.integers(1, 9),
)
def test_apart_is_its_definition(row, quota):
    candidates = torch.tensor([[c for c, _ in row]])
    ranking = torch.tensor([[float(r) for _, r in row]], dtype=torch.float64)
    ids = torch.full(candidates.shape, MASK)
    noise = Noise(torch.zeros(1, dtype=torch.int64))
    view = StepView(
        0,
        torch.tensor([0]),
        ids,
        Canvas.infill(ids, specials(2)),
        candidates,
        candidates,
        candidates,
        torch.tensor([quota]),
        ranking * 0,
        noise,
    )
    runs, at = [], None
    for column, (candidate, _) in enumerate(row):
        runs += [[]] if candidate and at != column - 1 else []
        if candidate:
            runs[-1].append(column)
            at = column
    best_first = lambda columns: sorted(columns, key=lambda c: (-row[c][1], c))  # noqa: E731
    heads = [best_first(run)[0] for run in runs]
    others = [c for run in runs for c in run if c not in heads]
    expected = (best_first(heads) + best_first(others))[:quota]
    chosen = NonAdjacent(TopK())(StepScores(view, torch.tensor([quota]), ranking, ranking, None))
    assert chosen[0].nonzero()[:, 0].tolist() == sorted(expected)


def test_entropy_bound_by_hand():
    # Two tokens, one with probability q: entropies of q = .5, .9, .99 are .693, .325, .056 nats.
    q = torch.tensor([0.5, 0.9, 0.99], dtype=torch.float64)
    log_probs = torch.stack([q, 1 - q], dim=1).log()
    confidence = q.tolist()
    assert admitted(EntropyBound(0.0), confidence, log_probs) == [2]
    assert admitted(EntropyBound(0.05), confidence, log_probs) == [2]
    assert admitted(EntropyBound(0.06), confidence, log_probs) == [1, 2]  # .056 + .325 - .325
    assert admitted(EntropyBound(0.38), confidence, log_probs) == [1, 2]  # the third would make it .381
    assert admitted(EntropyBound(0.39), confidence, log_probs) == [0, 1, 2]


def test_an_entropy_of_zero_is_free():
    certain = torch.tensor([[1.0, 0.0]] * 3, dtype=torch.float64).log()
    assert admitted(EntropyBound(0.0), [1.0] * 3, certain) == [0, 1, 2]


@pytest.mark.parametrize("commit_rule", [CumulativeError(1e-6), Factor(1e-6), EntropyBound(0.0)])
def test_the_strictest_admissions_reveal_one_a_step_and_are_exact(commit_rule):
    generator = torch.Generator().manual_seed(3)
    joint = torch.rand(3, 3, 3, generator=generator, dtype=torch.float64) ** 2
    rules = Rules(3, Selector(ConfidenceOrder(top_prob), commit_rule), MinOnePerStep(), allow_eos=False)
    decoded = fill_canvas(
        ExactModel(joint), Canvas.unconditional(10_000, 3, specials(3)), rules, special=specials(3), seed=1
    )
    words = decoded.ids - FIRST_WORD
    counts = torch.bincount(words[:, 0] * 9 + words[:, 1] * 3 + words[:, 2], minlength=27)
    assert abs(chi_square(counts, joint.flatten() / joint.sum())) < 4


def test_first_hitting_and_ancestral_in_many_steps_are_exact():
    generator = torch.Generator().manual_seed(4)
    joint = torch.rand(3, 3, 3, generator=generator, dtype=torch.float64) ** 3
    p = joint.flatten() / joint.sum()
    for rules in (
        Rules(3, budget=OnePerStep(), allow_eos=False),
        Rules(2_000, budget=AncestralBudget(), allow_eos=False),
    ):
        decoded = fill_canvas(
            ExactModel(joint), Canvas.unconditional(10_000, 3, specials(3)), rules, special=specials(3), seed=2
        )
        words = decoded.ids - FIRST_WORD
        assert abs(chi_square(torch.bincount(words[:, 0] * 9 + words[:, 1] * 3 + words[:, 2], minlength=27), p)) < 4
        assert decoded.forward_passes == 3


def test_ancestral_sampling_comes_closer_with_more_steps():
    generator = torch.Generator().manual_seed(4)
    joint = torch.rand(3, 3, 3, generator=generator, dtype=torch.float64) ** 3
    p = joint.flatten() / joint.sum()

    def divergence(steps):
        rules = Rules(steps, budget=AncestralBudget(), allow_eos=False)
        words = (
            fill_canvas(
                ExactModel(joint), Canvas.unconditional(20_000, 3, specials(3)), rules, special=specials(3), seed=2
            ).ids
            - FIRST_WORD
        )
        q = torch.bincount(words[:, 0] * 9 + words[:, 1] * 3 + words[:, 2], minlength=27) / 20_000
        return float((q * ((q + 1e-12) / p).log()).sum())

    one, four, thirty_two = divergence(1), divergence(4), divergence(32)
    assert one > 2 * four > 4 * thirty_two


def test_blocks_are_finished_one_after_the_other():
    m, w = MASK, FIRST_WORD
    ids = [[w, m, m, m, w, m, m, m, m, m], [m, m, w, w, w, w, w, w, w, w], [w, w, w, w, w, w, w, w, w, m]]
    order = revealed(ids, Rules(6, block_schedule=Blocks(4)))
    # Blocks of four from the first blank: 1-4 (three blanks), 5-8, 9. Six steps: one each, three more by blanks.
    firsts = [{1, 2, 3}, {5, 6, 7, 8}, {9}]
    assert [next(i for i, block in enumerate(firsts) if set(step) <= block) for step in order[0]] == [0, 0, 1, 1, 1, 2]
    assert [len(step) for step in order[1]] == [1, 1] and order[2] == [[9]]
    with pytest.raises(ValueError, match="cut a row into 3, each needs a step"):
        revealed(ids, Rules(2, block_schedule=Blocks(4)))
    with pytest.raises(ValueError, match="block length of 1 or more"):
        Blocks(0)


def test_a_block_of_one_is_left_to_right_and_one_of_all_is_no_block():
    row = [[MASK] * 7]
    assert revealed(row, Rules(7, block_schedule=Blocks(1)))[0] == [[i] for i in range(7)]
    assert revealed(row, Rules(3, block_schedule=Blocks(7))) == revealed(row, Rules(3))


def test_a_threshold_moves_through_blocks_as_fast_as_it_can():
    selector = Selector(ConfidenceOrder(top_prob), Threshold(0.5))
    assert revealed([[MASK] * 6], Rules(6, selector, MinOnePerStep(), block_schedule=Blocks(3)))[0] == [
        [0, 1, 2],
        [3, 4, 5],
    ]


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=14).filter(any), st.integers(1, 8), st.integers(1, 14))
def test_every_plan_of_blocks_ends_in_time(blank, length, max_steps):
    ids = torch.tensor([[MASK if b else FIRST_WORD for b in blank]])
    blocks = math.ceil((len(blank) - blank.index(True)) / length)
    rules = Rules(
        max(max_steps, blocks),
        Selector(RandomOrder()),
        UniformBudget(),
        block_schedule=Blocks(length),
        tokens=Tokens(0.0),
    )
    decoded = fill_canvas(
        TableModel(table([[0.6, 0.4]] * len(blank))),
        Canvas.infill(ids, specials(2)),
        rules,
        special=specials(2),
        seed=0,
    )
    assert (
        not (decoded.ids == MASK).any()
        and decoded.forward_passes == min(sum(blank), decoded.forward_passes) <= rules.max_steps
    )
