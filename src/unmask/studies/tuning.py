"""``tune_run``: the order, threshold and steps that keep a share of full-step quality with the fewest forward passes.

Options are chosen on one half of the held-out rows and measured again on the other half, because the best of many looks better than it is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from unmask.decode.families import ORDERS
from unmask.studies.decoded_rows import rows_of_run
from unmask.studies.order_study import budgets
from unmask.text.generation_defaults import GenerationDefaults

THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
CONFIDENT = ("top_prob", "prob_diff", "entropy")


def tune_run(
    run: str | Path,
    quality: float = 0.99,
    *,
    rows: int = 64,
    device: str = "auto",
    dtype: str = "auto",
    checkpoint: str = "last",
    write: bool = True,
    told: Callable[[int, int | None], None] | None = None,
) -> dict[str, Any]:
    """Find the decoding options that keep a share of full-step quality with the fewest forward passes.

    Args:
        run: a run of text, or of prompts with answers.
        quality: share of the quality of the best order at one position per step, above 0 and at most 1.

    Other Parameters:
        rows: held-out rows to choose on; as many others check the choice.
        device: device of the network.
        dtype: dtype of its weights.
        checkpoint: ``"last"`` or ``"best"``.
        write: write the options to ``generation.json`` of the run, where ``unmask fill``, ``generate`` and ``serve`` read them.
        told: callback ``(settings done, all settings)``.

    Returns:
        A JSON object: the chosen options, the full-step ones, and what both measured on the rows of the choice and on the others.

    Raises:
        ValueError: a share outside (0, 1], fewer than two held-out rows, or something else than a run.

    Examples:
        >>> import unmask
        >>> unmask.tune_run("runs/demo", quality=1.5)
        Traceback (most recent call last):
        ValueError: quality=1.5 is a share of full-step quality: choose a number above 0, at most 1.
    """
    if not 0 < quality <= 1:
        raise ValueError(f"quality={quality} is a share of full-step quality: choose a number above 0, at most 1.")
    if rows < 1:
        raise ValueError(f"rows={rows} leaves nothing to decode: choose 1 or more.")
    chosen_rows, about = rows_of_run(run, 2 * rows, device, dtype, checkpoint)
    folder = Path(about["model"]).parent.parent
    if not (folder / "config.yaml").is_file():
        raise ValueError(f"{run} is no run, so there is no place for its generation defaults. Give a run folder.")
    count = len(chosen_rows.answer)
    if count < 2:
        raise ValueError(f"{run} has {count} held-out row, and one half chooses while the other checks: prepare more.")
    choosing, checking = chosen_rows.part(0, (count + 1) // 2), chosen_rows.part((count + 1) // 2, count)
    measure, most = about["quality"], int(chosen_rows.blanks.max())
    names = [name for name in ORDERS if name != "drawn_prob"]
    settings: list[dict[str, Any]] = [{"order": name, "max_steps": n} for name in names for n in budgets(most)]
    settings += [{"order": name, "max_steps": most, "threshold": t} for name in CONFIDENT for t in THRESHOLDS]
    points = []
    for number, setting in enumerate(settings):
        points.append(setting | choosing.decode(**setting))
        if told is not None:
            told(number + 1, len(settings))

    def right(point: dict[str, Any]) -> float:
        return float(point[measure]["value"])

    full = max((p for p in points if p["max_steps"] == most and "threshold" not in p), key=right)
    enough = [point for point in points if right(point) >= quality * right(full)]
    best = min(enough, key=lambda point: (point["forward_passes"], -right(point)))
    report: dict[str, Any] = {
        "model": about["model"], "task": about["task"], "quality_is": measure, "share": quality,
        "rows_chosen_on": len(choosing.answer), "rows_checked_on": len(checking.answer),
    }  # fmt: skip
    for name, point in (("full", full), ("chosen", best)):
        setting = {key: point[key] for key in ("order", "max_steps", "threshold") if key in point}
        checked = checking.decode(**setting)
        report[name] = setting | {
            half: {"forward_passes": each["forward_passes"], "quality": each[measure]}
            for half, each in (("choice", point), ("check", checked))
        }
    defaults = GenerationDefaults(best["order"], best.get("threshold"), best["max_steps"] / most)
    report["defaults"] = str(defaults)
    report["file"] = str(defaults.write(folder, dict(report))) if write else None
    return report
