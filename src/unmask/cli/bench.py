"""``unmask bench``: training speed of this machine, beside transformers' BERT."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from unmask.cli.options import Json


def bench(
    preset: Annotated[str, typer.Option(help="Size of both networks: tiny, small, base or large.")] = "small",
    rows: Annotated[int, typer.Option(help="Rows per batch.")] = 4,
    length: Annotated[int, typer.Option(help="Length of a row, in tokens.")] = 512,
    turns: Annotated[int, typer.Option(help="Number of timings of each network; medians are shown.")] = 2,
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        typer.Option(help="Precision: bf16, fp32, or auto (bf16 where the processor supports it natively)."),
    ] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile both networks first (takes minutes).")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two small layers and short rows: a check of a few seconds.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Time training steps on this machine, beside transformers' BERT of the same size (about a minute)."""
    import torch

    from unmask.cli.screen import NOTES, counting, print_json, show, table
    from unmask.config.model_config import PRESETS
    from unmask.measure.flops import TINY, Size
    from unmask.measure.quick import Setting, quick_comparison
    from unmask.training.precision import choose_precision

    if preset not in PRESETS:
        raise ValueError(f"--preset {preset} is unknown: choose {', '.join(PRESETS)}.")
    size = TINY if quick else Size.of_preset(preset)
    if quick:
        rows, length = min(rows, 2), min(length, 64)
    chosen = "bf16" if choose_precision(precision) == "bf16-mixed" else "fp32"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    setting = Setting(size, rows, length, turns, chosen, device, compiled)
    with counting("timing steps", NOTES) as progress:
        report = quick_comparison(setting, progress)
    measured = report["rows"]
    if as_json:
        print_json({**report, "rows": [row.as_dict() for row in measured]})
        return
    machine = report["machine"]
    processor = machine.get("accelerator") or f"{machine['processor']}, {machine['threads']} threads"
    show(
        f"{processor} · torch {machine['torch']} · {chosen} · {size.layers} layers of width {size.width}, vocabulary {size.vocabulary:,}, "
        f"{rows} × {length} tokens"
    )
    table(
        "unmask beside transformers' BERT",
        ["", "figure", "over turns"],
        [[row.work, *row.cells()[1:3]] for row in measured],
    )
    speeds = report["tokens_per_second"]
    names = ("mlm", "diffusion", "documents")
    rates = [[name, f"{speeds[name]:,.0f}", f"{speeds[f'{name}, bert']:,.0f}"] for name in names]
    table("tokens per second", ["without padding", "unmask", "BERT"], rates)
    show(
        f"matrix products only: {report['product_gflops']:,.0f} GFLOP/s · peak memory: {report['peak_mib']['mlm']:,.0f} MiB, "
        f"BERT {report['peak_mib']['mlm, bert']:,.0f} MiB"
    )
