"""Draft scores: rated samples are placed, the best first, and a critic remasks tokens of low rating."""

import pytest
import torch

from tests.naive.decoding import MASK, PAD, TableModel, specials, table
from unmask.decode.canvas import Canvas
from unmask.decode.loop import fill_canvas
from unmask.decode.orders.scores import Critic, DrawnProbability
from unmask.decode.orders.selector import Selector
from unmask.decode.remasking import MaskPredict
from unmask.decode.rules import Rules

SPECIAL = specials(4)
MODEL = TableModel(table([[0.4, 0.3, 0.2, 0.1]] * 6))


class Steps(list):
    def update_history(self, step_results):
        self.append(step_results)


def decode(rules, rows=50):
    steps = Steps()
    return fill_canvas(
        MODEL, Canvas.unconditional(rows, 6, SPECIAL), rules, special=SPECIAL, seed=0, observers=[steps]
    ), steps


def test_the_likeliest_samples_are_placed_and_rated():
    decoded, steps = decode(Rules(3, Selector(DrawnProbability()), allow_eos=False))
    for step in steps:
        confidence, committed = step["confidence"], step["committed"]
        torch.testing.assert_close(confidence[committed], step["probability"][committed])
        left = confidence.masked_fill(committed | ~step["candidates"], -1).amax(-1)
        assert (confidence.masked_fill(~committed, 2).amin(-1) >= left).all()
    drawn_last = steps[-1]["probability"].nanmean()
    assert steps[0]["probability"].nanmean() > drawn_last + 0.05, "not exact: the first places go to likely tokens"
    assert not torch.isin(decoded.ids, torch.tensor([MASK, PAD])).any()


def test_a_critic_remasks_tokens_of_low_rating():
    """A critic that accepts only the rarest word: with enough steps, other tokens are resampled until it appears."""
    rarest = SPECIAL.vocab_size - 1
    critic = Selector(Critic(lambda ids, real: (ids == rarest).double()))
    share = {
        name: (decode(rules)[0].ids == rarest).double().mean().item()
        for name, rules in {
            "plain": Rules(6, allow_eos=False),
            "critic": Rules(6, critic, allow_eos=False),
            "critic that hides": Rules(6, critic, remasking=MaskPredict(), allow_eos=False),
        }.items()
    }
    assert share["plain"] < 0.2 < share["critic"]


def test_a_critic_compares_old_tokens_with_new():
    """A token of medium rating is replaced after a better sample."""
    rarest = SPECIAL.vocab_size - 1
    rules = Rules(
        6, Selector(Critic(lambda ids, real: (ids == rarest).double())), remasking=MaskPredict(), allow_eos=False
    )
    _, steps = decode(rules)
    hidden = torch.cat([step["input_ids"][step["hidden"]] for step in steps])
    assert len(hidden) and (hidden != rarest).all()


def test_a_critic_must_return_probabilities():
    with pytest.raises(ValueError, match="sigmoid"):
        decode(Rules(6, Selector(Critic(lambda ids, real: ids.double())), allow_eos=False))
