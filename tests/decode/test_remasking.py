"""Remasking: every step meets the budget, given tokens stay, and ReMDM and Mask-Predict follow their papers."""

import pytest
import torch

from tests.naive.decoding import FIRST_WORD, MASK, ExactModel, TableModel, chi_square, specials, table
from unmask.decode.block_schedule import Blocks
from unmask.decode.budget import ScheduleWithRemasking, UniformBudget
from unmask.decode.canvas import Canvas
from unmask.decode.logits.sampler import Tokens
from unmask.decode.loop import fill_canvas
from unmask.decode.observers.trace import Trace
from unmask.decode.orders.scores import ConfidenceOrder
from unmask.decode.orders.selector import Selector
from unmask.decode.remasking import MaskPredict, ReMDM, ReMDMCap, ReMDMRescale
from unmask.decode.rules import Rules
from unmask.ops.confidence import top_prob
from unmask.randomness import Noise

SURE = Selector(ConfidenceOrder(top_prob))
REVISIONS = [
    ReMDM(ReMDMCap(0.4)),
    ReMDM(ReMDMRescale(1.0)),
    ReMDM(ReMDMRescale(1.0), by_confidence=True),
    MaskPredict(),
]


class Keep:
    def __init__(self):
        self.steps = []

    def update_history(self, step_results):
        self.steps.append(step_results)


@pytest.mark.parametrize("remasking", REVISIONS, ids=str)
def test_after_every_step_the_budgets_count_is_unmasked(remasking):
    keep, trace, blanks, steps = Keep(), Trace(), 9, 12
    ids = torch.full((5, 10), MASK)
    ids[:, 4] = FIRST_WORD
    p = torch.rand(10, 4, generator=torch.Generator().manual_seed(0)).tolist()
    rules = Rules(steps, SURE, ScheduleWithRemasking(), remasking=remasking)
    decoded = fill_canvas(
        TableModel(table(p)),
        Canvas.infill(ids, specials(4)),
        rules,
        special=specials(4),
        seed=0,
        observers=[keep, trace],
    )
    target_count = ScheduleWithRemasking().plan(
        torch.ones(1, blanks, dtype=torch.bool), torch.tensor([steps]), Noise(torch.zeros(1, dtype=torch.int64))
    )[0]
    for step in keep.steps:
        assert ((step["output_ids"] == MASK).sum(-1) == blanks - target_count[step["step"]]).all()
        assert not (step["hidden"] & step["candidates"]).any() and not step["hidden"][:, 4].any()
        assert (step["output_ids"][step["hidden"]] == MASK).all()
    assert any(step["hidden"].any() for step in keep.steps) or isinstance(remasking, MaskPredict)
    assert not (decoded.ids == MASK).any() and (decoded.ids[:, 4] == FIRST_WORD).all()
    assert torch.equal(trace.replay(trace.num_steps), decoded.ids)


def test_remdm_masks_at_the_rate_of_the_paper():
    # 8 of 16 revealed after step 1, 12 after step 2: most possible is (16 - 12) / 8 = 1/2.
    rows = 4_000
    for rate, expected in ((ReMDMCap(0.1), 0.1), (ReMDMCap(0.9), 0.5), (ReMDMRescale(0.4), 0.2)):
        keep = Keep()
        rules = Rules(4, budget=ScheduleWithRemasking(), remasking=ReMDM(rate))
        fill_canvas(
            TableModel(table([[0.5, 0.5]] * 16)),
            Canvas.unconditional(rows, 16, specials(2)),
            rules,
            special=specials(2),
            seed=1,
            observers=[keep],
        )
        hidden = keep.steps[2]["hidden"].sum(-1).double()  # after steps 0 and 1, 8 are revealed
        if expected < 0.5:
            assert abs(hidden.mean() / 8 - expected) < 4 * hidden.std() / 8 / rows**0.5 + 0.002
        assert hidden.max() <= 4


def test_remasking_by_confidence_masks_unlikely_tokens_more_often():
    keep = Keep()
    rules = Rules(
        8,
        budget=ScheduleWithRemasking(),
        remasking=ReMDM(ReMDMRescale(1.0), by_confidence=True),
        tokens=Tokens(temperature=0.0),
        allow_eos=False,
    )
    p = [[0.99, 0.005, 0.005]] * 4 + [[0.34, 0.33, 0.33]] * 4
    fill_canvas(
        TableModel(table(p)),
        Canvas.unconditional(3_000, 8, specials(3)),
        rules,
        special=specials(3),
        seed=1,
        observers=[keep],
    )
    hidden = sum(step["hidden"].sum(0) for step in keep.steps if len(step["hidden"]) == 3_000)
    assert hidden[4:].sum() > 1.3 * hidden[:4].sum()


def test_remasking_stops_at_remask_until():
    keep = Keep()
    rules = Rules(10, budget=ScheduleWithRemasking(), remasking=ReMDM(ReMDMCap(0.5), until=0.5))
    fill_canvas(
        TableModel(table([[0.5, 0.5]] * 10)),
        Canvas.unconditional(50, 10, specials(2)),
        rules,
        special=specials(2),
        seed=1,
        observers=[keep],
    )
    assert any(step["hidden"].any() for step in keep.steps[:5]) and not any(
        step["hidden"].any() for step in keep.steps[5:]
    )


def test_steps_without_changes_take_no_forward_pass():
    model = TableModel(table([[0.5, 0.5]] * 3))
    rules = Rules(50, budget=ScheduleWithRemasking(), remasking=ReMDM(ReMDMCap(0.0)))
    decoded = fill_canvas(model, Canvas.unconditional(1, 3, specials(2)), rules, special=specials(2), seed=1)
    assert model.forward_passes == decoded.forward_passes == 3


class WhileStanding:
    """Remasks only in steps with a constant target count, so that no step unmasks two tokens."""

    min_reveals = 0
    inner = ReMDM(ReMDMCap(0.5))

    def acts(self, view):
        return (view.target_count > view.revealed.sum(-1)) | self.hide(view, view.commit_prob).any(-1)

    def hide(self, view, confidence):
        standing = (view.target_count == view.revealed.sum(-1))[:, None]
        hidden = self.inner.hide(view, confidence) & standing
        return hidden & (hidden.long().cumsum(-1) == 1)


def test_remasking_and_unmasking_one_at_a_time_keeps_the_distribution():
    generator = torch.Generator().manual_seed(7)
    joint = torch.rand(3, 3, 3, generator=generator, dtype=torch.float64) ** 3
    keep = Keep()
    rules = Rules(12, budget=ScheduleWithRemasking(), remasking=WhileStanding(), allow_eos=False)
    decoded = fill_canvas(
        ExactModel(joint),
        Canvas.unconditional(10_000, 3, specials(3)),
        rules,
        special=specials(3),
        seed=3,
        observers=[keep],
    )
    assert sum(int(step["hidden"].sum()) for step in keep.steps) > 10_000
    words = decoded.ids - FIRST_WORD
    counts = torch.bincount(words[:, 0] * 9 + words[:, 1] * 3 + words[:, 2], minlength=27)
    assert abs(chi_square(counts, joint.flatten() / joint.sum())) < 4


class Moody:
    """Position 0 has a confident prediction at first, and an uncertain one after position 1 is filled."""

    def __call__(self, x_t, attention_mask=None, positions=None, block_mask=None):
        first = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.95, 0.05]], dtype=torch.float64)
        later = torch.tensor([[0.2, 0.8], [0.8, 0.2], [0.97, 0.03], [0.99, 0.01]], dtype=torch.float64)
        p = torch.where((x_t[:, 1:2] == MASK)[..., None], first, later)
        return torch.cat([torch.full((*x_t.shape, FIRST_WORD), -99.0, dtype=torch.float64), p.log()], dim=-1)


def test_mask_predict_by_hand():
    keep = Keep()
    canvas = Canvas.infill(torch.tensor([[MASK, MASK, MASK, MASK]]), specials(2))
    rules = Rules(4, SURE, UniformBudget(), remasking=MaskPredict(), tokens=Tokens(temperature=0.0), allow_eos=False)
    fill_canvas(Moody(), canvas, rules, special=specials(2), seed=0, observers=[keep])
    shown = [
        (step["committed"][0].nonzero()[:, 0].tolist(), step["hidden"][0].nonzero()[:, 0].tolist())
        for step in keep.steps
    ]
    # 3 (.95); 0 (.9); 1 (.8), the third best of .95 .9 .8 .6; then 2 (.97): nothing may go in the last step.
    assert shown == [([3], []), ([0], []), ([1], []), ([2], [])]

    keep = Keep()
    given_1 = Canvas.infill(torch.tensor([[MASK, FIRST_WORD, MASK, MASK]]), specials(2))

    def turn(
        logits, view, where
    ):  # from step 1 on, what was doubtful is nearly certain, and position 3 was placed badly
        return logits * (3.0 if view.number else 0.05)

    rules = Rules(
        3,
        SURE,
        UniformBudget(),
        remasking=MaskPredict(),
        tokens=Tokens(temperature=0.0),
        logits_processors=(turn,),
        allow_eos=False,
    )
    fill_canvas(Moody(), given_1, rules, special=specials(2), seed=0, observers=[keep])
    # Step 0 places 3 at little more than 1/2. Step 1 keeps the two surest of 3 (.56), 0 (.98) and 2 (1.0): 3 is hidden again.
    shown = [
        (step["committed"][0].nonzero()[:, 0].tolist(), step["hidden"][0].nonzero()[:, 0].tolist())
        for step in keep.steps
    ]
    assert shown == [([3], []), ([0, 2], [3]), ([3], [])]


def test_contradictions_are_refused():
    with pytest.raises(ValueError, match="compares tokens by confidence"):
        Rules(4, remasking=MaskPredict())
    with pytest.raises(ValueError, match="stop_at_eos"):
        Rules(4, remasking=ReMDM(ReMDMCap(0.1)), stop_at_eos=True)
    with pytest.raises(ValueError, match="blocks or remasking"):
        Rules(4, block_schedule=Blocks(2), remasking=ReMDM(ReMDMCap(0.1)))
    with pytest.raises(ValueError, match=r"eta=1\.5"):
        ReMDMCap(1.5)
