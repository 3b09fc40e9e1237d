"""States asked for at some positions: those of the whole encoder, in value and gradient, whatever was asked and however rows lie."""

from __future__ import annotations

import pytest
import torch

from unmask.models.instruction_trace import InstructionTraceMLMModel
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.nn.attention import DocumentPlan
from unmask.nn.encoder import EncoderBlock
from unmask.nn.execution import BlockRunner
from unmask.nn.gather_plan import GatherPlan

V, L = 17, 12


def network(kind: str = "rotary", **options) -> torch.nn.Module:
    torch.manual_seed(3)
    sizes = {"d_model": 16, "num_layers": 2, "nhead": 2, "dropout": 0.0, "max_length": 32, **options}
    made = (
        RotaryTransformerMLMModel(V, **sizes) if kind == "rotary" else InstructionTraceMLMModel(V, next_idx=2, **sizes)
    )
    made = made.double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made


IDS = torch.randint(2, V, (3, L), generator=torch.Generator().manual_seed(0))
REAL = torch.arange(L) >= torch.tensor([0, 5, 2])[:, None]
SEGMENTS = torch.tensor([[0] * 4 + [1] * 5 + [2] * 3, [0] * 7 + [1] * 5, [0] * 12])
ROWS = {
    "full": {},
    "padded": {"attention_mask": REAL},
    "packed": {"segment_ids": SEGMENTS},
    "packed and padded": {
        "segment_ids": SEGMENTS,
        "attention_mask": torch.arange(L) < torch.tensor([12, 10, 3])[:, None],
    },
}
ASKED = {
    "some": torch.tensor([1, 2, 9, 11, 13, 20, 22, 23, 26, 35]),
    "one": torch.tensor([23]),
    "all": torch.arange(3 * L),
    "of one row": torch.tensor([24, 25, 26]),
    "none": torch.tensor([], dtype=torch.long),
    "in any order, twice": torch.tensor([30, 2, 2, 11, 0, 0, 0]),
}


@pytest.mark.parametrize("kind", ["rotary", "traces"])
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("asked", ASKED)
def test_states_at_some_positions_equal_those_of_the_full_encoder_in_value_and_gradient(kind, rows, asked):
    model, index = network(kind), ASKED[asked]
    pull = torch.randn(len(index), 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    whole = model.hidden_states(IDS, **ROWS[rows]).flatten(0, 1)[index]
    some = model.hidden_states_where(IDS, index, **ROWS[rows])
    torch.testing.assert_close(some, whole, rtol=1e-12, atol=1e-12)
    parameters = [p for n, p in model.named_parameters() if not n.startswith("head")]
    of_whole, of_some = (torch.autograd.grad((x * pull).sum(), parameters, allow_unused=True) for x in (whole, some))
    for one, other in zip(of_some, of_whole, strict=True):
        zero = torch.zeros(()) if one is None or other is None else one
        torch.testing.assert_close(
            zero if one is None else one, zero if other is None else other, rtol=1e-9, atol=1e-12, check_dtype=False
        )


def test_the_last_block_works_at_what_is_read_only(monkeypatch):
    model, seen = network(), []
    forward = EncoderBlock.forward

    def spy(self, x, angles, plan, read=None):
        out = forward(self, x, angles, plan, read)
        seen.append((len(x), len(out)))
        return out

    asked = []
    at = DocumentPlan.at
    monkeypatch.setattr(
        DocumentPlan, "at", lambda self, read, q, *rest: asked.append(len(q)) or at(self, read, q, *rest)
    )
    monkeypatch.setattr(EncoderBlock, "forward", spy)
    model.hidden_states_where(IDS, ASKED["some"], attention_mask=REAL)
    real = int(REAL.sum())
    wanted = int(REAL.flatten()[ASKED["some"]].sum())
    assert seen == [(real, real), (real, wanted)] and asked == [wanted]


def test_a_plan_that_cannot_ask_in_part_attends_for_all_and_goes_on_with_some():
    flash, plain = network(force_flash_attn=True).float(), network().float()
    index = ASKED["some"]
    torch.testing.assert_close(flash.hidden_states_where(IDS, index), plain.hidden_states(IDS).flatten(0, 1)[index])


def test_checkpointed_activations_give_the_same_gradients():
    """(That compiled blocks do is stated in tests/nn/test_execution.py, through the loss.)"""
    model, index = network(), ASKED["some"]
    gradients = []
    for runner in (BlockRunner(), BlockRunner(checkpoint_activations=True)):
        model.run_block = runner
        model.hidden_states_where(IDS, index, attention_mask=REAL).square().sum().backward()
        gradients.append([torch.zeros(()) if p.grad is None else p.grad.clone() for p in model.parameters()])
        model.zero_grad()
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_dropped_positions_read_zero_and_results_keep_their_order():
    reading = GatherPlan.of(torch.tensor([5, 0, 3, 5]), torch.tensor([3, 5, 4]), 6)
    assert reading.places.tolist() == [0, 1, 1]
    assert reading.put(torch.tensor([[3.0], [5.0], [5.0]])).flatten().tolist() == [5.0, 0.0, 3.0, 5.0]
