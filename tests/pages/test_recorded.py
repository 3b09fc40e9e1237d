"""The page of a recorded decode, in a browser: play, scrub, compare, copy, save; accessible in light and dark."""

import json

import pytest
import torch

from unmask import Canvas, RotaryTransformerMLMModel, SpecialIds, fill_canvas, make_rules
from unmask.decode.observers.trace import Trace
from unmask.decode.render.page import recorded_html, save_trace_html, trace_data

pytestmark = pytest.mark.slow
BLANKS, STEPS = 8, 4


class Words:
    """Ids from 3 on are words; one of them is markup."""

    mask_token_id, pad_token_id, eos_token_id = 0, 1, 2
    all_special_ids = [0, 1, 2]  # noqa: RUF012
    words = (" the", " order", "\n    of", "<b>tokens</b>", ",", " seen")

    def __len__(self):
        return 3 + len(self.words)

    def decode(self, ids, skip_special_tokens=True):
        return "".join("[MASK][PAD][EOS]"[6 * i : 6 * i + 6][:5] if i < 3 else self.words[i - 3] for i in ids)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A file with two samples of ten tokens, two of them given, and the trace in it."""
    special = SpecialIds(mask=0, pad=1, eos=2, vocab_size=9)
    torch.manual_seed(0)
    model = RotaryTransformerMLMModel(9, 16, 1, 2, padding_idx=1, mask_idx=0)
    trace = Trace(top_k=4)
    ids = torch.tensor([[3, 4, *[0] * BLANKS]] * 2)
    rules = make_rules(STEPS, order="top_prob", temperature=1.0)
    fill_canvas(model, Canvas.infill(ids, special), rules, special=special, seed=0, observers=[trace])
    path = tmp_path_factory.mktemp("page") / "decode.html"
    save_trace_html(path, trace, Words(), title="A decode", subtitle="two samples", labels=["first", "second"])
    return path, trace


@pytest.fixture
def opened(page, recorded):
    page.goto(recorded[0].as_uri() + "#step=0")
    return page


def text_of(page):
    return page.locator(".sheet").first.inner_text()


def test_the_slider_shows_the_text_after_every_step(opened, recorded):
    _, trace = recorded
    for step in range(STEPS + 1):
        opened.locator("input[type=range]").fill(str(step))
        masked = int((trace.replay(step)[0] == 0).sum())
        assert opened.locator(".blank").count() == masked
        assert f"step {step} of {STEPS}" in opened.locator(".count").inner_text()
        assert f"{BLANKS - masked} of {BLANKS} tokens" in opened.locator(".count").inner_text()
    assert opened.locator(".sheet b").count() == 0  # a token is text, never markup


def test_keys_move_play_and_change_the_sample(opened):
    opened.keyboard.press("ArrowRight")
    assert "step 1 of" in opened.locator(".count").inner_text()
    opened.keyboard.press("End")
    assert f"step {STEPS} of" in opened.locator(".count").inner_text()
    opened.keyboard.press("ArrowDown")
    assert opened.locator(".samples [aria-pressed=true]").inner_text() == "second"
    opened.keyboard.press("Home")
    opened.keyboard.press(" ")
    opened.wait_for_function("document.querySelector('.play').textContent === 'Replay'")
    assert f"step {STEPS} of" in opened.locator(".count").inner_text()


def test_pointing_at_a_token_shows_its_alternatives_at_this_step(opened, recorded):
    _, trace = recorded
    opened.locator(".blank").first.hover()
    first = next(top for top in trace.row_alternatives(0) if top.step == 0)
    shown = opened.locator(".details li span").all_inner_texts()
    assert shown == [f"{100 * p:.1f}%" for p in first.probabilities]
    opened.keyboard.press("End")
    opened.locator(".placed").first.focus()
    event = next(e for e in trace.row_events(0) if e.position == 2)
    assert (
        f"probability {100 * event.probability:.1f}% · step {event.step + 1}" in opened.locator(".details").inner_text()
    )


def test_two_samples_side_by_side_share_the_time_line(opened):
    opened.select_option(".beside", "1")
    assert opened.locator(".pane").count() == 2 and opened.locator(".timelines .bars").count() == 2
    opened.keyboard.press("Home")
    assert opened.locator(".blank").count() == 2 * BLANKS


def test_it_is_copied_as_json_and_as_a_link_and_saved_as_a_page(opened, page, recorded, tmp_path):
    opened.click(".copy-json")
    opened.wait_for_function("document.querySelector('.share output').textContent.includes('JSON copied')")
    copied = json.loads(opened.evaluate("navigator.clipboard.readText()"))
    assert [run["label"] for run in copied["runs"]] == ["first", "second"]
    opened.keyboard.press("ArrowRight")
    opened.click(".copy-link")
    opened.wait_for_function("document.querySelector('.share output').textContent.includes('Link copied')")
    assert opened.evaluate("navigator.clipboard.readText()").endswith("#step=1")
    with opened.expect_download() as download:
        opened.click(".save-page")
    download.value.save_as(tmp_path / "saved.html")
    opened.keyboard.press("End")
    before = text_of(opened)
    page.goto((tmp_path / "saved.html").as_uri())
    assert text_of(page) == before and page.locator(".samples button").count() == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 380])
def test_it_is_accessible_and_fits_the_screen(opened, accessible, scheme, width):
    opened.emulate_media(color_scheme=scheme)
    opened.set_viewport_size({"width": width, "height": 800})
    opened.keyboard.press("ArrowRight")
    opened.locator(".placed").first.hover()
    accessible(opened)
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_cells_stand_in_a_square_and_wrong_ones_are_marked(page, recorded, tmp_path):
    _, trace = recorded
    data = trace_data(trace, Words(), ["first", "second"])
    for run in data["runs"]:
        run["tokens"] = run["tokens"][:9]
        for step in run["steps"]:
            step["unmasked"] = [token for token in step["unmasked"] if token["position"] < 9]
    solution = [token["text"] for token in data["runs"][0]["tokens"]]
    data |= {"beside": True, "cells": {"columns": 3, "box": [3, 1], "solution": [*solution[:8], "another"]}}
    path = tmp_path / "cells.html"
    path.write_text(recorded_html(data, "Cells"))
    page.goto(path.as_uri() + "#step=9")
    cells = page.locator(".pane").first.locator(".token")
    boxes = [cells.nth(n).bounding_box() for n in range(9)]
    assert len({round(box["x"]) for box in boxes}) == len({round(box["y"]) for box in boxes}) == 3
    assert [cells.nth(n).get_attribute("data-edge") for n in (0, 3, 4)] == ["top left", "left", "left"]
    assert page.locator(".pane").first.locator(".wrong").count() == 1 and page.locator(".pane").count() == 2
