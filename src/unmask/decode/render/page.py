"""A trace as one self-contained HTML page: style, script and data inline, nothing loaded from anywhere.

The page gets, per row of the batch, its tokens in order; each has the text it ends with and its moments, ``[step, text,
probability, id]``, in the order in which they happened. Token text reaches the page only as JSON with ``<`` escaped, and is
shown only through ``textContent``: no token can become markup.
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
    """The page of a decode.

    Args:
        trace: a finished decode.
        tokenizer: turns ids into text; None shows ids.
        title: heading and window title.
        subtitle: one line under it, such as the model and the order.
        labels: names of the samples; numbers if None.

    Returns:
        The whole HTML document.

    Raises:
        ValueError: the trace is empty, or there is not one label per row.
    """
    if not trace.final:
        raise ValueError(
            "This trace is of no finished decode, so there is nothing to show. Pass it to unmask(observers=[trace]) first."
        )
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
    """Write :func:`trace_html` to a file, whole or not at all."""
    write_text(path, trace_html(trace, tokenizer, **options))


def _row(trace: Trace, row: int, name: str, pieces: Pieces, eos: int | None) -> dict[str, Any]:
    kept = [i for i, real in enumerate(trace.real[row]) if real]
    final = trace.final[row]
    texts = dict(zip(kept, pieces([final[i] for i in kept]), strict=True))
    moments: dict[int, list[list[Any]]] = {}
    for event in trace.row_events(row):
        at = event.position
        if event.token == trace.mask_id:
            text = None
        else:
            text = texts[at] if event.token == final[at] else pieces([event.token])[0]
        moments.setdefault(at, []).append([event.step, text, round(event.probability, 6), event.token])
    ended = False
    tokens = []
    for at in kept:
        tokens.append({"text": texts[at], "id": final[at], "at": at, "moments": moments.get(at, []), "after": ended})
        ended = ended or (final[at] == eos and at in moments)
    steps = max((moment[0] for own in moments.values() for moment in own), default=-1) + 1
    return {"name": name, "steps": steps, "tokens": tokens}
