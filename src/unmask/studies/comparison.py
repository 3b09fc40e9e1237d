"""``compare_runs``: runs beside each other on the same documents and masks, as paired differences.

A folder with ``runs.json`` (``unmask train --seeds``) is one entry with several seeds. Differences are paired over documents, and over seeds where
two entries have the same ones. Holm's correction of their p-values is that of statsmodels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmask.data.corpus.sources import Source
from unmask.evaluate.paired import CrossedMean, crossed_difference, crossed_mean
from unmask.storage import read_json
from unmask.studies.measured_run import MeasuredRun, measure_run
from unmask.suggestions import nearest
from unmask.text.answer_matching import Stages
from unmask.text.loading import load

UNITS = ("byte", "word", "token")
INSTALL = (
    "The p-values are not corrected for several comparisons: pip install 'unmask[compare]' adds Holm's correction."
)


@dataclass(frozen=True)
class Entry:
    """A line of a comparison.

    Attributes:
        name: its name.
        runs: a measurement per seed.
        seeds: their seeds; empty for a run that is given by itself.
    """

    name: str
    runs: Sequence[MeasuredRun]
    seeds: tuple[int, ...] = ()

    @property
    def bits(self) -> NDArray[np.float64]:
        """Bits of each document, averaged over passes, float64 ``[S, D]``."""
        return np.stack([each.bound.nats.mean(0) for each in self.runs]) / math.log(2)


def compare_runs(
    runs: Sequence[str | Path],
    data: str | Path | Source | None = None,
    *,
    baseline: str | None = None,
    per: str | None = None,
    samples: int = 4,
    documents: int | None = None,
    seed: int = 0,
    checkpoint: str = "last",
    device: str = "auto",
    dtype: str = "auto",
    save: Path | None = None,
    stages: Stages | None = None,
) -> dict[str, Any]:
    """Compare runs by their likelihood bound on the same documents with the same masks.

    Args:
        runs: runs, exports, folders with ``runs.json``, or saved measurements (``.npz``); two or more.
        data: text to evaluate on, as for ``unmask evaluate``; None = the validation split of each run.

    Other Parameters:
        baseline: name of the entry that others are compared with; None = the first.
        per: unit: ``"byte"``, ``"word"`` or ``"token"``; None = bytes if they are known, else tokens.
        samples: passes over the documents, each with other masks.
        documents: number of documents; None = all.
        seed: random seed of the masks.
        checkpoint: checkpoint of each run: ``"last"`` or ``"best"``.
        device: device of the networks.
        dtype: dtype of their weights.
        save: folder for the measurements, as ``.npz`` files that take the place of a run; None = do not save.
        stages: progress, per stage; None = silent.

    Returns:
        A JSON object: ``unit``, ``baseline``, ``correction`` and ``entries``, each with its bits per unit and its difference to the baseline.

    Raises:
        ValueError: fewer than two runs, or runs with other documents, tokenizers (per token) or masks.

    Examples:
        >>> import unmask
        >>> unmask.compare_runs(["runs/a"])
        Traceback (most recent call last):
        ValueError: A comparison needs two runs or more, and 1 was given: unmask compare runs/a runs/b.
    """
    if len(runs) < 2:
        raise ValueError(
            f"A comparison needs two runs or more, and {len(runs)} was given: unmask compare runs/a runs/b."
        )
    names = entry_names(runs)
    if baseline is not None and baseline not in names:
        raise ValueError(
            f"There is no entry {baseline!r} for --baseline.{nearest(baseline, names)} Choose one of {', '.join(names)}."
        )
    if per is not None and per not in UNITS:
        raise ValueError(f"--per {per} is none of {', '.join(UNITS)}: choose one of them.")

    def measured(path: Path) -> MeasuredRun:
        if path.suffix == ".npz":
            return MeasuredRun.load(path)
        trained = load(path, checkpoint, device, dtype)
        return measure_run(
            trained,
            data,
            samples=samples,
            documents=documents,
            seed=seed,
            stages=stages or (lambda title: nullcontext(lambda done, total: None)),
        )

    entries = []
    for name, path in zip(names, map(Path, runs), strict=True):
        index = path / "runs.json"
        listed = read_json(index)["runs"] if index.is_file() else []
        if listed:
            seeds = tuple(int(each["seed"]) for each in listed)
            entry = Entry(name, [measured(path / each["run"]) for each in listed], seeds)
        else:
            entry = Entry(name, [measured(path)])
        entries.append(entry)
        for number, run in enumerate(entry.runs):
            if save is not None:
                run.save(save / f"{name}{f'-{entry.seeds[number]}' if entry.seeds else ''}.npz")
    return comparison(entries, baseline, per)


def entry_names(runs: Sequence[str | Path]) -> list[str]:
    """Return the names of entries: the last parts of their paths, with as many as tell them apart.

    Examples:
        >>> entry_names(["runs/a/big", "runs/b/big", "small"])
        ['a-big', 'b-big', 'small']
    """
    parts = [(*Path(run).parts[:-1], Path(run).stem if Path(run).suffix == ".npz" else Path(run).name) for run in runs]
    names = ["-".join(each[-1:]) for each in parts]
    for length in range(2, max(map(len, parts)) + 1):
        names = [
            "-".join(p for p in each[-length:] if p != "/") if names.count(name) > 1 else name
            for each, name in zip(parts, names, strict=True)
        ]
    return [f"{name} ({names[:i].count(name) + 1})" if name in names[:i] else name for i, name in enumerate(names)]


def comparison(entries: Sequence[Entry], baseline: str | None = None, per: str | None = None) -> dict[str, Any]:
    """Compare measured entries; arguments, result and errors are those of :func:`compare_runs`."""
    check_comparable(entries, per)
    first = entries[0].runs[0].bound
    exact = np.ones(len(first.tokens), dtype=bool)
    for each in (run.bound.exact for entry in entries for run in entry.runs):
        exact &= True if each is None else each
    one_tokenizer = len({run.tokenizer for entry in entries for run in entry.runs}) == 1
    if per is None:
        per = "byte" if first.bytes[exact].any() or not one_tokenizer else "token"
    counts = {"byte": first.bytes, "word": first.words, "token": first.tokens}[per]
    used = exact if per != "token" else np.ones_like(exact)
    if not counts[used].any():
        raise ValueError(
            f"Bits per {per} are unknown for these documents: their texts are not known, or the tokens spell other texts. Compare bits "
            "per token between runs of one tokenizer: --per token."
        )
    units = counts[used]
    base = entries[0] if baseline is None else next(entry for entry in entries if entry.name == baseline)
    lines: list[dict[str, Any]] = []
    differences: list[CrossedMean | None] = []
    for entry in entries:
        bits = entry.bits[:, used]
        same_seeds = entry.seeds == base.seeds
        difference = None
        if entry is not base:
            difference = crossed_difference(bits, base.bits[:, used], units, same_seeds)
        differences.append(difference)
        lines.append(
            {
                "name": entry.name,
                "runs": [run.run for run in entry.runs],
                "seeds": list(entry.seeds),
                "bits": crossed_mean(bits, units).estimate.as_dict(),
                "difference": None if difference is None else difference.estimate.as_dict(),
                "paired_seeds": None if difference is None else same_seeds and len(entry.seeds) > 1,
            }
        )
    values = [math.nan if each is None else each.p_value for each in differences]
    corrected = holm(values)
    for line, p, new in zip(lines, values, corrected or values, strict=True):
        line["p_value"] = None if math.isnan(p) else p
        line["p_corrected"] = None if corrected is None or math.isnan(new) else new
    return {
        "unit": per,
        "documents": int((units > 0).sum()),
        "samples": entries[0].runs[0].noise[1],
        "seed": entries[0].runs[0].noise[0],
        "baseline": base.name,
        "correction": None if corrected is None else "holm",
        "note": INSTALL if corrected is None else None,
        "entries": lines,
    }


def holm(values: Sequence[float]) -> list[float] | None:
    """Return p-values corrected by Holm's method through statsmodels; None if it is not installed. NaN stays NaN."""
    try:
        from statsmodels.stats.multitest import multipletests
    except ImportError:
        return None
    known = [i for i, p in enumerate(values) if not math.isnan(p)]
    corrected = [math.nan] * len(values)
    if known:
        for i, p in zip(known, multipletests([values[i] for i in known], method="holm")[1], strict=True):
            corrected[i] = float(p)
    return corrected


def check_comparable(entries: Sequence[Entry], per: str | None = None) -> None:
    """Check that all runs have the same documents and masks, and for bits per token the same tokenizer.

    Args:
        entries: the measured entries.
        per: the unit, or None.

    Raises:
        ValueError: they differ; the message names the two runs and a remedy.
    """
    first, *others = [run for entry in entries for run in entry.runs]
    for run in others:
        pair = f"{first.run} and {run.run}"
        if run.noise != first.noise:
            raise ValueError(
                f"{pair} were measured with other masks (seed {first.noise[0]} with {first.noise[1]} passes, seed {run.noise[0]} with "
                f"{run.noise[1]} passes), and differences would include that noise. Measure both with the same --seed and --samples."
            )
        same_tokenizer = run.tokenizer == first.tokenizer
        if not same_tokenizer and per == "token":
            raise ValueError(
                f"{pair} have other tokenizers ({first.tokenizer[:12]}, {run.tokenizer[:12]}), so their tokens are other pieces of text. "
                "Compare bits per byte (--per byte), or train both with one data.tokenizer."
            )
        if run.ids != first.ids if same_tokenizer else not _same_texts(first, run):
            raise ValueError(
                f"{pair} were measured on other documents: {len(first.texts):,} (digest {first.ids[:12]}) and {len(run.texts):,} (digest "
                f"{run.ids[:12]}). Train both on one prepared store (data.store=…), or name a text for both: --data FILE."
            )


def _same_texts(one: MeasuredRun, other: MeasuredRun) -> bool:
    """Tell whether two tokenizers wrote the same documents: sizes of all, texts of those that both spell exactly."""
    a, b = one.bound, other.bound
    if len(a.bytes) != len(b.bytes) or (a.bytes != b.bytes).any() or (a.words != b.words).any():
        return False
    both = np.ones(len(a.bytes), dtype=bool)
    for bound in (a, b):
        both &= True if bound.exact is None else bound.exact
    return bool((one.texts[both] == other.texts[both]).all())
