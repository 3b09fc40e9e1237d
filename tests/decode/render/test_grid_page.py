"""Canvases as pictures: the colour and the position of every cell."""

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from tests.nonautoregressive.networks import MASK_ID, rotary
from unmask import Grid, NonAutoregressiveWrapper, Trace
from unmask.decode.render import grid_page as render

GRID = Grid(2, 3)
PALETTE = [(10 * i, 255 - 10 * i, 30) for i in range(8)]


@pytest.fixture(scope="module")
def traced():
    trace = Trace()
    model = NonAutoregressiveWrapper(rotary(), mask_id=MASK_ID, layout=(2, 3), steps=3)
    prompt = torch.full((3, 6), MASK_ID)
    prompt[0, 0] = 7
    return trace, model.generate(prompt=prompt, seed=0, observers=[trace])


def test_cells_have_palette_colours_and_masked_ones_are_grey():
    image = render.picture([0, 1, 2, 3, 7, MASK_ID], GRID, PALETTE, scale=4)
    assert image.shape == (8, 12, 3) and image.dtype == np.uint8
    assert (image[:4, 4:8] == PALETTE[1]).all() and (image[4:, 4:8] == PALETTE[7]).all()
    blank = image[4:, 8:]
    assert (blank == blank[0, 0]).all() and tuple(blank[0, 0]) not in PALETTE
    with pytest.raises(ValueError, match="has 6 cells"):
        render.picture([0] * 5, GRID, PALETTE)


def test_a_sheet_holds_every_picture(tmp_path, traced):
    _, ids = traced
    one = render.picture(ids[2], GRID, PALETTE, scale=2)
    image = render.sheet([render.picture(row, GRID, PALETTE, scale=2) for row in ids], columns=2, gap=1)
    assert image.shape == (2 * 5 + 1, 2 * 7 + 1, 3) and (image[6:10, 1:7] == one).all()
    render.sheet_png(tmp_path / "sheet.png", ids, GRID, PALETTE, columns=2, scale=2)
    saved = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB"))
    assert (saved[6:10, 6:12] == render.picture(ids[0], GRID, PALETTE, scale=2)).all()


def test_an_animation_runs_from_the_prompt_to_the_result(tmp_path, traced):
    trace, ids = traced
    frames = render.trace_frames(trace, GRID, PALETTE, scale=1)
    assert len(frames) == trace.num_steps + 1
    given = render.sheet([render.picture(row, GRID, PALETTE, 1) for row in trace.initial])
    assert (frames[0] == given).all()
    assert (frames[-1] == render.sheet([render.picture(row, GRID, PALETTE, 1) for row in ids])).all()
    render.trace_gif(tmp_path / "a.gif", trace, GRID, PALETTE, scale=4)
    assert Image.open(tmp_path / "a.gif").n_frames > 1
    with pytest.raises(ValueError, match="no finished decode"):
        render.trace_gif(tmp_path / "b.gif", Trace(), GRID, PALETTE)


def test_the_order_is_a_map(traced):
    trace, _ = traced
    shown = render.order_picture(trace, GRID, scale=1).reshape(-1, 3)
    given = tuple(shown[0])
    assert all(tuple(shown[e.position]) != given for e in trace.row_events(0)) and len(trace.row_events(0)) == 5


def test_a_terminal_shows_two_cells_per_character(traced):
    _, ids = traced
    text = render.terminal_picture(ids[0], GRID, PALETTE)
    assert text.plain == "▀▀▀\n"
    upper = PALETTE[int(ids[0, 1])]
    assert f"rgb({upper[0]},{upper[1]},{upper[2]})" in str(text.spans[1].style)


def test_a_view_prints_its_cost_in_a_pipe(capsys):
    model = NonAutoregressiveWrapper(rotary(), mask_id=MASK_ID, layout=(2, 3), steps=3)
    with render.GridView(GRID, PALETTE, console=Console(force_terminal=False)) as view:
        model.generate(2, seed=0, observers=[view])
    assert "2 pictures in 3 forward passes" in capsys.readouterr().out
    with render.GridView(GRID, PALETTE, console=Console(force_terminal=True, width=40)) as view:
        model.generate(2, seed=0, observers=[view])
    assert "▀" in capsys.readouterr().out
