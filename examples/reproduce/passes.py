"""Result 7: decoding with a threshold takes fewer forward passes than a fixed number of steps, at equal quality.

    python examples/reproduce/passes.py --text shakespeare.txt

The runs are those of results 2 and 4: sudoku of 6 × 6 cells, and masked diffusion on characters with half of the tokens masked. Full quality is that of the best order
at one position a step. The fewest passes that keep 99% of it are searched over all orders and budgets, with and without a threshold. ``unmask tune`` chooses on one
half of the rows and checks on the other half.
"""

from pathlib import Path
from typing import Any

import objectives
import sudoku_orders
from reporting import Reproduction, parser

SHARE = 0.99


def fewest(report: dict[str, Any], panel: str, knob: str) -> dict[str, Any] | None:
    """Return the setting with the fewest passes among those of one panel and knob that keep the share of full quality."""
    quality = report["quality"]
    greedy = [point for curve in report["curves"] if curve["panel"] == "greedy" for point in curve["points"]]
    full = max(
        point[quality]["value"]
        for point in greedy
        if point["forward_passes"] >= 0.99 * max(p["forward_passes"] for p in greedy)
    )
    points = [
        point
        for curve in report["curves"]
        if curve["panel"] == panel and curve["knob"] == knob
        for point in curve["points"]
    ]
    return min(
        (p for p in points if p[quality]["value"] >= SHARE * full), key=lambda p: p["forward_passes"], default=None
    )


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--text", type=Path, help="as in result 4")
    given = options.parse_args()
    result = Reproduction(7, "Tokens per forward pass at equal quality", given)
    cells = result.pick(full="sudoku6", quick="sudoku6", toy="sudoku4")
    runs = {"sudoku": sudoku_orders.train(result, cells), "characters": objectives.train(result, "masked", given.text)}
    rows = result.pick(full=256, quick=64, toy=4)
    for name, run in runs.items():
        report = result.run(
            "orders",
            run,
            "--rows",
            rows,
            *result.pick(full=(), quick=(), toy=("--steps", "1,100", "--bounds", 1)),
            "--json",
        )
        for words, panel, knob in (("fixed steps", "greedy", "max_steps"), ("threshold", "adaptive", "threshold")):
            best = fewest(report, panel, knob)
            if best is None:
                result.note(f"{name}: no setting with {words} keeps {SHARE:.0%} of full quality.")
            else:
                result.figure(
                    f"{name}, {words}: tokens per forward pass", report["blanks"] / best["forward_passes"], "tokens"
                )
        tuned = result.run("tune", run, "--quality", SHARE, "--rows", rows, "--no-write", "--json")
        check, whole = tuned["chosen"]["check"], tuned["full"]["check"]
        result.figure(
            f"{name}, chosen by unmask tune ({tuned['defaults']}): quality on other rows", check["quality"], "%"
        )
        result.figure(f"{name}, one position a step: quality on the same rows", whole["quality"], "%")
        result.figure(
            f"{name}, chosen by unmask tune: fewer forward passes, times",
            whole["forward_passes"] / check["forward_passes"],
            "×",
        )
    return result.save()


if __name__ == "__main__":
    raise SystemExit(main())
