"""Pictures of a trace: correct text, a self-contained page, and escaped tokens."""

import io
import json
import re

import pytest
import torch
from rich.console import Console

from tests.naive.decoding import FIRST_WORD, MASK, PAD, TableModel, specials, table
from unmask.decode.canvas import Canvas
from unmask.decode.logits.sampler import Tokens
from unmask.decode.loop import fill_canvas
from unmask.decode.named import make_rules
from unmask.decode.observers.trace import Event, Trace
from unmask.decode.render.colour import STOPS, confidence_colour, confidence_hex
from unmask.decode.render.page import live_html, save_trace_html, trace_html
from unmask.decode.render.picture import trace_png
from unmask.decode.render.pieces import Pieces
from unmask.decode.render.terminal import TerminalView
from unmask.decode.rules import Rules

EVIL = '</script><img src=x onerror="alert(1)"> '


class Bytes:
    """Ids from 3 on are bytes of words, some of them partial characters; decoding strips the row's first space."""

    mask_token_id, pad_token_id, eos_token_id = MASK, PAD, 2
    all_special_ids = [0, 1, 2]  # noqa: RUF012
    words = (b" a", b"\n    b", "é".encode()[:1], "é".encode()[1:], EVIL.encode(), b"$x_1$")

    def __len__(self):
        return FIRST_WORD + len(self.words)

    def decode(self, ids, skip_special_tokens=True):
        special = {0: b"[MASK]", 1: b"[PAD]", 2: b"[EOS]"}
        kept = [i for i in ids if not (skip_special_tokens and i in special)]
        return (
            b"".join(special.get(i) or self.words[i - FIRST_WORD] for i in kept)
            .decode(errors="replace")
            .removeprefix(" ")
        )


@pytest.fixture(scope="module")
def trace():
    """Row 0: given " a", then all words in order, two per step. Row 1: no masked position. Row 2: all masked."""
    trace = Trace()
    certain = torch.eye(6) * 0.9 + 0.1 / 6
    logits = table([[1 / 6] * 6, *certain.tolist()], special_logit=-99)
    ids = torch.tensor([[3] + [MASK] * 6, [3, 4, 3, PAD, PAD, PAD, PAD], [MASK] * 7])
    rules = Rules(3, tokens=Tokens(temperature=0.0), allow_eos=False)
    fill_canvas(
        TableModel(logits), Canvas.infill(ids, specials(6)), rules, special=specials(6), seed=0, observers=[trace]
    )
    return trace


def test_pieces_join_to_the_text_with_spaces_and_complete_characters():
    ids = [3, 4, 5, 6, 3, 7]
    pieces = Pieces(Bytes())(ids)
    assert pieces == ["a", "\n    b", "", "é", " a", EVIL]
    assert "".join(pieces) == Bytes().decode(ids)
    assert Pieces(Bytes())([3, 5, 3]) == ["a", "", "\ufffd a"]  # half a character that is never finished
    assert Pieces(Bytes())([]) == [] and Pieces(None)([7, 8]) == [" 7", " 8"]


def data_of(page):
    (content,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(content)


def test_the_page_contains_every_token_with_its_events(trace):
    runs = data_of(trace_html(trace, Bytes()))["runs"]
    assert [len(run["steps"]) for run in runs] == [3, 0, 3]
    tokens, steps = runs[0]["tokens"], runs[0]["steps"]
    assert "".join(t["text"] for t in tokens) == Bytes().decode(trace.final[0]) == runs[0]["text"]
    assert [t["given"] for t in tokens] == [True, *[False] * (len(tokens) - 1)]
    placed = [(n, token) for n, step in enumerate(steps) for token in step["unmasked"]]
    assert [(n, token["position"], token["id"]) for n, token in placed] == [
        (event.step, event.position, event.token) for event in trace.row_events(0)
    ]
    for (_, token), event in zip(placed, trace.row_events(0), strict=True):
        assert token["probability"] == pytest.approx(event.probability, abs=1e-6)
        assert token["text"] == tokens[event.position]["text"]
    assert len(runs[1]["tokens"]) == 3  # padding is not shown


def test_a_token_masked_again_is_in_the_page():
    trace = Trace(MASK, [[MASK, MASK]], [[True, True]], [], [[3, 8]])
    trace.events = [Event(0, 0, 4, 0.5, 0), Event(0, 0, MASK, 0.0, 1), Event(0, 1, 8, 0.5, 1), Event(0, 0, 3, 0.5, 2)]
    steps = data_of(trace_html(trace, Bytes()))["runs"][0]["steps"]
    assert [step["remasked"] for step in steps] == [[], [0], []]
    assert [[t["text"] for t in step["unmasked"]] for step in steps] == [["\n    b"], ["$x_1$"], ["a"]]


def test_alternatives_of_every_step_are_in_the_page():
    trace = Trace(top_k=2)
    special, model = specials(5), TableModel(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)))
    ids = torch.tensor([[3, MASK, MASK, MASK], [MASK, MASK, 3, MASK]])
    rules = make_rules(3, order="top_prob", temperature=0.0)
    plain = fill_canvas(model, Canvas.infill(ids, special), rules, special=special, seed=0)
    found = fill_canvas(model, Canvas.infill(ids, special), rules, special=special, seed=0, observers=[trace])
    assert torch.equal(plain.ids, found.ids)
    for run, row in zip(data_of(trace_html(trace, None))["runs"], found.ids.tolist(), strict=True):
        first = run["steps"][0]["alternatives"]
        masked = [i for i, token in enumerate(run["tokens"]) if not token["given"]]
        assert [entry["position"] for entry in first] == masked
        for entry in first:
            (best, second), own = entry["top"], row[entry["position"]]
            assert best["probability"] >= second["probability"] and best["id"] == own
        assert not any(step["alternatives"] for step in run["steps"][1:])  # this network's answer never changes


def test_the_page_is_self_contained_and_tokens_are_escaped(trace):
    page = trace_html(trace, Bytes(), title="<i>&{{data}}", subtitle="<u>", labels=["<s>", "b", "c"])
    assert page.count("</script>") == 4 and "<img" not in page
    assert "<i>" not in page and "<u>" not in page and "<s>" not in page
    assert "<title>&lt;i&gt;&amp;{{data}}</title>" in page
    assert not re.search(r"https?://|\bsrc=[^x]|@import|url\(", page)
    assert re.findall("<link[^>]*>", page) == ['<link rel="icon" href="data:,">']  # asks nobody for an icon


def test_the_live_page_holds_every_part_and_no_place_that_was_not_filled():
    page = live_html("a <model>")
    assert "a &lt;model&gt;" in page and not re.search(r"\{\{\w+\}\}|https?://", page)
    for part in ("createPlayer", "shareWith", 'id="recorded-code"', "/v1/fill", "<textarea"):
        assert part in page


def test_the_page_is_saved_and_unfinished_traces_are_refused(trace, tmp_path):
    save_trace_html(tmp_path / "page.html", trace, Bytes(), title="T")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == trace_html(trace, Bytes(), title="T")
    with pytest.raises(ValueError, match="no finished decode"):
        trace_html(Trace(), None)
    with pytest.raises(ValueError, match="2 labels for 3 rows"):
        trace_html(trace, Bytes(), labels=["a", "b"])


def test_text_after_eos_is_marked():
    trace = Trace(MASK, [[MASK] * 3], [[True] * 3], [], [[3, 2, 3]])
    trace.events = [Event(0, i, trace.final[0][i], 0.5, i) for i in range(3)]
    assert [t["after"] for t in data_of(trace_html(trace, Bytes()))["runs"][0]["tokens"]] == [False, False, True]


@pytest.mark.parametrize("row", [0, 1, 2])
def test_the_picture_is_a_png(trace, tmp_path, row):
    trace_png(tmp_path / "trace.png", trace, Bytes(), row=row, title="$x$")
    assert (tmp_path / "trace.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="row=3 is outside"):
        trace_png(tmp_path / "trace.png", trace, None, row=3)


def test_colours_run_from_the_first_stop_to_the_last():
    assert (
        confidence_colour(0.0) == STOPS[0] and confidence_colour(0.5) == STOPS[1] and confidence_colour(1.0) == STOPS[2]
    )
    assert confidence_hex(-1.0) == confidence_hex(0.0) == "#c44218"


def watch(console):
    model = TableModel(table([[0.9, 0.1]] * 5))
    canvas = Canvas.infill(torch.tensor([[3, MASK, MASK, MASK, MASK], [PAD, 3, 4, MASK, MASK]]), specials(2))
    with TerminalView(None, console, max_rows=1) as view:
        fill_canvas(model, canvas, Rules(2, allow_eos=False), special=specials(2), seed=0, observers=[view])


def test_a_pipe_gets_plain_lines():
    out = io.StringIO()
    watch(Console(file=out, force_terminal=False, width=80))
    assert out.getvalue().splitlines() == [
        "step 0 · 0 of 6 tokens", "step 1 · 3 of 6 tokens", "step 2 · 6 of 6 tokens", "6 tokens in 2 forward passes"
    ]  # fmt: skip


def test_a_terminal_gets_colours_and_the_final_text():
    out = io.StringIO()
    watch(Console(file=out, force_terminal=True, width=80, color_system="truecolor"))
    shown = out.getvalue()
    assert "░░" in shown and "1 more rows" in shown and "\x1b[1;38;2;" in shown
    assert "step 2 · 6 of 6 tokens" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
