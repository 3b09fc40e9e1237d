"""Critic networks: ratings are conditionals, every forward pass is counted, and tokens of low rating are replaced."""

import pytest
import torch

from tests.decode.networks import sure
from tests.decode.test_loop import SPECIAL, Counting, ragged
from tests.naive.decoding import FIRST_WORD, MASK, PAD, ExactModel, TableModel, specials, table
from unmask.decode.canvas import Canvas
from unmask.decode.loop import fill_canvas
from unmask.decode.named import make_rules
from unmask.decode.orders.critics import NetworkCritic

every_way = pytest.mark.parametrize("way", ["hidden", "shown"])


@pytest.fixture(scope="module")
def model():
    return sure(0, 32, 16, 2, 2, padding_idx=PAD, mask_idx=MASK, dropout=0.3)


class Judged:
    """Return the ratings of the first step, its rows, and all remasked positions."""

    def __init__(self):
        self.hidden, self.steps = [], []

    def update_history(self, step_results):
        self.steps.append(step_results)
        self.hidden += step_results["input_ids"][step_results["hidden"]].tolist()


def first_judgement(model, canvas, rules, special):
    """Return the view, the draft and the ratings of the critic's first step."""
    seen, judge = [], NetworkCritic.judge
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            NetworkCritic,
            "judge",
            lambda self, view, draft: seen.append((view, draft, judge(self, view, draft))) or seen[-1][2],
        )
        fill_canvas(model, canvas, rules, special=special, seed=0)
    return seen[0]


def test_hidden_ratings_are_the_conditionals_of_the_joint():
    p = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = ExactModel(p)
    rules = make_rules(5, order="critic", critic_model=exact, special=specials(3), allow_eos=False)
    _, draft, beliefs = first_judgement(
        exact, Canvas.infill(torch.tensor([[MASK] * 3, [MASK, MASK, FIRST_WORD]]), specials(3)), rules, specials(3)
    )
    for row, belief, judged in zip(draft.ids - FIRST_WORD, beliefs, (3, 2), strict=True):
        a, b, c = row.tolist()
        expected = [p[a, b, c] / p[:, b, c].sum(), p[a, b, c] / p[a, :, c].sum(), p[a, b, c] / p[a, b, :].sum()]
        torch.testing.assert_close(belief[:judged], torch.stack(expected[:judged]))


@every_way
def test_batched_ratings_equal_ratings_one_by_one(model, way):
    rules = make_rules(7, special=SPECIAL, order="critic", critic=way, critic_model=model)
    view, draft, beliefs = first_judgement(model, ragged(), rules, SPECIAL)
    text = [i for i in range(SPECIAL.vocab_size) if i not in SPECIAL.all]
    model.eval()
    for row, column in view.candidates.nonzero().tolist():
        real = view.canvas.attention_mask[row]
        ids = draft.ids[row].clone()
        if way == "hidden":
            ids[column] = MASK
        at = int(real[:column].sum())
        logits = model(ids[real][None])[0, at]
        may_end = not bool((view.canvas.fixed[row, column:] & real[column:]).any())
        allowed = [*text, SPECIAL.eos] if may_end else text
        expected = (logits[draft.ids[row, column]] - logits[allowed].logsumexp(-1)).exp()
        if int(view.candidates[row].sum()) == 1:
            expected = draft.probability[row, column]  # it is placed in any case, so nobody is asked
        torch.testing.assert_close(beliefs[row, column], expected.detach())
    model.train()


@every_way
@pytest.mark.parametrize("remask", [None, "mask_predict"])
@pytest.mark.parametrize("max_steps", [1, 2, 5, 100])
def test_every_forward_pass_is_counted_and_max_steps_holds(model, way, remask, max_steps):
    counting, tokens = Counting(model), []
    handle = model.register_forward_pre_hook(lambda module, args: tokens.append(int(args[1].sum())))
    rules = make_rules(max_steps, special=SPECIAL, order="critic", critic=way, critic_model=counting, remask=remask)
    decoded = fill_canvas(counting, ragged(), rules, special=SPECIAL, seed=1)
    handle.remove()
    assert len(counting.rows) == decoded.forward_passes <= max_steps and decoded.steps_taken.max() <= max_steps
    assert sum(tokens) == decoded.positions_computed
    if way == "shown":
        assert sum(counting.rows) == decoded.steps_taken.sum()
    blanks = ragged().blanks(MASK)
    assert not torch.isin(decoded.ids[blanks], torch.tensor([MASK, PAD])).any() and decoded.steps_taken[2] == 0


def decode(model, **options):
    judged = Judged()
    rules = make_rules(**{"max_steps": 11, "special": SPECIAL, "order": "critic", **options})
    return fill_canvas(model, ragged(), rules, special=SPECIAL, seed=2, observers=[judged]).ids, judged


def test_every_option_changes_the_outcome(model):
    other = sure(5, 32, 16, 2, 2, padding_idx=PAD, mask_idx=MASK, dropout=0.5)
    base, _ = decode(model, critic_model=model)
    assert torch.equal(decode(model, critic_model=model, critic="hidden")[0], base)
    for options in (
        {"critic": "shown"},
        {"critic_model": other},
        {"order": "drawn_prob", "critic_model": None},
        {"remask": "mask_predict"},
    ):
        assert not torch.equal(decode(model, **{"critic_model": model, **options})[0], base), options
    again = [decode(model, critic_model=other)[0] for _ in range(2)]
    assert torch.equal(*again) and other.training, (
        "a critic is asked in eval mode (its dropout would differ) and left as it was"
    )


@every_way
def test_a_row_is_the_same_alone_and_in_a_batch(model, way):
    canvas = ragged()
    rules = make_rules(7, special=SPECIAL, order="critic", critic=way, critic_model=model, remask="mask_predict")
    together = fill_canvas(model, canvas, rules, special=SPECIAL, seed=5)
    for row in range(4):
        alone = fill_canvas(model, canvas.rows(torch.tensor([row])), rules, special=SPECIAL, seed=5)
        assert torch.equal(alone.ids[0], together.ids[row]) and alone.steps_taken[0] == together.steps_taken[row]


def test_tokens_of_low_rating_are_replaced():
    writer, judge = TableModel(table([[0.4, 0.3, 0.2, 0.1]] * 6)), TableModel(table([[0.05, 0.05, 0.05, 0.85]] * 6))
    rarest = FIRST_WORD + 3
    canvas, share = Canvas.unconditional(50, 6, specials(4)), {}
    for name, options in {
        "plain": {"order": "drawn_prob"},
        "critic": {"order": "critic", "critic_model": judge},
        "critic that hides": {"order": "critic", "critic_model": judge, "remask": "mask_predict"},
    }.items():
        judged = Judged()
        rules = make_rules(11, special=specials(4), allow_eos=False, **options)
        ids = fill_canvas(writer, canvas, rules, special=specials(4), seed=0, observers=[judged]).ids
        share[name] = (ids == rarest).double().mean().item()
    assert share["plain"] < 0.2 < share["critic"]
    assert judged.hidden and rarest not in judged.hidden


def test_contradictions_are_refused(model):
    for options, says in (
        ({"order": "critic"}, "give critic_model"),
        ({"order": "critic", "critic_model": model, "critic": "both"}, "hidden, shown"),
        ({"critic": "shown"}, "has none"),
        ({"order": "top_prob", "critic_model": model}, "has none"),
        ({"order": "critic", "critic_model": model, "special": None}, "special ids"),
    ):
        with pytest.raises(ValueError, match=says):
            make_rules(**{"max_steps": 4, "special": SPECIAL, **options})
