"""Result 8: with more steps than masked positions, remasking (ReMDM, 2503.00307) corrects tokens that were placed wrongly.

    python examples/reproduce/remasking.py

The run is that of result 2, sudoku of 6 × 6 cells, decoded in random order. Without remasking a row takes no more passes than it has blanks, so further steps change nothing.
With it (ReMDM-cap and ReMDM-conf) wrong cells may be masked and placed again.
"""

import sudoku_orders
from reporting import Reproduction, parser

STRATEGIES = {"cap": "remasking at random (cap)", "confidence": "remasking of unlikely cells (conf)"}


def main() -> int:
    result = Reproduction(8, "Remasking at many steps", parser(__doc__).parse_args())
    task = result.pick(full="sudoku6", quick="sudoku6", toy="sudoku4")
    run = sudoku_orders.train(result, task)
    rows = result.pick(full=1000, quick=200, toy=8)
    steps = result.pick(full=(32, 64, 128, 256), quick=(32, 128), toy=(16,))
    shared = ("task", task, "--score", run, "--order", "random", "--rows", rows, "--seed", result.seed, "--json")
    plain = result.run(*shared)["exact"]
    result.figure("no remasking, one cell a step: puzzles solved", plain, "%")
    better = ("above no remasking", lambda value: value > plain["high"])
    for name, words in STRATEGIES.items():
        for most in steps:
            scored = result.run(
                *shared, "--steps", most, "--remask", name, "--remask-rate", result.pick(full=0.1, quick=0.1, toy=0.1)
            )
            mark = better if most == steps[-1] and name == "confidence" else None
            result.figure(f"{words}, {most} steps: puzzles solved", scored["exact"], "%", mark=mark)
    return result.save()


if __name__ == "__main__":
    raise SystemExit(main())
