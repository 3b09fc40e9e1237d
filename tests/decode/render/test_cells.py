"""A square of cells in the terminal: boxes apart, given cells dim, placed ones coloured."""

import io

import pytest
import torch
from rich.console import Console
from rich.text import Text

from unmask import Canvas, RotaryTransformerMLMModel, SpecialIds, fill_canvas, make_rules
from unmask.decode.render.cells import CellsView, cells_text
from unmask.decode.render.colour import confidence_hex


def test_every_cell_stands_once_and_boxes_are_apart():
    text = "123456" * 6
    lines = cells_text([Text(cell) for cell in text], (2, 3)).plain.split("\n")
    assert len(lines) == 6 + 2 and lines[2] == lines[5] == "──────┼──────"
    assert "".join(c for line in lines for c in line if c.isdigit()) == text
    nine = cells_text([Text("7")] * 81, (3, 3)).plain.split("\n")
    assert len({len(line) for line in nine}) == 1 and nine[3].count("┼") == 2
    assert [c == "│" for c in nine[0]] == [c == "┼" for c in nine[3]], "lines meet"
    with pytest.raises(ValueError, match="no square of boxes"):
        cells_text([Text("1")] * 15, (2, 2))


def test_a_view_draws_given_masked_and_placed_cells():
    class Digits:
        def decode(self, ids, skip_special_tokens=False):
            return "".join("·123456789"[id] for id in ids)

    special = SpecialIds(mask=0, vocab_size=10)
    torch.manual_seed(0)
    model = RotaryTransformerMLMModel(10, 16, 1, 2, mask_idx=0, padding_idx=None)
    console = Console(file=io.StringIO(), force_terminal=True, width=40)
    view = CellsView(Digits(), (2, 2), console)
    drawn = []
    view._row = lambda row, fresh, draw=view._row: drawn.append(draw(row, fresh)) or drawn[-1]
    ids = torch.tensor([[1, 2, 3, 4, 0, 0, *[5] * 10, 9]])  # the last token is no cell
    with view:
        fill_canvas(model, Canvas.infill(ids, special), make_rules(2), special=special, seed=0, observers=[view])
    first, last = drawn[0], drawn[-1]
    assert first.plain.count("·") == 2 and last.plain.count("·") == 0 and "9" not in last.plain.split("\n")[0]
    colours = {confidence_hex(float(view._probability[0, at])) for at in (4, 5)}
    assert colours == {str(span.style).removeprefix("bold ") for span in last.spans if "#" in str(span.style)}
