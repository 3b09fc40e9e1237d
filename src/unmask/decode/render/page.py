"""A decode as one self-contained HTML page, with style, script and data inline.

The page plays recorded decodes (``trace_html``) or asks a service for them (``live_html``); the player is the same file. Its data:

    mask_token
    runs        one per sample: label, text,
                tokens  [{id, text, given, after}]                     the final row; ``after`` = after its end-of-text token
                steps   [{unmasked: [{position, id, text, probability}], remasked: [position],
                          alternatives: [{position, top: [{id, text, probability}]}]}]
    beside      true = the first two samples are shown at once
    cells       {columns, box: [height, width], solution}: tokens are cells of a square, such as a sudoku; others than those
                of the text ``solution``, if any, are marked; absent for text

Data are embedded as JSON with ``<`` escaped and shown through ``textContent`` only, so that no token can become markup.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from unmask.contracts import SpecialIds
from unmask.decode.observers.trace import Trace
from unmask.decode.render.colour import STOPS
from unmask.decode.render.pieces import Pieces
from unmask.storage import write_text


@cache
def _part(name: str) -> str:
    return files("unmask.decode.render").joinpath(name).read_text(encoding="utf-8").strip()


def trace_html(
    trace: Trace, tokenizer: Any, title: str = "Unmasking", subtitle: str = "", labels: Sequence[str] | None = None
) -> str:
    """Return the HTML page of a decode.

    Args:
        trace: a finished decode. With ``Trace(top_k=5)`` the page shows the alternatives of every position at every step.
        tokenizer: decodes ids into text; None shows ids.
        title: heading and window title.
        subtitle: one line below the title, such as the model and the order.
        labels: names of the samples; numbers if None.

    Returns:
        The HTML document.

    Raises:
        ValueError: an unfinished trace, or another number of labels than rows.
    """
    return recorded_html(trace_data(trace, tokenizer, labels), title, subtitle)


def recorded_html(data: dict[str, Any], title: str, subtitle: str = "") -> str:
    """Return the page that plays recorded runs; ``data`` as in the head of this module."""
    text = "\n\n".join(run["text"] for run in data["runs"])
    start = f'<script id="recorded-code">\n{_part("recorded.js")}\n</script>'
    return _page(title, subtitle, data, text=text, start=start)


def trace_data(
    trace: Trace, tokenizer: Any, labels: Sequence[str] | None = None, rows: Sequence[int] | None = None
) -> dict[str, Any]:
    """Return the data of the page: one run per row of the trace, or for some rows; see the head of this module.

    Raises:
        ValueError: an unfinished trace, or another number of labels than rows.
    """
    if not trace.final:
        raise ValueError("This trace has no finished decode. Record one first: fill_canvas(..., observers=[trace]).")
    chosen = list(range(len(trace.final))) if rows is None else list(rows)
    names = list(labels) if labels is not None else [str(i + 1) for i in chosen]
    if len(names) != len(chosen):
        raise ValueError(f"There are {len(names)} labels for {len(chosen)} rows: give one per row.")
    special = SpecialIds.of(tokenizer) if tokenizer is not None else None
    pieces = Pieces(tokenizer)
    runs = [
        _run(trace, row, name, pieces, special.eos if special else None)
        for row, name in zip(chosen, names, strict=True)
    ]
    mask = None if tokenizer is None else pieces([trace.mask_id])[0]
    return {"version": 1, "mask_token": mask, "runs": runs}


def live_html(title: str = "unmask", subtitle: str = "") -> str:
    """Return the page that asks the service it comes from: ``/v1/models`` and ``/v1/fill``."""
    start = (
        f'<script type="text/plain" id="recorded-code">\n{_part("recorded.js")}\n</script>\n'
        f"<script>\n{_part('live.js')}\n</script>"
    )
    keys = " · <kbd>ctrl</kbd>+<kbd>B</kbd> a blank"
    return _page(title, subtitle, {"runs": []}, form=_part("live_form.html"), start=start, keys=keys, hidden=" hidden")


def _page(title: str, subtitle: str, data: dict[str, Any], text: str = "", **parts: str) -> str:
    content = json.dumps({**data, "stops": STOPS}, ensure_ascii=False, separators=(",", ":"))
    safe = content.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    values = {
        "title": html.escape(title),
        "subtitle": html.escape(subtitle),
        "text": html.escape(text),
        "data": safe,
        "style": _part("page.css"),
        "player": _part("player.js"),
        "share": _part("share.js"),
        "form": "",
        "keys": "",
        "hidden": "",
        **parts,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: values[mark[1]], _part("page.html")) + "\n"


def save_trace_html(path: str | os.PathLike[str], trace: Trace, tokenizer: Any, **options: Any) -> None:
    """Write :func:`trace_html` to a file, atomically."""
    write_text(path, trace_html(trace, tokenizer, **options))


def _run(trace: Trace, row: int, name: str, pieces: Pieces, eos: int | None) -> dict[str, Any]:
    kept = [column for column, real in enumerate(trace.real[row]) if real]
    place = {column: at for at, column in enumerate(kept)}
    final = trace.final[row]
    texts = pieces([final[column] for column in kept])
    events = trace.row_events(row)
    filled = {event.position for event in events}
    tokens, ended = [], False
    for at, column in enumerate(kept):
        given = column not in filled
        tokens.append({"id": final[column], "text": texts[at], "given": given, "after": ended})
        ended = ended or (final[column] == eos and not given)
    steps: list[dict[str, Any]] = [
        {"unmasked": [], "remasked": [], "alternatives": []}
        for _ in range(max((event.step for event in events), default=-1) + 1)
    ]
    for event in events:
        at = place[event.position]
        if event.token == trace.mask_id:
            steps[event.step]["remasked"].append(at)
        else:
            steps[event.step]["unmasked"].append(_token(pieces, event.token, event.probability, at, tokens[at]))
    for top in trace.row_alternatives(row):
        at = place[top.position]
        options = [_token(pieces, i, p, None, tokens[at]) for i, p in zip(top.tokens, top.probabilities, strict=True)]
        steps[top.step]["alternatives"].append({"position": at, "top": options})
    return {"label": name, "text": "".join(texts), "tokens": tokens, "steps": steps}


def _token(pieces: Pieces, token: int, probability: float, at: int | None, final: dict[str, Any]) -> dict[str, Any]:
    """Return one token; the text of the final token depends on its neighbours, that of others is decoded alone."""
    text = final["text"] if token == final["id"] else pieces([token])[0]
    content = {"id": token, "text": text, "probability": round(probability, 6)}
    return content if at is None else {"position": at, **content}
