"""The exact cache: equal logits and ids for a block-causal network, and no finished block runs twice."""

import pytest
import torch

from tests.decode.forwards.test_cached import Recording, decode
from tests.decode.test_loop import SPECIAL
from tests.naive.decoding import MASK, PAD
from unmask.decode.block_schedule import Blocks
from unmask.decode.canvas import Canvas
from unmask.decode.forwards.block_cached import BlockCachedForward
from unmask.decode.loop import fill_canvas
from unmask.decode.named import make_rules
from unmask.decode.rules import Rules
from unmask.models.instruction_trace import InstructionTraceMLMModel
from unmask.models.rotary_mlm import RotaryTransformerMLMModel

SIZE = 4
ORDERS = {
    "one by one": {"order": "first_hitting"},
    "two steps a block": {"max_steps": 6},
    "ancestral": {"order": "ancestral"},
    "left to right": {"order": "left_to_right"},
    "surest": {"order": "prob_diff", "order_temperature": 0.5, "max_steps": 6},
    "threshold": {"order": "top_prob", "threshold": 0.3},
    "entropy bound": {"order": "entropy", "entropy_bound": 2.0},
    "drawn": {"order": "drawn_prob", "max_steps": 6},
    "guided": {"guidance": 1.0},
    "ends early": {"order": "top_prob", "eos_last": True, "stop_at_eos": True},
    "required": {"required_ids": [17]},
}


def network(kind=RotaryTransformerMLMModel, causal_block=SIZE, **options):
    torch.manual_seed(0)
    model = kind(
        32, 16, 3, 2, padding_idx=PAD, mask_idx=MASK, dropout=0.3, causal_block=causal_block, **options
    ).double()
    for parameter in model.parameters():
        parameter.data.mul_(4)
    return model


@pytest.fixture(scope="module")
def model():
    return network()


def prompts():
    """Prompts of 1, 3, 4 and 6 tokens, followed by 9 masks each: they end anywhere in an attention block."""
    rows = [[5], [5, 6, 7], [8, 9, 10, 11], [5, MASK, 12, 13, 6, 7]]
    return Canvas.prefix(torch.tensor([[PAD] * (6 - len(row)) + row for row in rows]), None, 9, SPECIAL)


def infill():
    """Masks between given tokens, padding on either side. No row begins with masks only, whose confidences would tie."""
    m, p = MASK, PAD
    ids = torch.tensor(
        [
            [3, 9, m, m, 12, m, 8, m, m, p, p, p],
            [p, p, p, 9, 3, 7, m, 8, 9, 9, 9, 9],
            [7, m, m, m, m, m, m, m, m, m, m, 9],
        ]
    )
    fixed = torch.zeros_like(ids, dtype=torch.bool)
    fixed[2, 5] = True
    return Canvas.infill(ids, SPECIAL, fixed=fixed)


CANVASES = {"prompts": prompts, "infill": infill}


@pytest.mark.parametrize("canvas", CANVASES.values(), ids=CANVASES.keys())
@pytest.mark.parametrize("options", ORDERS.values(), ids=ORDERS.keys())
def test_the_block_cache_changes_no_token(model, options, canvas):
    plain, expected = decode(model, canvas(), block_length=SIZE, aligned_blocks=True, **options)
    cached, found = decode(model, canvas(), block_length=SIZE, cache="block", **options)
    assert torch.equal(cached.ids, plain.ids) and torch.equal(cached.steps_taken, plain.steps_taken)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert cached.positions_computed < plain.positions_computed


def test_the_block_cache_works_for_instruction_traces():
    model = network(InstructionTraceMLMModel, next_idx=9)
    torch.nn.init.normal_(model.instruction.weight)
    (plain, expected), (cached, found) = (
        decode(model, prompts(), block_length=SIZE, **o) for o in ({"aligned_blocks": True}, {"cache": "block"})
    )
    assert torch.equal(cached.ids, plain.ids)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_the_positions_that_run(model):
    """The prompt's last block is completed first; a finished block runs once more, with the next one, and never again."""
    asked = Recording(model)
    canvas = Canvas.prefix(torch.tensor([[PAD, PAD, 5, 6], [7, 8, 9, 10]]), None, 8, SPECIAL)
    decoded, _ = decode(asked, canvas, block_length=SIZE, cache="block", order="left_to_right")
    patterns = [["".join(".x"[int(x)] for x in row) for row in where] for where in asked.calls]
    first, second = zip(*patterns[:8], strict=True)
    assert first == ("..xxxx......",) * 2 + ("..xxxxxxxx..",) + ("......xxxx..",) * 3 + ("......xxxxxx",) + (
        "..........xx",
    )
    assert second == ("xxxxxxxx....",) + ("....xxxx....",) * 3 + ("....xxxxxxxx",) + ("........xxxx",) * 3
    assert decoded.positions_computed == sum(int(where.sum()) for where in asked.calls)


def test_a_row_is_the_same_alone_and_in_a_batch(model):
    canvas = prompts()
    together, _ = decode(model, canvas, block_length=SIZE, cache="block")
    for row in range(4):
        alone, _ = decode(model, canvas.rows(torch.tensor([row])), block_length=SIZE, cache="block")
        assert torch.equal(alone.ids[0], together.ids[row]) and alone.steps_taken[0] == together.steps_taken[row]


def test_blocks_are_counted_from_the_first_token_or_from_the_first_blank(model):
    class Opened(list):
        def update_history(self, step_results):
            self.append("".join(".x"[int(x)] for x in step_results["candidates"][0]))

    canvas = Canvas.prefix(torch.tensor([[PAD, PAD, 5, 6, 7]]), None, 6, SPECIAL)
    for aligned, expected in ((True, ".....x..... ......xxxx. ..........x"), (False, ".....xxxx.. .........xx")):
        seen = Opened()
        rules = make_rules(len(expected.split()), block_length=SIZE, aligned_blocks=aligned)
        fill_canvas(model, canvas, rules, special=SPECIAL, seed=0, observers=[seen])
        assert " ".join(seen) == expected


def test_mismatched_blocks_are_refused(model):
    for wrong, says in ((3, "Give block_length=4"), (8, "Give block_length=4")):
        with pytest.raises(ValueError, match=says):
            decode(model, prompts(), block_length=wrong, cache="block")
    with pytest.raises(ValueError, match="attends in both directions"):
        decode(network(causal_block=None), prompts(), block_length=SIZE, cache="block")
    with pytest.raises(ValueError, match="causal_block that the network was trained with"):
        make_rules(8, cache="block")
    with pytest.raises(ValueError, match="nothing for cache_refresh=2"):
        make_rules(8, cache="block", block_length=4, cache_refresh=2)
    with pytest.raises(ValueError, match="there are none"):
        make_rules(8, aligned_blocks=True)
    with pytest.raises(ValueError, match="one after the other"):
        fill_canvas(
            model, prompts(), Rules(10, block_schedule=Blocks(SIZE), forward=BlockCachedForward()), special=SPECIAL
        )
