"""Growth of cost with documents, shards and blanks, beside the limit of each.

    python -m benchmarks.growth [--turns 5] [--plot docs/growth.png] [--json growth.json]

    documents   open a store of n documents, list its windows, and make one batch     proportional, since lengths are summed
    shards      the same with the same documents in n shards                          proportional
    blanks      fill n blanks of a row of 256 tokens, one a forward pass              proportional

The exponent is that of ``benchmarks.scaling``: the slope through the three largest points.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import decode, harness, loader
from benchmarks.scaling import exponent, plot, rows_of
from unmask.data.store.token_store import TokenStore
from unmask.decode.canvas import Canvas
from unmask.decode.loop import fill_canvas
from unmask.decode.named import make_rules
from unmask.measure.report_table import Row
from unmask.measure.turns import take_turns

AXES: dict[str, tuple[int, ...]] = {
    "documents": (1_000, 2_000, 4_000, 8_000, 16_000),
    "shards": (1, 4, 16, 64, 256),
    "blanks": (4, 8, 16, 32, 64),
}
TOKENS_A_DOCUMENT, DOCUMENTS, LENGTH = 665, 4_000, 256


def opened(folder: Path, documents: int, shards: int) -> Callable[[], object]:
    """A call that opens a store and makes its first batch."""
    folder.mkdir()
    loader.synthetic_store(folder, documents * TOKENS_A_DOCUMENT, shards=shards)
    return lambda: next(iter(loader.batches(TokenStore.open(folder), 8, 512)))


def filled(blanks: int, length: int = LENGTH) -> Callable[[], object]:
    """A call that fills a row's blanks one at a time."""
    ids = torch.randint(2, decode.VOCAB, (1, length), generator=torch.Generator().manual_seed(0))
    ids[0, torch.arange(blanks) * length // blanks] = decode.SPECIAL.mask
    canvas = Canvas.infill(ids, decode.SPECIAL)
    model, rules = decode.network(), make_rules(blanks, special=decode.SPECIAL, order="top_prob", temperature=0.0)
    return lambda: fill_canvas(model, canvas, rules, special=decode.SPECIAL, seed=0)


def measure(turns: int, axes: dict[str, tuple[int, ...]] | None = None) -> dict[str, Any]:
    """Per axis: values, median seconds, the exponent and its limit."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        make: dict[str, Callable[[int], Callable[[], object]]] = {
            "documents": lambda n: opened(Path(folder) / f"documents-{n}", n, 1),
            "shards": lambda n: opened(Path(folder) / f"shards-{n}", DOCUMENTS, n),
            "blanks": filled,
        }
        for axis, values in (axes or AXES).items():
            timings = take_turns({str(n): make[axis](n) for n in values}, turns)
            seconds = [timings[str(n)].median for n in values]
            found[axis] = {
                "values": list(values),
                "seconds": seconds,
                "exponent": exponent(values, seconds),
                "law": 1.0,
            }
    return found


def section(turns: int, picture: Path | None = None) -> tuple[list[Row], dict[str, Any]]:
    """Rows and figures, and the plot."""
    found = harness.in_fresh_process(measure, turns)
    if picture is not None:
        plot(found, picture, "seconds")
    return rows_of(found), {"axes": found}


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--plot", type=Path, help="draw it here")
    options = harness.parse(parser)
    rows, report = section(options.turns, options.plot)
    harness.show_rows("growth of cost", rows)
    harness.write(options.json, "growth", {**report, "rows": [row.as_dict() for row in rows]})


if __name__ == "__main__":
    main()
