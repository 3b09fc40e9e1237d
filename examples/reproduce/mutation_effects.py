"""Result 6: masked marginals of a model of aligned homologs predict the measured effects of mutations better than the columns' frequencies do.

    python examples/reproduce/mutation_effects.py --alignment homologs.a3m --mutants mutants.csv

The alignment is an A3M file whose first record is the wild type. The mutants are a table with ProteinGym's columns ``mutant``, ``mutated_sequence`` and ``DMS_score``.
For TEM-1 beta-lactamase (989 mutants of Jacquier et al. 2013) the frequencies reach a Spearman correlation of 0.630. Without files a family and its mutants are made
up.
"""

import random
from pathlib import Path

from reporting import Reproduction, at_least, parser

LETTERS = "ACDEFGHIKLMNPQRSTVWY"


def made_up(folder: Path) -> tuple[Path, Path]:
    """Write a family with conserved and free columns, and mutants whose effect is the conservation of their column."""
    draw = random.Random(0)
    wild = "MSIQHFRVALIPFFAAFCLPVFAHPETLVKVKDAEDQLGARVGYIELDLNSGK"
    free = [draw.random() for _ in wild]
    homologs = [
        "".join(
            draw.choice(LETTERS + "-") if draw.random() < share else letter
            for letter, share in zip(wild, free, strict=True)
        )
        for _ in range(300)
    ]
    mutants = []
    for n, letter in enumerate(wild):
        other = draw.choice(LETTERS.replace(letter, ""))
        mutants.append(f"{letter}{n + 1}{other},{wild[:n]}{other}{wild[n + 1 :]},{free[n]:.3f}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "family.a3m").write_text(
        f">wild\n{wild}\n" + "".join(f">homolog{n}\n{row}\n" for n, row in enumerate(homologs)), encoding="utf-8"
    )
    (folder / "mutants.csv").write_text(
        "mutant,mutated_sequence,DMS_score\n" + "\n".join(mutants) + "\n", encoding="utf-8"
    )
    return folder / "family.a3m", folder / "mutants.csv"


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--alignment", type=Path, help="aligned homologs (A3M); default: a family that is made up")
    options.add_argument("--mutants", type=Path, help="measured mutants; default: made up with the family")
    given = options.parse_args()
    if (given.alignment is None) != (given.mutants is None):
        raise SystemExit("--alignment and --mutants belong together: give both files, or neither.")
    result = Reproduction(6, "Effects of mutations", given)
    if result.size == "full" and given.alignment is None:
        raise SystemExit("The full result needs --alignment HOMOLOGS and --mutants MUTANTS; --quick makes up a family.")
    alignment, mutants = (given.alignment, given.mutants) if given.alignment else made_up(result.runs / "family")
    held_out = 0.02 if given.alignment else 0.1
    store = result.prepare(
        "family", alignment, "--inserts", "drop", "--tokenizer", "characters", "--valid-fraction", held_out
    )
    width, layers = result.pick(full=(128, 4), quick=(64, 2), toy=(32, 1))
    steps, batch = result.pick(full=(1800, 16), quick=(300, 16), toy=(2, 4))
    run = result.train(
        "family", f"data.store={store}", "data.rows=document", "data.block_size=512", "data.identity_weights=0.8", "objective.never_masked=-",
        "objective.rate_min=0.05", "objective.rate_max=0.5", "objective.selection=bernoulli", "objective.weighting=flat", "model.preset=null",
        f"model.d_model={width}", f"model.num_layers={layers}", f"model.nhead={width // 32}", "model.rotary_emb_dim=32", "model.max_length=512", "optim.lr=0.002",
        f"train.batch_size={batch}", f"train.steps={steps}",
    )  # fmt: skip
    scored = result.run("score", "--model", run, "--mutants", mutants, "--seed", result.seed, "--json")
    mark = at_least(0.63, "") if result.size == "full" else None
    published = "0.630 (frequencies of the columns)" if given.mutants else ""
    result.figure(
        "masked marginals, rank correlation with the measurements",
        scored["spearman"],
        "Spearman",
        published=published,
        mark=mark,
    )
    return result.save()


if __name__ == "__main__":
    raise SystemExit(main())
