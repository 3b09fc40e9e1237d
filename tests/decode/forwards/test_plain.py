"""Forwards: guidance interpolates between the model with and without the given text."""

import pytest
import torch

from tests.naive.decoding import EOS, MASK, PAD
from unmask.contracts import SpecialIds
from unmask.decode.block_schedule import SingleBlock
from unmask.decode.canvas import Canvas
from unmask.decode.forwards.plain import GuidedForward, PlainForward
from unmask.decode.view import StepView
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.randomness import Noise, row_keys

SPECIAL = SpecialIds(mask=MASK, pad=PAD, eos=EOS, bos=3, vocab_size=20)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return RotaryTransformerMLMModel(20, 16, 1, 2, padding_idx=PAD, mask_idx=MASK, dropout=0.0).double()


@pytest.fixture
def canvas():
    return Canvas.infill(torch.tensor([[PAD, 3, 5, 6, MASK, MASK], [3, 7, MASK, 9, MASK, EOS]]), SPECIAL)


def view_of(canvas, ids):
    """A first step over all rows."""
    blanks, rows = canvas.blanks(MASK), torch.arange(len(ids))
    return StepView(
        0,
        rows,
        ids,
        canvas,
        blanks,
        blanks,
        blanks,
        blanks.sum(-1),
        torch.zeros(ids.shape),
        Noise(row_keys(0, 0, rows)),
    )


def at_work(forward):
    return forward.start(2, SingleBlock())


def test_guidance_equals_its_formula(model, canvas):
    where = canvas.blanks(MASK)
    ids = canvas.ids.clone()
    ids[0, 4] = 11  # a token placed before this step: it belongs to the answer and stays visible
    where[0, 4] = False
    hidden = torch.tensor([[PAD, 3, MASK, MASK, 11, MASK], [3, MASK, MASK, MASK, MASK, EOS]])
    c, u = (
        at_work(PlainForward())(model, view_of(canvas, ids), where),
        at_work(PlainForward())(model, view_of(canvas, hidden), where),
    )
    for weight in (-1.0, 0.0, 0.5, 2.0):
        torch.testing.assert_close(
            at_work(GuidedForward(weight, SPECIAL))(model, view_of(canvas, ids), where), u + (weight + 1) * (c - u)
        )
    assert not torch.allclose(c, u)


def test_both_halves_run_in_one_batch(model, canvas):
    rows = []

    def counting(x_t, attention_mask=None, positions=None):
        rows.append(len(x_t))
        return model(x_t, attention_mask, positions)

    at_work(GuidedForward(1.0, SPECIAL))(counting, view_of(canvas, canvas.ids), canvas.blanks(MASK))
    assert rows == [4]


def test_a_forbidden_token_stays_forbidden(canvas):
    def model(x_t, attention_mask=None, positions=None):
        logits = torch.zeros(*x_t.shape, 20)
        logits[..., 7] = -torch.inf
        logits[: len(x_t) // 2, :, 8] = -torch.inf
        logits[len(x_t) // 2 :, :, 9] = -torch.inf
        return logits

    logits = at_work(GuidedForward(1.0, SPECIAL))(model, view_of(canvas, canvas.ids), canvas.blanks(MASK))
    assert (logits[:, [7, 8]] == -torch.inf).all() and (logits[:, 9] == 0).all() and not logits.isnan().any()


def test_columns_that_are_padding_in_every_row_are_not_run(model):
    widths = []

    def counting(x_t, attention_mask=None, positions=None):
        widths.append(x_t.shape[1])
        return model(x_t, attention_mask, positions)

    canvas = Canvas.infill(torch.tensor([[PAD, PAD, 5, MASK, PAD], [PAD, 5, MASK, 6, PAD]]), SPECIAL)
    logits = at_work(PlainForward())(counting, view_of(canvas, canvas.ids), canvas.blanks(MASK))
    torch.testing.assert_close(logits, model(canvas.ids, canvas.attention_mask, canvas.positions)[canvas.blanks(MASK)])
    assert widths == [3]
