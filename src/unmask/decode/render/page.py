"""A trace as one self-contained HTML page, with style, script and data inline.

Per row of the batch, the page contains the tokens in order; each has its final text and its events ``[step, text,
probability, id]``, in order. Token text is embedded as JSON with ``<`` escaped and shown through ``textContent`` only, so that
no token can become markup.
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
def _template() -> str:
    return files("unmask.decode.render").joinpath("page.html").read_text(encoding="utf-8")


def trace_html(
    trace: Trace, tokenizer: Any, title: str = "Unmasking", subtitle: str = "", labels: Sequence[str] | None = None
) -> str:
    """Return the HTML page of a decode.

    Args:
        trace: a finished decode.
        tokenizer: decodes ids into text; None shows ids.
        title: heading and window title.
        subtitle: one line below the title, such as the model and the order.
        labels: names of the samples; numbers if None.

    Returns:
        The HTML document.

    Raises:
        ValueError: an unfinished trace, or another number of labels than rows.
    """
    if not trace.final:
        raise ValueError("This trace has no finished decode. Record one first: fill_canvas(..., observers=[trace]).")
    names = list(labels) if labels is not None else [str(i + 1) for i in range(len(trace.final))]
    if len(names) != len(trace.final):
        raise ValueError(f"There are {len(names)} labels for {len(trace.final)} rows: give one per row.")
    eos = SpecialIds.of(tokenizer).eos if tokenizer is not None else None
    rows = [_row(trace, row, name, Pieces(tokenizer), eos) for row, name in enumerate(names)]
    data = json.dumps({"rows": rows, "stops": STOPS}, ensure_ascii=False, separators=(",", ":"))
    safe = data.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    text = "\n\n".join("".join(token["text"] for token in row["tokens"]) for row in rows)
    parts = {"title": html.escape(title), "subtitle": html.escape(subtitle), "text": html.escape(text), "data": safe}
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], _template())


def save_trace_html(path: str | os.PathLike[str], trace: Trace, tokenizer: Any, **options: Any) -> None:
    """Write :func:`trace_html` to a file, atomically."""
    write_text(path, trace_html(trace, tokenizer, **options))


def _row(trace: Trace, row: int, name: str, pieces: Pieces, eos: int | None) -> dict[str, Any]:
    kept = [i for i, real in enumerate(trace.real[row]) if real]
    final = trace.final[row]
    texts = dict(zip(kept, pieces([final[i] for i in kept]), strict=True))
    moments: dict[int, list[list[Any]]] = {}
    for event in trace.row_events(row):
        column = event.position
        if event.token == trace.mask_id:
            text = None
        else:
            text = texts[column] if event.token == final[column] else pieces([event.token])[0]
        moments.setdefault(column, []).append([event.step, text, round(event.probability, 6), event.token])
    ended = False
    tokens = []
    for at in kept:
        tokens.append({"text": texts[at], "id": final[at], "at": at, "moments": moments.get(at, []), "after": ended})
        ended = ended or (final[at] == eos and at in moments)
    steps = max((moment[0] for own in moments.values() for moment in own), default=-1) + 1
    return {"name": name, "steps": steps, "tokens": tokens}
