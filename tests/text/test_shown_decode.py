"""A prediction shows itself in a notebook: the player, with the steps of its decode."""

import html
import json
import re

import pytest

from unmask.text.loading import load
from unmask.text.shown_decode import MOST_ROWS

TEXT = "the [MASK] sees the [MASK]."


@pytest.fixture(scope="module")
def model(trained):
    return load(trained, device="cpu")


def runs_of(shown):
    (frame,) = re.findall(r'srcdoc="([^"]*)"', shown)
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html.unescape(frame), re.S)
    return json.loads(data)["runs"]


def test_a_filling_plays_its_steps_with_alternatives(model):
    filling = model.fill(TEXT, top=3)
    (run,) = runs_of(filling._repr_html_())
    assert run["text"] == filling.text and sum(len(step["unmasked"]) for step in run["steps"]) == 2
    first = {entry["position"]: entry["top"] for entry in run["steps"][0]["alternatives"]}
    for blank, top in zip(filling.blanks, first.values(), strict=True):
        assert [option["text"] for option in top] == [option.token for option in blank.alternatives]
    assert f"<strong>{html.escape(filling.text)}</strong>" in filling._repr_html_()


def test_several_results_share_one_player_and_a_generation_has_no_alternatives(model):
    fillings = model.fill([TEXT, "a [MASK] finds"])
    assert [run["text"] for run in runs_of(fillings._repr_html_())] == [each.text for each in fillings]
    written = model.generate("the cat", new_tokens=5, seed=3)
    (run,) = runs_of(written._repr_html_())
    assert run["text"].startswith("the cat") and not any(step["alternatives"] for step in run["steps"])


def test_large_batches_and_unknown_lengths_show_text_and_candidates(model):
    many = model.fill([TEXT] * (MOST_ROWS + 1))
    assert all(each.decode is None for each in many) and "<iframe" not in many._repr_html_()
    assert model.fill("the [MASK] sees", longest=2)._repr_html_().startswith("<p><strong>")
