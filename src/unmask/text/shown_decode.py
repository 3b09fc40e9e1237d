"""``ShownDecode``: a recorded decode of one text, which a notebook shows as the player of ``unmask.decode.render.page``."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unmask.decode.observers.trace import Trace
from unmask.decode.render.page import recorded_html, trace_data

MOST_ROWS, MOST_BLANKS = 16, 2048  # larger batches are not recorded


@dataclass(frozen=True)
class ShownDecode:
    """One row of a recorded decode.

    Attributes:
        trace: the decode of the batch.
        tokenizer: of the model.
        row: of the batch.
    """

    trace: Trace
    tokenizer: Any
    row: int

    def data(self, label: str = "") -> dict[str, Any]:
        """Return the run of the row, as the page holds it."""
        run: dict[str, Any] = trace_data(self.trace, self.tokenizer, rows=[self.row])["runs"][0]
        return run | {"label": label}


def recorder(rows: Sequence[Sequence[int]], blanks: int, top: int) -> Trace | None:
    """Return an observer that records a batch; None if it has many rows or blanks.

    Args:
        rows: ids of the batch.
        blanks: masked positions of the batch.
        top: alternatives to record at every position; 0 = none, which costs no logits.
    """
    return Trace(top_k=top) if len(rows) <= MOST_ROWS and blanks <= MOST_BLANKS else None


def show_decodes(decodes: Sequence[ShownDecode]) -> str:
    """Return HTML that plays decodes, in a frame of its own: scripts and styles of the notebook do not meet those of the page."""
    labels = [str(n) for n in range(1, len(decodes) + 1)] if len(decodes) > 1 else [""]
    runs = [each.data(label) for each, label in zip(decodes, labels, strict=True)]
    page = html.escape(recorded_html({"version": 1, "runs": runs}, "Unmasking"), quote=True)
    return (
        '<iframe title="Decoding, step by step" sandbox="allow-scripts allow-downloads" loading="lazy" '
        f'style="width:100%;height:36rem;border:0" srcdoc="{page}"></iframe>'
    )
