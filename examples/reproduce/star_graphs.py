"""Result 3: star graphs. A model that fills in any order finds the path; one that writes from left to right guesses the first step.

    python examples/reproduce/star_graphs.py

Both networks have the same size, rows and steps: two layers, of which the first starts with heads at the neighbouring positions, and the second is free to look up an
edge. The masked model fills the surest node first, which is the one before the goal. Bachmann and Nagarajan (2403.06963) show that next-token prediction stays at
1 / degree.
"""

from reporting import Reproduction, at_least, at_most, parser

OBJECTIVES = {
    "masked": ("objective.selection=bernoulli", "objective.weighting=flat"),
    "autoregressive": ("objective.name=autoregressive",),
}
SIZES = (
    "model.d_model=64",
    "model.num_layers=2",
    "model.nhead=4",
    "model.rotary_emb_dim=8",
    "model.local_init_layers=1",
)
NODES = 10


def main() -> int:
    result = Reproduction(3, "Paths of star graphs", parser(__doc__).parse_args())
    stars = result.pick(full=((2, 5), (3, 4)), quick=((2, 5),), toy=((2, 3),))
    rows, steps, batch = result.pick(full=(300_000, 10_000, 64), quick=(100_000, 3500, 64), toy=(70, 2, 4))
    training = (f"train.steps={steps}", f"train.batch_size={batch}", "optim.lr=0.005", "train.evaluate_every=1000")
    for degree, length in stars:
        name = f"star-{degree}-{length}"
        settings = (f"degree={degree}", f"length={length}", f"nodes={NODES}")
        config = result.task("star_graph", rows, *settings, folder=name)
        runs = {
            each: result.train(f"{name}-{each}", config, *SIZES, *own, *training) for each, own in OBJECTIVES.items()
        }
        shared = ("--rows", result.pick(full=1000, quick=1000, toy=8), "--seed", result.seed, "--json")
        star = f"{degree} arms of {length} nodes"
        scored = result.run("task", "star_graph", "--score", runs["masked"], "--order", "top_prob", *shared)
        result.figure(f"{star}, masked, surest first: paths right", scored["exact"], "%", mark=at_least(0.99))
        scored = result.run(
            "task", "star_graph", "--score", runs["autoregressive"], "--order", "left_to_right", *shared
        )
        chance = f"{100 / degree:.3g}% (1 / degree)"
        result.figure(
            f"{star}, autoregressive: paths right", scored["exact"], "%", published=chance, mark=at_most(round(1 / degree + 0.05, 2))
        )  # fmt: skip
    return result.save()


if __name__ == "__main__":
    raise SystemExit(main())
