"""The study of orders (``unmask orders``) on generated sudoku of 6 × 6 cells.

A network of 450,000 parameters is trained on complete grids (a minute or two, once; ``--run``), then solves puzzles with a
unique solution in every order. ``unmask orders RUN`` is the same study on held-out rows of a run.

    python -m benchmarks.order --plot docs/orders.png --json benchmarks/results/order.json
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import harness
from benchmarks.sudoku import asked, config_of, trained
from unmask.cli.screen import counting
from unmask.studies.decoded_rows import DecodedRows
from unmask.studies.order_plot import plot_orders
from unmask.studies.order_study import measure_orders, order_cells
from unmask.tasks.sudoku import Sudoku


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument(
        "--run", type=Path, default=Path("runs/sudoku"), help="folder of the sudoku network: trained there, or found"
    )
    parser.add_argument("--puzzles", type=int, default=1000)
    parser.add_argument("--steps", type=int, nargs="+", help="forward passes; more than blanks = one blank each")
    parser.add_argument(
        "--quick", action="store_true", help="4 × 4 cells, a toy network, few settings: only to see it run"
    )
    parser.add_argument("--plot", type=Path, help="draw it here")
    options = harness.parse(parser)
    sudoku = Sudoku(2, 2) if options.quick else Sudoku(2, 3)
    wrapper = trained(sudoku, options.run, options.quick)
    canvas, solutions, special = asked(sudoku, min(options.puzzles, 40) if options.quick else options.puzzles)
    rows = DecodedRows(wrapper.net, canvas, solutions, special)
    blanks = float(rows.blanks.double().mean())
    report = {
        "task": "sudoku",
        "side": sudoku.side,
        "puzzles": len(solutions),
        "blanks": blanks,
        "training": config_of(sudoku, options.run, options.quick).train.model_dump(include={"steps", "batch_size"}),
        "parameters": sum(p.numel() for p in rows.model.parameters()),
        "title": f"{len(solutions):,} sudoku puzzles of {sudoku.side} × {sudoku.side} cells, {blanks:.0f} of them blank",
        "quality": "whole",
    }
    steps = options.steps or ([1, 4] if options.quick else [1, 2, 4, 8, 16, sudoku.cells])
    with counting("decoding") as told:
        report["curves"] = measure_orders(rows, 2 * sudoku.side, steps, 2 if options.quick else None, told)
    for table in order_cells(report):
        harness.show(*table)
    harness.write(options.json, "order", report)
    if options.plot is not None:
        plot_orders(report, options.plot)


if __name__ == "__main__":
    main()
