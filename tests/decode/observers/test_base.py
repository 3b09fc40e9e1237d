"""Observers: step results, saved histories and traces."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.naive.decoding import EOS, FIRST_WORD, MASK, PAD, TableModel, specials, table
from unmask.decode.canvas import Canvas
from unmask.decode.logits.sampler import Tokens
from unmask.decode.loop import fill_canvas
from unmask.decode.named import make_rules
from unmask.decode.observers.history import HistoryTopKPlugin
from unmask.decode.observers.trace import Trace
from unmask.decode.orders.scores import ConfidenceOrder, LeftToRight
from unmask.decode.orders.selector import Selector
from unmask.decode.rules import Rules
from unmask.ops.confidence import top_prob

P = [[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.3, 0.4, 0.3]]
SPECIAL = specials(3)
CANVAS = Canvas.infill(
    torch.tensor([[MASK, MASK, FIRST_WORD, MASK], [FIRST_WORD, MASK, FIRST_WORD, PAD], [3, 4, 5, 3]]), SPECIAL
)
RANDOM = Rules(3, allow_eos=False)
SURE = Rules(3, Selector(ConfidenceOrder(top_prob)), tokens=Tokens(temperature=0.0), allow_eos=False)


def decode(*observers, rules=SURE, seed=0):
    return fill_canvas(TableModel(table(P)), CANVAS, rules, special=SPECIAL, seed=seed, observers=observers)


class Keep:
    def __init__(self, wants_all_logits=False):
        self.wants_all_logits, self.steps = wants_all_logits, []

    def update_history(self, step_results):
        self.steps.append(step_results)


@pytest.mark.parametrize("rules", [SURE, RANDOM], ids=["confidence", "random"])
def test_steps_add_up_to_the_result(rules):
    keep = Keep()
    final = decode(keep, rules=rules).ids
    ids = CANVAS.ids.clone()
    for number, step in enumerate(keep.steps):
        assert step["step"] == number
        assert torch.equal(step["input_ids"], ids[step["rows"]])
        assert torch.equal(step["output_ids"] != step["input_ids"], step["committed"] | step["hidden"])
        assert not (step["committed"] & ~step["candidates"]).any()
        assert torch.equal(step["candidates"], step["input_ids"] == MASK)
        assert len(step["log_probs"]) == step["scored"].sum()
        torch.testing.assert_close(
            step["log_probs"].exp().sum(-1), torch.ones(len(step["log_probs"]), dtype=torch.float64)
        )
        placed = torch.tensor(P, dtype=torch.float64)[
            CANVAS.positions[step["rows"]], (step["output_ids"] - FIRST_WORD).clamp(min=0)
        ]
        torch.testing.assert_close(step["probability"][step["committed"]], placed[step["committed"]])
        assert step["probability"][~step["committed"]].isnan().all()
        assert torch.equal(~step["confidence"].isnan(), step["candidates"])
        ids[step["rows"]] = step["output_ids"]
    assert torch.equal(ids, final)


def test_observers_change_nothing_and_cost_logits_only_on_request():
    frugal, greedy = Keep(), Keep(wants_all_logits=True)
    rules = RANDOM
    assert torch.equal(decode(frugal, rules=rules).ids, decode(greedy, rules=rules).ids)
    assert torch.equal(decode(rules=rules).ids, decode(frugal, rules=rules).ids)
    assert torch.equal(frugal.steps[0]["scored"], frugal.steps[0]["committed"])
    assert torch.equal(greedy.steps[0]["scored"], greedy.steps[0]["candidates"])


def test_history_by_hand_and_back_from_disk(tmp_path):
    history = HistoryTopKPlugin(tmp_path, k=2)
    final = decode(history).ids
    saved = history.to_dict()
    assert len(saved) == 3 and len({s["fid"] for s in saved}) == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(s["fid"] for s in saved)
    row = HistoryTopKPlugin.from_serialized(tmp_path, saved[0]["fid"])
    assert row.get_num_steps() == 3
    # Surest first: position 1 (.8), then 0 (.5), then 3 (.4).
    first = row.get(0)
    np.testing.assert_allclose(first["p"], [[0.5, 0.3], [0.8, 0.1], [1, 0], [0.4, 0.3]], rtol=1e-6)
    assert first["pids"][:, 0].tolist() == [3, 4, FIRST_WORD, 4]
    assert first["x"].tolist() == [MASK, 4, FIRST_WORD, MASK]
    np.testing.assert_allclose(row.get(1)["p"][1], [1, 0])  # revealed: certain of what it holds
    assert row.get(1)["pids"][1].tolist() == [4, -1]
    assert row.get(2)["x"].tolist() == final[0].tolist()
    assert HistoryTopKPlugin.from_serialized(tmp_path, saved[1]["fid"]).get_num_steps() == 1
    assert HistoryTopKPlugin.from_serialized(tmp_path, saved[2]["fid"]).get_num_steps() == 0
    for step in range(3):
        for name in ("p", "pids", "x"):
            np.testing.assert_array_equal(row.get(step)[name], history.get(step, sample=0)[name])


def test_history_covers_every_masked_position_or_the_last_ones(tmp_path):
    history = HistoryTopKPlugin(tmp_path, k=1, max_new_tokens=2)
    decode(history, rules=RANDOM)
    np.testing.assert_allclose(history.get(0)["p"][-1], [0.4], rtol=1e-6)
    assert history.get(0)["p"].shape == (2, 1) and history.get(0)["x"].shape == (2,)


def test_a_new_batch_replaces_the_history(tmp_path):
    history = HistoryTopKPlugin(tmp_path)
    decode(history)
    first = history.to_dict()
    decode(history)
    assert history.get_num_steps() == 3  # of the new batch alone
    assert not {s["fid"] for s in first} & {s["fid"] for s in history.to_dict()}
    history.reset()
    assert history.to_dict() == []


def test_a_damaged_or_missing_history_is_an_error_of_one_paragraph(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "history.json").write_text("{}")
    with pytest.raises(ValueError, match="is not a history"):
        HistoryTopKPlugin.from_serialized(tmp_path, "x")
    with pytest.raises(ValueError, match="There is no history 'y'"):
        HistoryTopKPlugin.from_serialized(tmp_path, "y")
    history = HistoryTopKPlugin(tmp_path)
    decode(history)
    fid = history.to_dict()[0]["fid"]
    step = tmp_path / fid / "step-00001.safetensors"
    whole = step.read_bytes()
    for part in (whole[: len(whole) // 2], whole[:-1], b"", b"not tensors"):
        step.write_bytes(part)
        with pytest.raises(ValueError, match="is not a step of a history"):
            HistoryTopKPlugin.from_serialized(tmp_path, fid)
    step.unlink()
    with pytest.raises(ValueError, match="A step is missing"):
        HistoryTopKPlugin.from_serialized(tmp_path, fid)


def test_every_step_is_saved_in_a_file_of_its_own(tmp_path):
    history = HistoryTopKPlugin(tmp_path, k=2)
    decode(history)
    fid = history.to_dict()[0]["fid"]
    files = sorted((tmp_path / fid).glob("*.safetensors"))
    assert len(files) == history.get_num_steps(0) == 3
    for number, file in enumerate(files):
        assert {name: part.tolist() for name, part in load_file(file).items()} == {
            n: p.tolist() for n, p in history.get(number).items()
        }
    assert all(
        isinstance(part, torch.Tensor) for part in HistoryTopKPlugin.from_serialized(tmp_path, fid).get(0).values()
    )


def test_an_incomplete_history_is_refused(tmp_path, monkeypatch):
    history = HistoryTopKPlugin(tmp_path)
    decode(history)
    monkeypatch.setattr(
        "unmask.decode.observers.history.write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        history.to_dict()
    left = next(tmp_path.iterdir())
    assert list(left.glob("step-*"))
    with pytest.raises(ValueError, match="There is no history"):
        HistoryTopKPlugin.from_serialized(tmp_path, left.name)


def test_unknown_steps_and_samples_are_refused(tmp_path):
    history = HistoryTopKPlugin(tmp_path)
    decode(history)
    for step, sample, hint in (
        (3, 0, "There is no step 3: sample 0 has 3"),
        (-1, 0, "no step -1"),
        (0, 2, "sample 2 has 0"),
        (0, 3, "There is no sample 3"),
    ):
        with pytest.raises(ValueError, match=hint):
            history.get(step, sample)


def test_a_trace_replays_to_the_result_and_survives_the_disk(tmp_path):
    trace = Trace()
    final = decode(trace).ids
    assert torch.equal(trace.replay(0), CANVAS.ids)
    assert torch.equal(trace.replay(trace.num_steps), final) and trace.final == final.tolist()
    assert [(e.position, e.step) for e in trace.row_events(0)] == [(1, 0), (0, 1), (3, 2)]
    assert [round(e.probability, 6) for e in trace.row_events(0)] == [0.8, 0.5, 0.4]
    assert trace.real[1] == [True, True, True, False]
    trace.save(tmp_path / "trace.json")
    assert Trace.load(tmp_path / "trace.json") == trace and "top_k" not in (tmp_path / "trace.json").read_text()
    decode(with_alternatives := Trace(top_k=2))
    assert with_alternatives.events == trace.events and with_alternatives.alternatives
    with_alternatives.save(tmp_path / "top.json")
    assert Trace.load(tmp_path / "top.json") == with_alternatives
    (tmp_path / "other.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(ValueError, match="is not a trace"):
        Trace.load(tmp_path / "other.json")


def test_traces_are_compared_position_by_position():
    sure, left = Trace(), Trace()
    decode(sure)
    decode(left, rules=Rules(3, Selector(LeftToRight()), tokens=Tokens(temperature=0.0), allow_eos=False))
    assert sure.differences(sure) == []
    # Row 0: surest first 1, 0, 3; left to right 0, 1, 3. The tokens are the same: the model is factorised.
    assert sure.differences(left) == [(0, 0, (3, 3), (1, 0)), (0, 1, (4, 4), (0, 1))]
    with pytest.raises(ValueError, match="different canvases"):
        sure.differences(Trace())


def test_positions_filled_after_an_eos_are_reported():
    keep, trace = Keep(), Trace()
    logits = table(P, special_logit=-9.0)
    logits[1, EOS] = 99.0
    rules = Rules(4, Selector(LeftToRight()), stop_at_eos=True)
    canvas = Canvas.unconditional(1, 4, SPECIAL)
    decoded = fill_canvas(TableModel(logits), canvas, rules, special=SPECIAL, seed=0, observers=[keep, trace])
    assert decoded.steps_taken.tolist() == [2] and decoded.ids[0, 1:].tolist() == [EOS] * 3
    assert keep.steps[1]["committed"].tolist() == [[False, True, True, True]]
    assert keep.steps[1]["probability"][0, 2:].tolist() == [1.0, 1.0]
    assert torch.equal(trace.replay(2), decoded.ids)


def test_alternatives_are_recorded_again_when_they_change_places_with_the_same_probabilities():
    special = specials(2)
    likely = table([[0.7, 0.3]] * 3, special_logit=-99.0)

    class Swapping(TableModel):
        def __call__(self, x_t, **inputs):
            logits = super().__call__(x_t, **inputs)
            return logits if self.forward_passes == 1 else logits[..., [0, 1, 2, 4, 3]]

    trace = Trace(top_k=2)
    rules = make_rules(3, order="left_to_right", temperature=0.0)
    canvas = Canvas.infill(torch.full((1, 3), MASK), special)
    fill_canvas(Swapping(likely), canvas, rules, special=special, seed=0, observers=[trace])
    last = [(top.step, top.tokens) for top in trace.row_alternatives(0) if top.position == 2]
    assert last == [(0, [3, 4]), (1, [4, 3])]
