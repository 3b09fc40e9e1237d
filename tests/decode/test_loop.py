"""Decoding: masks are filled, given tokens stay, forward passes are bounded, rows are independent, samples are exact."""

import pytest
import torch

from tests.decode.networks import sure
from tests.naive.decoding import EOS, FIRST_WORD, MASK, PAD, ExactModel, TableModel, chi_square, specials, table
from unmask.contracts import SpecialIds
from unmask.decode.block_schedule import Blocks
from unmask.decode.budget import AncestralBudget, MinOnePerStep, ScheduleBudget, ScheduleWithRemasking, UniformBudget
from unmask.decode.canvas import Canvas
from unmask.decode.forwards.plain import GuidedForward
from unmask.decode.logits.automaton import Automaton
from unmask.decode.logits.processors import EosLast, RepetitionPenalty
from unmask.decode.logits.sampler import Tokens
from unmask.decode.loop import fill_canvas
from unmask.decode.orders.commit_rules import Factor, Threshold, TopK
from unmask.decode.orders.scores import ConfidenceOrder, Critic, DrawnProbability, LeftToRight, RandomOrder
from unmask.decode.orders.selector import Selector
from unmask.decode.remasking import MaskPredict, NoRemasking, ReMDM, ReMDMCap, ReMDMRescale
from unmask.decode.rules import Rules
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.ops.confidence import CONFIDENCES, top_prob
from unmask.ops.schedule import cosine

SPECIAL = SpecialIds(mask=MASK, pad=PAD, eos=EOS, bos=3, others=(4,), vocab_size=30)


def likes_even(ids, real):
    """A critic that prefers even ids, large ones more."""
    return torch.where(ids % 2 == 0, 0.5 + ids / 100, ids / 100)


SELECTORS = {
    "random": Selector(),
    **{name: Selector(ConfidenceOrder(f)) for name, f in CONFIDENCES.items()},
    "top_prob, warm": Selector(ConfidenceOrder(top_prob), temperature=1.0),
    "threshold": Selector(ConfidenceOrder(top_prob), Threshold(0.06)),
    "factor": Selector(ConfidenceOrder(top_prob), Factor(2.5)),
    "left to right": Selector(LeftToRight()),
    "drawn": Selector(DrawnProbability(), temperature=1.0),
    "critic": Selector(Critic(likes_even)),
}
AXES = {
    "ancestral": {"budget": AncestralBudget(cosine)},
    "blocks": {"selector": SELECTORS["entropy"], "block_schedule": Blocks(5)},
    "remasking": {"budget": ScheduleWithRemasking(), "remasking": ReMDM(ReMDMCap(0.3))},
    "remasking by confidence": {
        "budget": ScheduleWithRemasking(),
        "remasking": ReMDM(ReMDMRescale(1.0), by_confidence=True),
    },
    "critic hides again": {"selector": SELECTORS["critic"], "remasking": MaskPredict()},
    "keep surest": {"selector": SELECTORS["top_prob"], "remasking": MaskPredict()},
    "guided": {"forward": GuidedForward(1.0, SPECIAL)},
    "automaton": {"constraint": Automaton.requiring([17], SPECIAL)},
    "late eos": {"logits_processors": (EosLast(SPECIAL), RepetitionPenalty(1.5, SPECIAL)), "stop_at_eos": True},
}
RULES = {
    **{name: {"selector": selector} for name, selector in SELECTORS.items()},
    **AXES,
}
every_selector = pytest.mark.parametrize("selector", SELECTORS.values(), ids=SELECTORS.keys())
every_rule = pytest.mark.parametrize("options", RULES.values(), ids=RULES.keys())


@pytest.fixture(scope="module")
def model():
    return sure(0, 32, 16, 2, 2, padding_idx=PAD, mask_idx=MASK, dropout=0.3)


class Counting:
    """Wraps a model and records the rows of each call."""

    def __init__(self, model):
        self.model, self.rows = model, []

    def __call__(self, x_t, attention_mask=None, positions=None, block_mask=None):
        self.rows.append(len(x_t))
        return self.model(x_t, attention_mask, positions, block_mask)


def ragged() -> Canvas:
    """Infill rows with 5, 1, 0 and 9 masks to fill; padding on either side; one fixed mask."""
    m, p = MASK, PAD
    ids = torch.tensor(
        [
            [3, 9, m, m, 12, m, 8, m, m, p, p, p],
            [p, p, p, p, 3, 7, m, 8, 9, 9, 9, 9],
            [3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, p],
            [p, m, m, m, m, m, m, m, m, m, m, 9],
        ]
    )
    fixed = torch.zeros_like(ids, dtype=torch.bool)
    fixed[3, 5] = True
    return Canvas.infill(ids, SPECIAL, fixed=fixed)


@every_rule
@pytest.mark.parametrize("max_steps", [2, 3, 100])
def test_every_masked_position_is_filled_and_nothing_else_changes(model, options, max_steps):
    canvas = ragged()
    blanks = canvas.blanks(MASK)
    decoded = fill_canvas(model, canvas, Rules(max_steps, **options), special=SPECIAL, seed=1)
    assert torch.equal(decoded.ids[~blanks], canvas.ids[~blanks])
    placed = decoded.ids[blanks]
    assert not torch.isin(placed, torch.tensor([MASK, PAD, 3, 4])).any()
    assert (placed < SPECIAL.vocab_size).all()  # the model embeds 32 ids, the tokenizer knows 30


@every_rule
@pytest.mark.parametrize("max_steps", [2, 3, 100])
def test_never_more_forward_passes_than_steps_or_masked_positions(model, options, max_steps):
    counting = Counting(model)
    rules = Rules(max_steps, **options)
    decoded = fill_canvas(counting, ragged(), rules, special=SPECIAL, seed=1)
    assert len(counting.rows) == decoded.forward_passes <= max_steps
    if isinstance(rules.remasking, NoRemasking):
        assert (decoded.steps_taken <= torch.tensor([5, 1, 0, 9])).all()
    assert (decoded.steps_taken <= max_steps).all() and decoded.steps_taken[2] == 0
    batches = 2 if isinstance(rules.forward, GuidedForward) else 1  # guidance doubles every row
    assert sum(counting.rows) == batches * decoded.steps_taken.sum()  # a finished row costs nothing more


def test_ten_masks_and_a_hundred_steps_take_ten_forward_passes(model):
    counting = Counting(model)
    decoded = fill_canvas(counting, Canvas.unconditional(1, 10, SPECIAL), Rules(100), special=SPECIAL, seed=0)
    assert len(counting.rows) == 10 and decoded.steps_taken.tolist() == [10]


@every_selector
def test_a_fully_masked_row_can_be_unmasked_in_one_step(model, selector):
    decoded = fill_canvas(model, Canvas.unconditional(2, 10, SPECIAL), Rules(1, selector), special=SPECIAL, seed=0)
    assert decoded.forward_passes == 1 and not (decoded.ids == MASK).any()


@every_rule
def test_a_row_decodes_alike_alone_in_any_batch_and_under_any_padding(model, options):
    rules = Rules(4, **options)
    canvas = ragged()
    together = fill_canvas(model, canvas, rules, special=SPECIAL, seed=5).ids
    reversed_ = fill_canvas(model, canvas.rows(torch.tensor([3, 2, 1, 0])), rules, special=SPECIAL, seed=5).ids
    assert torch.equal(reversed_.flip(0), together)
    for row in range(4):
        real = canvas.attention_mask[row]
        alone = fill_canvas(model, canvas.rows(torch.tensor([row])), rules, special=SPECIAL, seed=5).ids
        assert torch.equal(alone[0], together[row])
        for left, right in ((0, 0), (3, 2)):
            pad = lambda x, value: torch.nn.functional.pad(x[row][real][None], (left, right), value=value)  # noqa: B023, E731
            padded = Canvas(
                pad(canvas.ids, PAD),
                pad(canvas.fixed, True),
                pad(canvas.attention_mask, False),
                pad(canvas.positions, 0),
                torch.tensor([row]),
            )
            ids = fill_canvas(model, padded, rules, special=SPECIAL, seed=5).ids
            assert torch.equal(ids[padded.attention_mask], together[row][real])


def test_without_a_seed_draws_follow_the_global_generator(model):
    canvas, rules = Canvas.unconditional(3, 10, SPECIAL), Rules(5)
    decode = lambda **kw: fill_canvas(model, canvas, rules, special=SPECIAL, **kw).ids  # noqa: E731
    assert torch.equal(decode(seed=1), decode(seed=1))
    assert not torch.equal(decode(seed=1), decode(seed=2))
    assert not torch.equal(decode(seed=1)[0], decode(seed=1)[1])
    torch.manual_seed(3)
    first, second = decode(), decode()
    torch.manual_seed(3)
    assert torch.equal(decode(), first) and not torch.equal(first, second)


def test_the_model_runs_in_eval_mode_and_its_mode_is_restored(model):
    model.train()
    model.blocks[0].eval()
    before = [m.training for m in model.modules()]
    seen = []
    handle = model.register_forward_pre_hook(lambda module, _: seen.append(any(m.training for m in module.modules())))
    fill_canvas(Counting(model), Canvas.unconditional(1, 4, SPECIAL), Rules(2), special=SPECIAL)
    fill_canvas(model, Canvas.unconditional(1, 4, SPECIAL), Rules(2), special=SPECIAL)
    handle.remove()
    assert [m.training for m in model.modules()] == before
    greedy = Rules(4, Selector(ConfidenceOrder(top_prob)), tokens=Tokens(0.0))
    again = [fill_canvas(model, Canvas.unconditional(1, 8, SPECIAL), greedy, special=SPECIAL).ids for _ in range(2)]
    assert torch.equal(*again)  # dropout 0.3 would differ


def test_logits_are_computed_only_where_they_are_read(model):
    asked = []

    class Frugal:
        hidden_states = staticmethod(
            lambda x_t, attention_mask=None, positions=None: model.hidden_states(x_t, attention_mask, positions)
        )

        def __call__(self, *args, **kwargs):
            raise AssertionError("only some logits are needed")

        @staticmethod
        def logits_at(hidden, where):
            asked.append(int(where.sum()))
            return model.logits_at(hidden, where)

    canvas = Canvas.unconditional(2, 12, SPECIAL)
    fill_canvas(Frugal(), canvas, Rules(4), special=SPECIAL, seed=0)
    assert asked == [6, 6, 6, 6]  # random order: the chosen positions only
    asked.clear()
    fill_canvas(Frugal(), canvas, Rules(4, Selector(ConfidenceOrder(top_prob))), special=SPECIAL, seed=0)
    assert asked == [24, 18, 12, 6]  # a confidence: the blanks that are left


def test_eos_ends_a_row_but_never_precedes_given_text():
    logits = table([[1.0, 1.0]] * 6)  # specials have by far the highest logits
    model = TableModel(logits)
    canvas = Canvas.infill(torch.tensor([[MASK, MASK, FIRST_WORD, MASK, MASK, MASK]]), specials(2))
    ids = fill_canvas(model, canvas, Rules(2), special=specials(2), seed=0).ids[0].tolist()
    assert EOS not in ids[:3] and ids[3:] == [EOS, EOS, EOS]
    without = fill_canvas(model, canvas, Rules(2, allow_eos=False), special=specials(2), seed=0).ids[0].tolist()
    assert EOS not in without


def test_ids_beyond_the_tokenizer_are_never_placed():
    padded_embedding = torch.nn.functional.pad(table([[1.0, 1.0]] * 6), (0, 3), value=50.0)
    ids = fill_canvas(
        TableModel(padded_embedding), Canvas.unconditional(9, 6, specials(2)), Rules(2), special=specials(2)
    ).ids
    assert (ids < specials(2).vocab_size).all()


def joint() -> torch.Tensor:
    """A dependent distribution over three words at three positions, with zeros."""
    generator = torch.Generator().manual_seed(7)
    p = torch.rand(3, 3, 3, generator=generator, dtype=torch.float64) ** 3
    p[0, 1, 2] = p[2, 2, :] = 0
    return p / p.sum()


def sampled_counts(rules: Rules, rows: int = 20_000) -> torch.Tensor:
    p = joint()
    decoded = fill_canvas(
        ExactModel(p), Canvas.unconditional(rows, 3, specials(3)), rules, special=specials(3), seed=11
    )
    words = decoded.ids - FIRST_WORD
    return torch.bincount(words[:, 0] * 9 + words[:, 1] * 3 + words[:, 2], minlength=27)


@pytest.mark.parametrize(
    "selector", [Selector(), Selector(ConfidenceOrder(top_prob)), Selector(ConfidenceOrder(top_prob), temperature=0.5)]
)
def test_one_at_a_time_the_samples_follow_the_joint(selector):
    # Any order that is chosen before the draw is exact when one position is revealed per evaluation.
    rules = Rules(3, selector, allow_eos=False)
    counts = sampled_counts(rules)
    assert (counts[joint().flatten() == 0] == 0).all()
    assert abs(chi_square(counts, joint().flatten())) < 4


def test_all_at_once_they_follow_the_product_of_the_marginals_instead():
    counts = sampled_counts(Rules(1, allow_eos=False))
    p = joint()
    product = torch.einsum("a,b,c->abc", p.sum((1, 2)), p.sum((0, 2)), p.sum((0, 1))).flatten()
    assert abs(chi_square(counts, product)) < 4
    assert chi_square(counts, p.flatten()) > 50


@pytest.mark.parametrize("max_steps", [1, 2, 6])
@pytest.mark.parametrize(
    "selector", [Selector(), Selector(ConfidenceOrder(top_prob)), Selector(ConfidenceOrder(top_prob), Threshold(0.5))]
)
def test_greedy_finds_the_mode_of_a_factorised_model(selector, max_steps):
    p = torch.rand(6, 5, generator=torch.Generator().manual_seed(1)).double()
    canvas = Canvas.unconditional(1, 6, specials(5))
    rules = Rules(max_steps, selector, tokens=Tokens(temperature=0.0), allow_eos=False)
    ids = fill_canvas(TableModel(table(p.tolist())), canvas, rules, special=specials(5)).ids[0]
    assert torch.equal(ids - FIRST_WORD, p.argmax(-1))


def test_random_order_is_uniform_over_orders():
    class Watch:
        def __init__(self):
            self.first = []

        def update_history(self, step_results):
            if step_results["step"] == 0:
                self.first = step_results["committed"].long().sum(0)

    watch = Watch()
    rows = 6_000
    canvas = Canvas.unconditional(rows, 4, specials(2))
    fill_canvas(TableModel(table([[1.0, 1.0]] * 4)), canvas, Rules(4), special=specials(2), seed=3, observers=[watch])
    assert abs(chi_square(watch.first, torch.full((4,), 0.25))) < 4


class Order:
    """Records the positions of row 0 that each step unmasked."""

    def __init__(self):
        self.steps = []

    def update_history(self, step_results):
        self.steps.append(step_results["committed"][0].nonzero()[:, 0].tolist())


def reveal_order(selector, rows, max_steps, budget=None):
    order = Order()
    canvas = Canvas.unconditional(1, len(rows), specials(len(rows[0])))
    rules = Rules(max_steps, selector, budget or UniformBudget(), tokens=Tokens(0.0), allow_eos=False)
    fill_canvas(TableModel(table(rows)), canvas, rules, special=specials(len(rows[0])), observers=[order])
    return order.steps


# Probabilities of three words at four positions.
P = [[0.50, 0.45, 0.05], [0.48, 0.26, 0.26], [0.90, 0.05, 0.05], [0.60, 0.39, 0.01]]


def test_orders_by_hand():
    assert reveal_order(Selector(ConfidenceOrder(CONFIDENCES["top_prob"])), P, 4) == [[2], [3], [0], [1]]
    # margins .05 .22 .85 .21
    assert reveal_order(Selector(ConfidenceOrder(CONFIDENCES["prob_diff"])), P, 4) == [[2], [1], [3], [0]]
    # entropies in nats .856 1.053 .394 .720
    assert reveal_order(Selector(ConfidenceOrder(CONFIDENCES["entropy"])), P, 4) == [[2], [3], [0], [1]]


def test_a_margin_is_a_difference_of_probabilities_not_of_ids():
    # The two best ids of position 0 lie far apart and their margin is nil; a difference of indices would clear any threshold.
    rows = [[0.49, 0.01, 0.01, 0.49], [0.97, 0.01, 0.01, 0.01]]
    selector = Selector(ConfidenceOrder(CONFIDENCES["prob_diff"]), Threshold(0.9))
    assert reveal_order(selector, rows, 2, MinOnePerStep()) == [[1], [0]]


def test_thresholds_by_hand():
    by_threshold = lambda least, steps: reveal_order(  # noqa: E731
        Selector(ConfidenceOrder(top_prob), Threshold(least)), P, steps, MinOnePerStep()
    )
    assert by_threshold(0.6, 4) == [[2, 3], [0], [1]]  # at least one a step, though nothing clears 0.6 any more
    assert by_threshold(0.5, 4) == [[0, 2, 3], [1]]
    assert by_threshold(1.0, 4) == [[2], [3], [0], [1]]
    assert by_threshold(0.0, 4) == [[0, 1, 2, 3]]
    assert by_threshold(1.0, 2) == [[2], [0, 1, 3]]  # the last evaluation takes what is left


def test_a_threshold_unmasks_at_least_the_schedules_count():
    selector = Selector(ConfidenceOrder(top_prob), Threshold(1.0))
    assert reveal_order(selector, P, 2, UniformBudget()) == [[2, 3], [0, 1]]


def test_ties_go_to_the_leftmost():
    assert reveal_order(Selector(ConfidenceOrder(top_prob)), [[0.7, 0.3]] * 3, 3) == [[0], [1], [2]]


def test_the_order_temperature_samples_positions_by_confidence():
    # Gumbel on log-scores: the first place is drawn in proportion to the scores.
    rows, scores = 8_000, [0.9, 0.6, 0.5]
    p = [[s, *([(1 - s) / 3] * 3)] for s in scores]
    seen = []

    class First:
        def update_history(self, step_results):
            if step_results["step"] == 0:
                seen.append(step_results["committed"].long().sum(0))

    rules = Rules(3, Selector(ConfidenceOrder(top_prob), TopK(), temperature=1.0), allow_eos=False)
    canvas = Canvas.unconditional(rows, 3, specials(4))
    fill_canvas(TableModel(table(p)), canvas, rules, special=specials(4), seed=2, observers=[First()])
    assert abs(chi_square(seen[0], torch.tensor(scores) / sum(scores))) < 4


def test_unequal_rows_have_quotas_of_their_own():
    steps = {}

    class PerRow:
        def update_history(self, step_results):
            for row, n in zip(step_results["rows"].tolist(), step_results["committed"].sum(-1).tolist(), strict=True):
                steps.setdefault(row, []).append(n)

    ids = torch.full((3, 9), FIRST_WORD)
    ids[0, :9], ids[1, :4], ids[2, :2] = MASK, MASK, MASK
    canvas = Canvas.infill(ids, specials(2))
    rules = Rules(4, budget=ScheduleBudget(cosine))
    fill_canvas(TableModel(table([[1.0, 1.0]] * 9)), canvas, rules, special=specials(2), seed=0, observers=[PerRow()])
    alone = {0: [1, 2, 3, 3], 1: [1, 1, 1, 1], 2: [1, 1]}
    assert steps == alone


def test_an_exhausted_vocabulary_is_an_error_that_says_where():
    rules = Rules(2, logits_processors=(lambda logits, view, where: logits.fill_(-torch.inf),))
    with pytest.raises(ValueError, match="No token may be placed at position"):
        fill_canvas(
            TableModel(table([[1.0, 1.0]] * 3)), Canvas.unconditional(1, 3, specials(2)), rules, special=specials(2)
        )


def test_contradictions_are_refused():
    with pytest.raises(ValueError, match="measures none"):
        Selector(RandomOrder(), Threshold(0.5))
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        Threshold(1.5)
    with pytest.raises(ValueError, match="Choose one"):
        Tokens(top_k=2, top_p=0.5)
    with pytest.raises(ValueError, match="max_steps=0"):
        Rules(0)
    with pytest.raises(ValueError, match="update_history"):
        model = TableModel(table([[1.0, 1.0]] * 3))
        fill_canvas(model, Canvas.unconditional(1, 3, specials(2)), Rules(1), special=specials(2), observers=[object()])


def test_in_single_precision_a_row_has_the_same_logits_to_1e_5():
    torch.manual_seed(0)
    single = RotaryTransformerMLMModel(32, 16, 2, 2, padding_idx=PAD, mask_idx=MASK)

    class First(dict):
        def update_history(self, step_results):
            for row in step_results["rows"].tolist() if step_results["step"] == 0 else ():
                self[row] = step_results["log_probs"][
                    step_results["scored"].nonzero()[:, 0] == step_results["rows"].tolist().index(row)
                ]

    canvas, rules, together = ragged(), Rules(1, Selector(ConfidenceOrder(top_prob))), First()
    fill_canvas(single, canvas, rules, special=SPECIAL, seed=0, observers=[together])
    for row in (0, 1, 3):
        alone = First()
        fill_canvas(single, canvas.rows(torch.tensor([row])), rules, special=SPECIAL, seed=0, observers=[alone])
        assert alone[0].dtype == torch.float32 and len(alone[0])
        torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=0)
