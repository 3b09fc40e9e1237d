"""Contestants take turns; figures are medians; targets are judged as they are stated."""

import sys

import pytest

from unmask.measure.memory import peak_memory, peak_of_this_process
from unmask.measure.report_table import Row, markdown
from unmask.measure.turns import Ratio, Timing, take_turns


def test_turns_go_round():
    calls, told = [], []
    timings = take_turns(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3, progress=lambda *x: told.append(x)
    )
    assert "".join(calls) == "ab" * 4  # one round to warm up
    assert {name: len(t.seconds) for name, t in timings.items()} == {"a": 3, "b": 3}
    assert told[-1] == (8, 8) and len(told) == 8


@pytest.mark.parametrize(("contestants", "turns", "warm_up"), [({}, 1, 0), ({"a": int}, 0, 0), ({"a": int}, 1, -1)])
def test_nothing_to_time_is_refused(contestants, turns, warm_up):
    with pytest.raises(ValueError, match="at least"):
        take_turns(contestants, turns, warm_up=warm_up)


def test_a_ratio_is_of_medians_and_its_spread_of_turns():
    ours, peer = Timing((1.0, 2.0, 4.0)), Timing((3.0, 3.0, 8.0))
    assert ours.faster_than(peer) == Ratio(1.5, 1.5, 3.0)
    assert ours.faster_than(peer, work=2.0) == Ratio(3.0, 3.0, 6.0)
    with pytest.raises(ValueError, match="same number of turns"):
        ours.faster_than(Timing((1.0,)))


@pytest.mark.parametrize(
    ("value", "target", "at_most", "mark"),
    [
        (1.9, 1.9, False, "✓"),
        (1.89, 1.9, False, "✗"),
        (0.5, 0.5, True, "✓"),
        (0.51, 0.5, True, "✗"),
        (9.0, None, False, ""),
    ],
)
def test_a_target_is_met_or_not(value, target, at_most, mark):
    row = Row.single("work", "peer", value, target, at_most=at_most)
    assert row.cells()[-1] == mark
    assert row.as_dict()["met"] == {"✓": True, "✗": False, "": None}[mark]


def test_the_table_as_markdown():
    rows = [
        Row.of("step", "BERT", Ratio(2.634, 2.5, 2.7), 1.9),
        Row.single("memory", "BERT", 0.42, 0.5, at_most=True),
        Row.single("share", "", 0.0123, 0.02, unit="%", at_most=True),
        Row.single("loader", "", 81.34, 50, unit="M tokens/s"),
    ]
    assert markdown(rows).splitlines()[2:] == [
        "| step, beside BERT | 2.63× | ≥ 1.90× | ✓ |",
        "| memory, beside BERT | 0.42× | ≤ 0.50× | ✓ |",
        "| share | 1.2% | ≤ 2.0% | ✓ |",
        "| loader | 81.34 M tokens/s | ≥ 50.00 M tokens/s | ✓ |",
    ]
    assert rows[0].cells()[2] == "2.50–2.70×"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell")
def test_peak_memory_is_of_a_process_of_its_own():
    base = peak_memory("pass")
    assert peak_memory("x = bytearray(200 << 20); del x") - base == pytest.approx(200 << 20, rel=0.1)
    assert peak_of_this_process() > 0
    with pytest.raises(RuntimeError, match="no such thing"):
        peak_memory("raise ValueError('no such thing')")
