"""The effects of mutations for ``unmask score --mutants``: the file of mutants, the wild type, the table and the heat map."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from unmask.evaluate.mutations import MutationEffects

Mutants = Annotated[
    Path | None,
    typer.Option(
        "--mutants",
        help="Table of protein mutants in the columns of ProteinGym: mutant (M1A:K2C) and, if measured, DMS_score. Scores are masked marginals.",
    ),
]
WildType = Annotated[
    str | None,
    typer.Option(
        "--wild-type",
        help="Sequence that --mutants changes, or a FASTA or A3M file that begins with it; by default restored from the column mutated_sequence.",
    ),
]
HeatMap = Annotated[
    Path | None,
    typer.Option("--heat-map", help="With --mutants: picture (.png) of the effects of all single mutations."),
]


def score_mutants(
    network: Any, tokenizer: Any, mutants: Path, wild_type: str | None, heat_map: Path | None, seed: int, as_json: bool
) -> None:
    """Score the mutants of a file, and correlate the scores with the measurements.

    Raises:
        ValueError: no mutants, no wild type, or a mutant of another sequence.
    """
    from unmask.cli.screen import counting, print_json, show, table
    from unmask.evaluate.mutations import mutation_effects, spearman

    rows = read_mutants(mutants)
    sequence = _sequence(wild_type) if wild_type is not None else _restored(rows, mutants)
    with counting("scoring") as progress:
        effects = mutation_effects(network, tokenizer, sequence, progress=progress)
    scores = [effects.of(row["mutant"]) for row in rows]
    pairs = [(s, float(row["DMS_score"])) for s, row in zip(scores, rows, strict=True) if row.get("DMS_score")]
    correlation = None
    if len(pairs) >= 3:
        correlation = spearman([s for s, _ in pairs], [measured for _, measured in pairs], seed=seed)
    if heat_map is not None:
        plot_effects(effects, heat_map)
    if as_json:
        print_json(
            {
                "score": "masked marginals",
                "wild_type": sequence,
                "spearman": None if correlation is None else correlation.as_dict(),
                "measured": len(pairs),
                "rows": [{"mutant": row["mutant"], "score": s} for row, s in zip(rows, scores, strict=True)],
            }
        )
        return
    shown = [
        [row["mutant"], f"{s:.3f}", row.get("DMS_score") or "-"]
        for s, row in sorted(zip(scores, rows, strict=True), key=lambda each: each[0])
    ]
    table("masked marginals, nats (higher = more like the family)", ["mutant", "score", "measured"], shown)
    if correlation is not None:
        low, high = correlation.low, correlation.high
        show(f"Spearman {correlation.value:.3f} (95% {low:.3f} to {high:.3f}) over {len(pairs):,} measured mutants")
    if heat_map is not None:
        show(f"Heat map: {heat_map}")


def read_mutants(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a table of mutants.

    Raises:
        ValueError: no table, or none with a column ``mutant``.
    """
    from unmask.data.corpus.formats import FORMATS, ReadOptions, format_of
    from unmask.data.corpus.text_stream import Input

    kind = format_of(path)
    wanted = "Give a table (.csv, .tsv) with the columns mutant and DMS_score, as ProteinGym has them."
    if kind not in ("csv", "tsv"):
        raise ValueError(f"--mutants {path} is no table of mutants. {wanted}")
    options = ReadOptions("mutant", row=lambda cells, _: json.dumps(dict(cells)))
    rows = [json.loads(document.text) for document in FORMATS[kind].documents(Input.of(path), options)]
    if not rows or any(not row.get("mutant") for row in rows):
        columns = ", ".join(rows[0]) if rows else "no rows"
        raise ValueError(f"--mutants {path} has {columns}, and every row needs a mutant. {wanted}")
    return rows


def _sequence(wild_type: str) -> str:
    """Return a sequence as it is written, or the first record of a file."""
    from unmask.data.corpus.formats import FORMATS, ReadOptions, format_of
    from unmask.data.corpus.text_stream import Input

    path = Path(wild_type)
    if wild_type.isalpha() and wild_type.isupper() and not path.is_file():
        return wild_type
    if not path.is_file():
        raise ValueError(f"--wild-type {wild_type!r} is neither a sequence in capital letters nor a FASTA or A3M file.")
    kind = format_of(path)
    if kind not in ("fasta", "a3m"):
        raise ValueError(f"--wild-type {path} is no FASTA or A3M file. Give one, or the sequence itself.")
    record = next(iter(FORMATS[kind].documents(Input.of(path), ReadOptions(inserts="drop"))))
    return record.text.replace("-", "").upper()


def _restored(rows: list[dict[str, Any]], path: Path) -> str:
    """Return the wild type: the sequence of the first mutant with its old residues put back."""
    sequence = list(rows[0].get("mutated_sequence") or "")
    if not sequence:
        raise ValueError(
            f"--mutants {path} has no column mutated_sequence, from which the wild type follows. Give it: --wild-type SEQUENCE."
        )
    for mutation in rows[0]["mutant"].split(":"):
        if not mutation[1:-1].isdigit() or not 1 <= int(mutation[1:-1]) <= len(sequence):
            raise ValueError(
                f"--mutants {path}: the mutant {mutation!r} is not of the form M1A within its mutated_sequence."
            )
        sequence[int(mutation[1:-1]) - 1] = mutation[0]
    return "".join(sequence)


def plot_effects(effects: MutationEffects, picture: Path) -> None:
    """Draw the effects of all single mutations: residues against positions.

    Args:
        effects: the effects.
        picture: the PNG file to write.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from unmask.evaluate.mutations import RESIDUES
    from unmask.storage import atomic_file

    values = effects.single.T
    limit = float(np.nanquantile(np.abs(values), 0.98)) or 1.0
    figure = Figure(figsize=(max(6.0, len(effects.wild_type) / 12), 4.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(values, aspect="auto", cmap="RdBu", vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set_yticks(range(len(RESIDUES)), list(RESIDUES), fontsize=7)
    ticks = range(0, len(effects.wild_type), max(1, len(effects.wild_type) // 20))
    axes.set_xticks(ticks, [str(tick + 1) for tick in ticks], fontsize=7)
    axes.set_xlabel("position")
    axes.set_ylabel("new residue")
    figure.colorbar(image, ax=axes, label="log p(new) - log p(wild type), nats")
    with atomic_file(picture) as temporary:
        figure.savefig(temporary, format="png")
