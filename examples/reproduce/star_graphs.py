"""Result 3: star graphs. A model that fills in any order finds the path; one that writes from left to right guesses the first step.

    python examples/reproduce/star_graphs.py

Both networks have the same size, rows and steps. The masked model fills the surest node first, which is the one beside the goal. Bachmann and Nagarajan
(2403.06963, figure 3) show that next-token prediction stays at 1 / degree.
"""

from reporting import Reproduction, at_least, at_most, parser

OBJECTIVES = {
    "masked": ("objective.selection=bernoulli", "objective.weighting=flat"),
    "autoregressive": ("objective.name=autoregressive",),
}


def main() -> int:
    result = Reproduction(3, "Paths of star graphs", parser(__doc__).parse_args())
    degree, length, nodes = result.pick(full=(2, 5, 10), quick=(2, 5, 10), toy=(2, 3, 6))
    rows, steps, batch = result.pick(full=(300_000, 6000, 64), quick=(200_000, 3000, 64), toy=(70, 2, 4))
    config = result.task("star_graph", rows, f"degree={degree}", f"length={length}", f"nodes={nodes}")
    sizes = (
        "model.d_model=96",
        "model.num_layers=4",
        "model.nhead=3",
        "model.rotary_emb_dim=8",
        "model.kind=learned_positions",
    )
    for name, objective in OBJECTIVES.items():
        run = result.train(
            f"star_graph-{name}", config, *sizes, *objective, f"train.steps={steps}", f"train.batch_size={batch}"
        )
        order = "top_prob" if name == "masked" else "left_to_right"
        scored = result.run(
            "task",
            "star_graph",
            "--score",
            run,
            "--order",
            order,
            "--rows",
            result.pick(full=1000, quick=1000, toy=8),
            "--seed",
            result.seed,
            "--json",
        )
        if name == "masked":
            result.figure(
                f"{degree} arms of {length} nodes, masked, surest first: paths right",
                scored["exact"],
                "%",
                mark=at_least(0.99),
            )
        else:
            published = f"{100 / degree:g}% (1 / degree)"
            mark = at_most(1 / degree + 0.05)
            result.figure(
                f"{degree} arms of {length} nodes, autoregressive: paths right",
                scored["exact"],
                "%",
                published=published,
                mark=mark,
            )
    return result.save()


if __name__ == "__main__":
    raise SystemExit(main())
