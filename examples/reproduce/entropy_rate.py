"""Result 1: on texts of a Markov chain, the likelihood bound of a trained model comes within 1% of the entropy.

    python examples/reproduce/entropy_rate.py

The probability of every text is known exactly, so the excess of the bound over it is measured text by text.
"""

from reporting import Reproduction, at_most, parser


def main() -> int:
    result = Reproduction(1, "Entropy of Markov chains", parser(__doc__).parse_args())
    states, length, rows = result.pick(full=(8, 64, 100_000), quick=(4, 32, 30_000), toy=(3, 8, 70))
    settings = (f"states={states}", f"length={length}")
    config = result.task("markov_chain", rows, *settings)
    small = ("model.d_model=64", "model.num_layers=2", "model.nhead=2", "model.rotary_emb_dim=16")
    steps, batch = result.pick(full=(6000, 64), quick=(1500, 64), toy=(2, 4))
    run = result.train(
        "markov_chain", config, *small, f"train.steps={steps}", f"train.batch_size={batch}", "optim.lr=0.003"
    )
    chosen = [word for setting in settings for word in ("--set", setting)]
    scored = result.run(
        "task", "markov_chain", *chosen, "--score", run, "--rows", result.pick(full=1000, quick=1000, toy=8), "--json"
    )
    exact = scored["exact_bits_per_token"]["value"]
    result.figure("bound of the model", scored["bits_per_token"], "bits per token")
    result.figure("exact entropy of the same texts", scored["exact_bits_per_token"], "bits per token")
    excess = {key: value / exact for key, value in scored["excess_bits_per_token"].items() if value is not None}
    result.figure(f"excess of the bound, {states} states, texts of {length}", excess, "%", mark=at_most(0.01))
    return result.save()


if __name__ == "__main__":
    raise SystemExit(main())
