"""Compiled steps: the plain forward's logits, in few shapes. Only one test compiles, in a separate process."""

import subprocess
import sys
from math import ceil, log2
from pathlib import Path

import pytest
import torch

from tests.decode.forwards.compiling import LENGTH, MASK, RULES, SPECIAL, canvas, decode, network
from tests.decode.forwards.test_plain import view_of
from unmask.decode.block_schedule import SingleBlock
from unmask.decode.canvas import Canvas
from unmask.decode.forwards import compiled
from unmask.decode.forwards.compiled import FEWEST, CompiledForward
from unmask.decode.forwards.plain import PlainForward
from unmask.decode.named import make_rules
from unmask.models.hf import HuggingFaceMLM
from unmask.nn.attention import DensePlan, DocumentPlan, plan_attention
from unmask.nn.execution import can_compile


class Shapes(list):
    """Per call: (rows, columns, whether there was an attention mask, requested positions)."""

    def encode(self, model, ids, real, positions):
        assert real is None or not bool(real.all())
        self.append((*ids.shape, real is not None))
        return compiled.encode(model, ids, real, positions)

    def project(self, model, states):
        self[-1] += (len(states),)
        return compiled.project(model, states)


@pytest.fixture
def shapes(monkeypatch):
    """Run the programs uncompiled."""
    seen = Shapes()
    monkeypatch.setattr(compiled, "_programs", lambda device_type: (seen.encode, seen.project))
    return seen


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("options", RULES.values(), ids=RULES.keys())
def test_tokens_and_forward_passes_equal_the_plain_forwards(model, shapes, options, rows):
    plain, found = (decode(model, canvas(rows), options, compiled=c) for c in (False, True))
    assert torch.equal(plain.ids, found.ids) and torch.equal(plain.steps_taken, found.steps_taken)
    assert plain.forward_passes == found.forward_passes == len(shapes)


@pytest.mark.parametrize("options", RULES.values(), ids=RULES.keys())
def test_logits_equal_the_plain_forwards(model, shapes, options):
    class Watch(list):
        def update_history(self, step_results):
            self.append(step_results["log_probs"])

    plain, found = Watch(), Watch()
    for c, watch in ((False, plain), (True, found)):
        decode(model, canvas(5), options, compiled=c, observers=[watch])
    for one, other in zip(plain, found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 3, 8, 13])
@pytest.mark.parametrize("order", ["random", "top_prob"])
def test_shapes_are_powers_of_two_and_few(model, shapes, rows, order):
    ids = torch.full((rows, 32), MASK)
    ids[:, 0] = 5
    ids[:, 1:25] = torch.where(
        torch.arange(24) < 24 * torch.arange(rows)[:, None] / rows, 6, MASK
    )  # 31 blanks down to 8
    decode(model, Canvas.infill(ids, SPECIAL), {"order": order, "max_steps": 31}, compiled=True)
    for b, columns, masked, read in shapes:
        assert b in (rows, *(2**n for n in range(6))) and b <= rows and columns == 32 and not masked
        assert read in (2**n for n in range(4, 11))
    most = 31 * rows if order == "top_prob" else rows
    assert len({shape[:3] for shape in shapes}) <= 1 + ceil(log2(rows))
    assert len({read for *_, read in shapes}) <= 1 + max(0, ceil(log2(most / FEWEST)))


def test_repeated_rows_and_positions_are_dropped_and_counted(model, shapes):
    given = canvas(5)  # row 2 is filled first: of five rows four are left, then three and one more of the last
    found = decode(model, given, {"order": "left_to_right", "max_steps": 20}, compiled=True)
    blanks = given.blanks(MASK).sum(-1).tolist()
    left = [sum(n > step for n in blanks) for step in range(max(blanks))]
    assert [shape[0] for shape in shapes] == [5 if n == 5 else 1 << (n - 1).bit_length() for n in left]
    real = given.attention_mask.sum(-1).tolist()
    unfinished = [[real[row] for row, n in enumerate(blanks) if n > step] for step in range(max(blanks))]
    run = [
        sum(tokens) + (shape[0] - len(tokens)) * tokens[-1] for tokens, shape in zip(unfinished, shapes, strict=True)
    ]
    assert found.positions_computed == sum(run)


def test_a_step_that_only_remasks_computes_no_logits(model, shapes):
    given = canvas(2)
    forward, view = CompiledForward().start(2, SingleBlock()), view_of(given, given.ids)
    assert forward(model, view, torch.zeros_like(given.attention_mask)).shape == (0, 20)
    model.eval()
    where = given.blanks(MASK)
    torch.testing.assert_close(forward(model, view, where), PlainForward()(model, view, where))


def test_a_program_is_planned_without_reading_lengths(monkeypatch):
    real = torch.arange(6) < torch.tensor([[6], [3]])
    args = (2, 6, torch.device("cpu"), real)
    assert all(isinstance(plan_attention(*args, use_flex=flex)[0], DocumentPlan) for flex in (False, True))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    for flex in (False, True):
        plan, index = plan_attention(*args, use_flex=flex)
        assert isinstance(plan, DensePlan) and index is None
        assert torch.equal(plan.mask[:, 0], real[:, None] | torch.eye(6, dtype=torch.bool))


def test_without_a_compiler_it_warns_and_runs_uncompiled(model, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    compiled._programs.cache_clear()
    with pytest.warns(UserWarning, match=r"need a C\+\+ compiler"):
        assert compiled._programs("cpu") == (compiled.encode, compiled.project)
    compiled._programs.cache_clear()


def test_networks_without_a_projection_are_refused(model, shapes):
    for options in ({"cache": "dual"}, {"cache": "block", "block_length": 4}):
        with pytest.raises(ValueError, match="not both"):
            make_rules(4, compiled=True, **options)

    class Plain(torch.nn.Module):
        def forward(self, x_t, attention_mask=None, positions=None):
            return model(x_t, attention_mask, positions)

    with pytest.raises(ValueError, match=r"Plain does not expose them.*compiled=False"):
        decode(Plain(), canvas(2), {}, compiled=True)
    assert not hasattr(HuggingFaceMLM, "projection_of")
    short = network()
    short.max_length = LENGTH - 1
    with pytest.raises(
        ValueError, match=f"A row of {LENGTH} tokens is longer than this model.s max_length={LENGTH - 1}"
    ):
        decode(short, canvas(1), {}, compiled=True)


@pytest.mark.skipif(not can_compile("cpu"), reason="no C++ compiler")
@pytest.mark.slow
def test_compiled_decodes_equal_plain_ones_with_one_program_per_shape():
    """Equal tokens for several orders, batches and networks, and logits within 1e-10."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.decode.forwards.compiling"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
