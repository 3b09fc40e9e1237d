"""Result 2: the order of decoding decides whether a masked model solves sudoku.

    python examples/reproduce/sudoku_orders.py
    python examples/reproduce/sudoku_orders.py --puzzles sudoku17.csv.xz

One network of each size is decoded twice, one cell a step: cells in random order, and the cell with the largest margin between its two likeliest digits first.
Kim et al. (2502.06768) solve 6.88% of hard 9 × 9 puzzles in random order and 89.49% by margin. ``--puzzles`` takes 9 × 9 puzzles from a table with the columns
``puzzle`` and ``solution``; without it they are generated with 36 clues.
"""

from pathlib import Path

from reporting import Mark, Reproduction, at_least, at_most, parser

# Puzzles, width, layers, steps, rows of a step, and what is expected of random and of adaptive order.
Size = tuple[int, int, int, int, int, Mark | None, Mark | None]
SIZES: dict[str, dict[str, Size]] = {
    "full": {
        "sudoku4": (4000, 64, 3, 1500, 64, None, at_least(0.99)),
        "sudoku6": (6000, 96, 4, 2000, 96, at_most(0.7), at_least(0.95)),
        "sudoku9": (10_000, 128, 6, 6000, 64, None, None),
    },
    "quick": {
        "sudoku4": (1500, 64, 3, 500, 64, None, at_least(0.9)),
        "sudoku6": (3000, 96, 4, 500, 96, at_most(0.7), at_least(0.85)),
    },
    "toy": {"sudoku4": (70, 32, 1, 2, 4, None, None)},
}


def train(result: Reproduction, name: str, puzzles: Path | None = None) -> Path:
    """Train the network of a size, or find it done, and return its run."""
    rows, width, layers, steps, batch, *_ = SIZES[result.size][name]
    settings = ("clues=36",) if name == "sudoku9" and puzzles is None else ()
    config = result.task(name, rows, *settings, source=puzzles if name == "sudoku9" else None)
    sizes = (
        f"model.d_model={width}",
        f"model.num_layers={layers}",
        f"model.nhead={width // 32}",
        "model.rotary_emb_dim=8",
    )
    return result.train(name, config, *sizes, f"train.steps={steps}", f"train.batch_size={batch}")


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--puzzles", type=Path, help="published 9 × 9 puzzles; default: generated ones with 36 clues")
    given = options.parse_args()
    result = Reproduction(2, "Sudoku in random and in adaptive order", given)
    for name, (*_, random, adaptive) in SIZES[result.size].items():
        run = train(result, name, given.puzzles)
        rows = result.pick(full=1000, quick=200, toy=8)
        size = f"{name[-1]} × {name[-1]}"
        for order, words, mark in (("random", "random order", random), ("prob_diff", "largest margin first", adaptive)):
            scored = result.run(
                "task", name, "--score", run, "--order", order, "--rows", rows, "--seed", result.seed, "--json"
            )
            published = (
                {"random": "6.88% (hard puzzles)", "prob_diff": "89.49% (hard puzzles)"}[order]
                if name == "sudoku9"
                else ""
            )
            result.figure(f"{size}, {words}: puzzles solved", scored["exact"], "%", published=published, mark=mark)
    return result.save()


if __name__ == "__main__":
    raise SystemExit(main())
