"""The study of orders: it runs from end to end, its points are those of the rules they name, and its plot names every line."""

import itertools
import json
import sys
from typing import Any

import pytest
import torch
from benchmarks.sudoku import QUICK, SudokuNetwork, asked, config_of

from benchmarks import order
from unmask.decode.canvas import Canvas
from unmask.decode.loop import fill_canvas
from unmask.decode.named import make_rules
from unmask.studies.decoded_rows import DecodedRows
from unmask.studies.order_plot import plot_orders, spread
from unmask.studies.order_study import Family, families, measure_orders
from unmask.tasks.sudoku import Sudoku

SMALL = Sudoku(2, 2)


def network(sudoku: Sudoku = SMALL) -> SudokuNetwork:
    torch.manual_seed(0)
    return SudokuNetwork(sudoku, d_model=16, num_layers=2, nhead=2, dropout=0.0).eval()


@pytest.fixture(scope="module")
def task() -> DecodedRows:
    return DecodedRows(network(), *asked(SMALL, 12))


@pytest.fixture(scope="module")
def curves(task) -> list[dict[str, Any]]:
    return measure_orders(task, 8, [1, 3, 99], bounds=1)


def test_a_quick_run_trains_measures_and_draws(monkeypatch, tmp_path, capsys):
    figures, picture, run = tmp_path / "order.json", tmp_path / "order.png", tmp_path / "run"
    arguments = ["--quick", "--threads", "1", "--puzzles", "20", "--run", run, "--json", figures, "--plot", picture]
    monkeypatch.setattr(sys, "argv", ["order", *map(str, arguments)])
    order.main()
    report = json.loads(figures.read_text())
    assert report["puzzles"] == 20 and report["training"] == {k: QUICK["train"][k] for k in ("steps", "batch_size")}
    assert {(c["name"], c["panel"]) for c in report["curves"]} == {(f.name, f.panel) for f in families(8)}
    assert all(len(curve["points"]) >= 1 for curve in report["curves"])
    assert picture.stat().st_size > 20_000
    shown = capsys.readouterr().out
    assert all(family.name[:20] in shown for family in families(8))
    monkeypatch.setattr(
        "benchmarks.sudoku.Sudoku.grids", None
    )  # a second run finds the network and draws no rows to train on
    assert order.trained(SMALL, run, quick=True).net.units_of.shape == (16, 3)


def test_a_point_is_the_decode_that_it_names(task, curves):
    curves = {(curve["name"], curve["panel"]): curve for curve in curves}
    canvas, blanks = task.canvas, task.canvas.blanks(4).sum(-1)
    for name, options in {"margin": {"order": "prob_diff"}, "left to right": {"order": "left_to_right"}}.items():
        points = curves[name, "greedy"]["points"]
        assert [p["max_steps"] for p in points] == [1, 3, int(blanks.max())]
        decoded = fill_canvas(
            task.model, canvas, make_rules(3, temperature=0.0, **options), special=task.special, seed=0
        )
        right = (decoded.ids == task.answer) & canvas.blanks(4)
        assert points[1]["tokens"]["value"] == pytest.approx(right.sum().item() / blanks.sum().item())
        assert points[1]["whole"]["value"] == pytest.approx((decoded.ids == task.answer).all(-1).double().mean().item())
        assert points[1]["forward_passes"] == 3 and points[1]["tokens_run"] == 48
        assert points[2]["forward_passes"] == pytest.approx(blanks.double().mean().item())
        assert points[1]["whole"]["low"] <= points[1]["whole"]["value"] <= points[1]["whole"]["high"]
    last = [
        {k: v for k, v in curves[name, "drawn"]["points"][-1].items() if k != "max_steps"}
        for name in ("random", "first hitting")
    ]
    assert last[0] == last[1], "one blank a step in random order, said twice"
    first_hitting = [
        curves[f"blocks of 8{words}", "blocks"]["points"][-1]["tokens_run"]
        for words in ("", ", prefix cache", ", dual cache")
    ]
    assert first_hitting[0] > first_hitting[1] > first_hitting[2]


def test_every_family_differs_from_every_other(task):
    """A knob that is never read, or a name that stands for another's rules, would give two families one behaviour."""
    rules = [
        (
            f.panel,
            make_rules(
                special=task.special,
                **{"max_steps": 5, "temperature": 0.0, **f.options, f.knob: f.values[0] if f.values else 5},
            ),
        )
        for f in families(8)
    ]
    for i, one in enumerate(rules):
        assert one not in rules[:i]
    assert len({(f.name, f.panel) for f in families(8)}) == len(families(8))
    assert all(isinstance(f, Family) and (f.values is not None or f.knob == "max_steps") for f in families(8))


def test_the_network_is_told_row_column_and_box():
    """Cells of one row, column and box exchange what they say when their places are exchanged, and only then."""
    sudoku = Sudoku(2, 3)
    model = network(sudoku)
    empty = torch.full((1, sudoku.cells), sudoku.side)
    with torch.no_grad():
        units = model._embed(empty, torch.arange(sudoku.cells)[None])[0] - model.embedding.weight[sudoku.side]
    row, column, box = (model.unit.weight[start : start + 6] for start in (0, 6, 12))
    for cell, (r, c, b) in {0: (0, 0, 0), 5: (0, 5, 1), 12: (2, 0, 2), 16: (2, 4, 3), 35: (5, 5, 5)}.items():
        assert torch.allclose(units[cell], row[r] + column[c] + box[b], atol=1e-6)


def test_the_network_can_be_cached():
    canvas, _, special = asked(SMALL, 6)
    plain, cached = (
        fill_canvas(
            network().double(),
            canvas,
            make_rules(12, order="top_prob", block_length=8, temperature=0.0, **cache),
            special=special,
            seed=0,
        )
        for cache in ({}, {"cache": "dual", "cache_refresh": 1})
    )
    assert torch.equal(plain.ids, cached.ids)


def test_puzzles_are_asked_on_patterns_that_are_not_learnt_from():
    canvas, solutions, special = asked(SMALL, 30)
    learnt = {tuple(p) for p in SMALL.split(0.1)[0].tolist()}
    assert not learnt & {tuple(grid[:4].argsort()[grid].tolist()) for grid in solutions}
    assert isinstance(canvas, Canvas) and torch.equal(canvas.ids[canvas.fixed], solutions[canvas.fixed])
    assert special.mask == 4 and config_of(SMALL, "nowhere", True).data.block_size == 16


def test_names_are_moved_apart_as_little_as_it_takes():
    assert spread([10.0, 50.0], 5) == [10.0, 50.0]
    assert spread([50.0, 50.0, 50.0], 4) == pytest.approx([46.0, 50.0, 54.0])
    assert spread([3.0, 1.0, 90.0], 4) == pytest.approx([4.0, 0.0, 90.0])
    moved = sorted(spread([5.0, 6.0, 9.0, 9.5, 40.0], 3))
    assert all(b - a >= 3 - 1e-9 for a, b in itertools.pairwise(moved)) and moved[-1] == 40.0


def test_a_plot_of_text_is_drawn_too(curves, tmp_path):
    plot_orders({"title": "rows", "quality": "tokens", "curves": curves}, tmp_path / "deep" / "text.png")
    assert (tmp_path / "deep" / "text.png").stat().st_size > 20_000
