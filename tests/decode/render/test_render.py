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
from unmask.decode.observers.trace import Event, Trace
from unmask.decode.render.colour import STOPS, confidence_colour, confidence_hex
from unmask.decode.render.page import save_trace_html, trace_html
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
    rows = data_of(trace_html(trace, Bytes()))["rows"]
    assert [row["steps"] for row in rows] == [3, 0, 3]
    first = rows[0]["tokens"]
    assert "".join(t["text"] for t in first) == Bytes().decode(trace.final[0])
    assert first[0]["moments"] == [] and all(len(t["moments"]) == 1 for t in first[1:])
    for event in trace.row_events(0):
        assert first[event.position]["moments"] == [
            [event.step, first[event.position]["text"], pytest.approx(event.probability, abs=1e-6), event.token]
        ]
    assert len(rows[1]["tokens"]) == 3  # padding is not shown


def test_the_page_is_self_contained_and_tokens_are_escaped(trace):
    page = trace_html(trace, Bytes(), title="<i>&{{data}}", subtitle="<u>", labels=["<s>", "b", "c"])
    assert page.count("</script>") == 2 and "<img" not in page
    assert "<i>" not in page and "<u>" not in page and "<s>" not in page
    assert "<title>&lt;i&gt;&amp;{{data}}</title>" in page
    assert not re.search(r"https?://|\bsrc=[^x]|<link|@import|url\(", page)


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
    assert [t["after"] for t in data_of(trace_html(trace, Bytes()))["rows"][0]["tokens"]] == [False, False, True]


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
