"""The study of orders: quality of every decoding order of the registry against the number of forward passes.

Four panels: greedy orders at fixed budgets, commit rules, blocks with caches, and tokens sampled at temperature 1. Quality is the fraction of rows
that are exactly right (answers), or of masked tokens that are restored (text), with 95% intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unmask.decode.families import ORDERS
from unmask.studies.decoded_rows import DecodedRows, rows_of_run

GREEDY, DRAWN = "greedy", "drawn"
LABELS = {"top_prob": "top probability", "prob_diff": "margin", "drawn_prob": "drawn probability"}


@dataclass(frozen=True)
class Family:
    """One way to decode, at several settings of one knob.

    Attributes:
        name, panel: of the curve; ``panel`` says what it is compared with.
        options: of ``make_rules``.
        knob: the option that is varied; ``max_steps`` are forward passes.
        values: of the knob; None for ``max_steps`` = those asked for.
    """

    name: str
    panel: str
    options: dict[str, Any]
    knob: str = "max_steps"
    values: tuple[float, ...] | None = None


def families(block: int, causal: bool = False) -> list[Family]:
    """Return every order, greedy and sampled, and every commit rule.

    Args:
        block: length of blocks.
        causal: the network is block-causal in blocks of this length, so that its exact cache takes the place of approximate ones.
    """
    names = [name for name in ORDERS if name != "drawn_prob"]  # greedily, its samples are the likeliest tokens
    names.insert(1, "ancestral")
    fixed = {LABELS.get(name, name.replace("_", " ")): {"order": name} for name in names}
    bounds: dict[str, tuple[str, str, tuple[float, ...]]] = {
        "threshold": ("top_prob", "threshold", (0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)),
        "cumulative error": ("top_prob", "cumulative_error", (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)),
        "factor": ("top_prob", "factor", (0.03, 0.1, 0.3, 1.0, 3.0)),
        "entropy bound": ("entropy", "entropy_bound", (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)),
    }
    adaptive = [
        Family(name, "adaptive", {"order": order}, knob, values) for name, (order, knob, values) in bounds.items()
    ]
    caches: dict[str, dict[str, Any]] = {
        "": {}, ", prefix cache": {"cache": "prefix"}, ", dual cache": {"cache": "dual"},
        ", dual cache, refreshed every 4": {"cache": "dual", "cache_refresh": 4},
    }  # fmt: skip
    top: dict[str, Any] = {"order": "top_prob", "block_length": block}
    if causal:
        caches, top = {"": {}, ", block cache": {"cache": "block"}}, top | {"aligned_blocks": True}
    whole: tuple[float, ...] = (10_000,)  # steps, more than blanks
    return [
        *(Family(name, GREEDY, options) for name, options in fixed.items()),
        *adaptive,
        *(Family(f"blocks of {block}{words}", "blocks", top | cache) for words, cache in caches.items()),
        *(Family(name, DRAWN, options | {"temperature": 1.0}) for name, options in fixed.items()),
        Family("first hitting", DRAWN, {"order": "first_hitting", "temperature": 1.0}, values=whole),
        Family("drawn probability", DRAWN, {"order": "drawn_prob", "temperature": 1.0}),
        *(
            Family(f.name, DRAWN, f.options | {"temperature": 1.0}, f.knob, f.values)
            for f in adaptive
            if f.knob in ("threshold", "entropy_bound")
        ),
    ]


def measure_orders(
    rows: DecodedRows,
    block: int,
    steps: Sequence[int],
    bounds: int | None = None,
    told: Callable[[int, int | None], None] | None = None,
    causal: bool = False,
) -> list[dict[str, Any]]:
    """Return every family at every setting.

    Args:
        rows: the rows to decode.
        block: length of blocks.
        steps: forward passes at most, one setting each.
        bounds: number of settings of each commit rule; None = all.
        told: callback ``(settings done, all settings)``.
        causal: as in :func:`families`.

    Returns:
        Of each family its name, panel, options and points.
    """
    most = int(rows.blanks.max())
    blocks = -(-rows.answer.shape[1] // block)
    settings: list[tuple[dict[str, Any], dict[str, Any], str, float]] = []
    curves = []
    for family in families(block, causal):
        curve: dict[str, Any] = {**asdict(family), "points": []}
        del curve["values"]
        curves.append(curve)
        least = blocks if "block_length" in family.options else 1
        values = ([n for n in steps if n >= least] or [least]) if family.values is None else family.values
        limit = {} if family.knob == "max_steps" else {"max_steps": most}
        settings += [
            (curve, family.options | limit, family.knob, value)
            for value in (values if family.knob == "max_steps" else values[:bounds])
        ]
    for number, (curve, options, knob, value) in enumerate(settings):
        given = min(int(value), most) if knob == "max_steps" else value
        curve["points"].append({knob: given, **rows.decode(**options, **{knob: given})})
        if told is not None:
            told(number + 1, len(settings))
    return curves


def budgets(blanks: int) -> list[int]:
    """Return the powers of two below a number of masked positions, and the number.

    Examples:
        >>> budgets(10)
        [1, 2, 4, 8, 10]
    """
    return [2**power for power in range(max(1, blanks).bit_length()) if 2**power < blanks] + [max(1, blanks)]


def study_orders(
    run: str | Path,
    *,
    rows: int = 64,
    steps: Sequence[int] | None = None,
    block: int | None = None,
    bounds: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    checkpoint: str = "last",
    told: Callable[[int, int | None], None] | None = None,
) -> dict[str, Any]:
    """Decode held-out rows of a run with every order, at several numbers of forward passes.

    Args:
        run: a run: of text, where half of the tokens are masked, or of prompts with answers, where answers are.

    Other Parameters:
        rows: number of held-out rows.
        steps: forward passes at most, one setting each; None = powers of two up to one per masked position.
        block: length of blocks; None = that of a block-causal network, else 16.
        bounds: number of settings of each commit rule; None = all.
        device: device of the network.
        dtype: dtype of its weights.
        checkpoint: ``"last"`` or ``"best"``.
        told: callback ``(settings done, all settings)``.

    Returns:
        A JSON object with ``curves``, each a family with its points; :func:`unmask.studies.order_plot.plot_orders` draws it.

    Raises:
        ValueError: no held-out rows, or numbers below 1.

    Examples:
        >>> import unmask
        >>> unmask.study_orders("runs/demo", rows=0)
        Traceback (most recent call last):
        ValueError: rows=0 and steps=None leave nothing to decode: choose 1 or more.
    """
    if rows < 1 or any(each < 1 for each in steps or ()) or (block is not None and block < 1):
        raise ValueError(f"rows={rows} and steps={steps} leave nothing to decode: choose 1 or more.")
    chosen, about = rows_of_run(run, rows, device, dtype, checkpoint)
    own = getattr(chosen.model, "causal_block", None)
    used = own or block or min(16, chosen.answer.shape[1])
    curves = measure_orders(
        chosen, used, steps or budgets(int(chosen.blanks.max())), bounds, told, causal=own is not None
    )
    return about | {"block": used, "curves": curves}


def order_cells(report: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return the tables of a study, one per panel: title, columns and a row per setting.

    Args:
        report: of :func:`study_orders`.
    """
    quality, tables = report["quality"], []
    words = {"whole": "rows right", "tokens": "tokens right"}[quality]
    for title in dict.fromkeys(curve["panel"] for curve in report["curves"]):
        cells = [
            [
                curve["name"], f"{point[curve['knob']]:g}", f"{point['forward_passes']:.1f}", f"{point['tokens_run']:,.0f}",
                f"{point[quality]['value']:.1%}", _between(point[quality]), f"{point['tokens']['value']:.1%}",
            ]
            for curve in report["curves"] if curve["panel"] == title
            for point in curve["points"]
        ]  # fmt: skip
        columns = ["order", "setting", "forward passes", "tokens run", words, "95%", "tokens right"]
        tables.append((title, columns, cells))
    return tables


def _between(estimate: dict[str, float | None]) -> str:
    low, high = estimate["low"], estimate["high"]
    return "" if low is None or high is None else f"{low:.1%} to {high:.1%}"
