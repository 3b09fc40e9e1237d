"""Result 4: masked diffusion, BERT, block diffusion and an autoregressive model on one text, at one size and number of steps.

    python examples/reproduce/objectives.py --text shakespeare.txt

The models share tokens, network, optimiser and steps. Bits are measured on the same held-out paragraphs; differences to masked diffusion are paired. The figure of
the autoregressive model is its likelihood, the others are upper bounds. Without ``--text`` the text is the documentation inside Python.
"""

from pathlib import Path

from reporting import Reproduction, parser

OBJECTIVES = {
    "masked": ("masked diffusion", ("objective.name=diffusion",)),
    "bert": ("BERT", ("objective.name=bert",)),
    "blocks-16": ("block diffusion of 16", ("objective.name=block_diffusion", "objective.block_size=16")),
    "blocks-4": ("block diffusion of 4", ("objective.name=block_diffusion", "objective.block_size=4")),
    "autoregressive": ("autoregressive", ("objective.name=autoregressive",)),
}
PUBLISHED = "(perplexity per token on LM1B, 2503.09573)"


def train(result: Reproduction, name: str, text: Path | None) -> Path:
    """Train one of the models, or find it done, and return its run."""
    source = text or result.pick(full="python-docs", quick="python-docs", toy=__file__)
    store = result.prepare(
        "objectives", source, "--tokenizer", "characters", "--unit", "paragraph", "--valid-fraction", 0.1
    )
    width, layers, length = result.pick(full=(128, 4, 256), quick=(64, 3, 128), toy=(32, 1, 32))
    steps, batch = result.pick(full=(2000, 32), quick=(300, 16), toy=(2, 4))
    sizes = (
        f"model.d_model={width}",
        f"model.num_layers={layers}",
        f"model.nhead={width // 32}",
        f"model.max_length={length}",
        "model.rotary_emb_dim=32",
    )
    shared = (
        f"data.store={store}",
        f"data.block_size={length}",
        "model.preset=null",
        *sizes,
        f"train.batch_size={batch}",
        "optim.name=muon",
        "optim.lr=0.003",
    )
    return result.train(f"objectives-{name}", *shared, *OBJECTIVES[name][1], f"train.steps={steps}")


def main() -> int:
    options = parser(__doc__)
    options.add_argument(
        "--text", type=Path, help="a text file, one document a paragraph; default: the text of the demonstration"
    )
    given = options.parse_args()
    result = Reproduction(4, "Objectives at the same size, text and steps", given)
    runs = [train(result, name, given.text) for name in OBJECTIVES]
    documents = result.pick(full=(), quick=("--documents", 100), toy=("--documents", 4))
    compared = result.run("compare", *runs, "--per", "token", *documents, "--seed", result.seed, "--json")
    published = {
        "masked": f"31.78 {PUBLISHED}",
        "blocks-4": f"28.23 {PUBLISHED}",
        "autoregressive": f"22.83 {PUBLISHED}",
    }
    for (name, (words, _)), entry in zip(OBJECTIVES.items(), compared["entries"], strict=True):
        bound = "" if name == "autoregressive" else ", at most"
        result.figure(f"{words}{bound}", entry["bits"], "bits per character", published=published.get(name, ""))
        if entry["difference"] is not None:
            result.figure(f"{words}, less masked diffusion", entry["difference"], "bits per character")
    return result.save()


if __name__ == "__main__":
    raise SystemExit(main())
