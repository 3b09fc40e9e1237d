"""``unmask demo traces``: BERT on machine code of installed libraries, from binaries to filled-in instructions."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

# As in the demonstration of text: short rows and many steps, Muon, local attention initialisation (docs/log.md).
FULL: dict[str, Any] = {
    "data": {"source": "traces:wheels", "vocab_size": 4096, "block_size": 256},
    "model": {"preset": "tiny", "kind": "instruction_trace"},
    "objective": {"name": "bert", "probability": 0.3, "mask_replace_prob": 1.0, "random_replace_prob": 0.0},
    "optim": {"name": "muon", "lr": 0.006},
    "train": {"steps": 600, "batch_size": 16, "evaluate_every": 100, "checkpoint_every": 50, "evaluate_rows": 128},
}
QUICK: dict[str, Any] = {
    **FULL,
    "data": {**FULL["data"], "vocab_size": 3072, "block_size": 128},
    "model": {
        "preset": None,
        "kind": "instruction_trace",
        "d_model": 64,
        "num_layers": 2,
        "nhead": 2,
        "max_length": 256,
    },
    "train": {"steps": 60, "batch_size": 8, "evaluate_every": 30, "checkpoint_every": 20, "evaluate_rows": 32},
}
QUICK_DOCUMENTS = 60  # evaluated functions of the validation split
FUNCTIONS, SHORTEST, LONGEST = 3, 20, 90  # number of functions to fill, and their lengths in tokens


def demo(quick: bool, run: Path, watch: bool | None, device: str = "auto", dtype: str = "auto") -> None:
    """Disassemble, train, evaluate by class, and fill in instructions; ``watch`` True draws the decoding."""
    from unmask.build.run import train as run_training
    from unmask.cli.demos.closing import list_results
    from unmask.cli.demos.placing import demo_config
    from unmask.cli.evaluate import print_report
    from unmask.cli.screen import NOTES, counting, heading, preparing, show
    from unmask.report import evaluate_model
    from unmask.runs import load_run
    from unmask.storage import read_json, write_json
    from unmask.training.plots import plot_loss

    config = demo_config(QUICK if quick else FULL, run, device, dtype)
    heading("1 · disassemble the libraries of installed packages, and train on their functions")
    show(f"Everything goes to {run}/. Interrupt at any time; the same command resumes.", style="dim")
    with preparing() as progress:
        run_training(config, console=NOTES, progress=progress)
    loaded = load_run(run, device=device)

    heading("2 · evaluate on binaries of the validation split")
    report_file = run / "evaluation.json"
    report = read_json(report_file) if report_file.is_file() else {}
    if report.get("step") != loaded.step:
        report = evaluate_model(loaded, samples=1, documents=QUICK_DOCUMENTS if quick else None, stages=counting)
        write_json(report_file, report)
    print_report(report)
    plot_loss(run / "metrics.csv", run / "loss.png", f"{run}: masked tokens of instruction traces")
    plot_classes(report, run / "classes.png")

    heading("3 · fill in instructions of unseen functions")
    (run / "samples.md").write_text(_fill(loaded, run, bool(watch)), encoding="utf-8")
    list_results(
        run,
        (
            ("classes.png", "accuracy by class of token, beside the counting models"),
            ("loss.png", "loss curve"),
            ("evaluation.json", "the figures above"),
            ("samples.md", "the functions with the filled-in instructions"),
            ("fill.html", "the decoding, step by step: open it in a browser"),
            ("data/", "the traces as tokens, with their tokenizer.json"),
            ("config.yaml", "every setting, with its meaning"),
            ("checkpoints/", "weights (safetensors) and training state"),
        ),
        (
            ("unmask", "fill", "xor eax [MASK] [NEXT] ret", "--model", str(run)),
            (
                "unmask",
                "fill",
                "push rbx [NEXT] mov rbx rdi [NEXT] [MASK] [MASK] [MASK] [NEXT] pop rbx [NEXT] ret",
                "--model",
                str(run),
            ),
            ("unmask", "disassemble", "/usr/bin", "-o", "traces.parquet"),
            (
                "unmask",
                "train",
                "--preset",
                "small",
                "data.source=traces.parquet",
                "model.kind=instruction_trace",
                "run=runs/mine",
            ),
        ),
    )


def _fill(loaded: Any, run: Path, watch: bool) -> str:
    """Mask one instruction in each of some unseen functions and fill it in; return the functions as Markdown."""
    from unmask.cli.decoding import Decoding
    from unmask.cli.sample_text import watched_predict
    from unmask.cli.screen import show
    from unmask.data.store.token_store import TokenStore
    from unmask.text.filling import fill_texts

    store = TokenStore.open(run / "data" / "valid")
    tokenizer = loaded.tokenizer
    fitting = [i for i, n in enumerate(store.document_tokens) if SHORTEST <= n - 1 <= LONGEST]
    functions = [store.document(i)[:-1].tolist() for i in fitting[:: max(1, len(fitting) // FUNCTIONS)][:FUNCTIONS]]
    masked = [mask_an_instruction(ids, tokenizer.next_token_id, tokenizer.mask_token_id) for ids in functions]
    texts = [tokenizer.decode(ids, skip_special_tokens=False) for ids, _ in masked]
    decoding = Decoding(order="top_prob", temperature=0.0)
    drawn = partial(watched_predict, watch=watch, page=run / "fill.html", title="unmask fill")
    fillings = fill_texts(
        loaded.model, tokenizer, texts, partial(decoding.rules, loaded.model, tokenizer), top=3, predict=drawn
    )
    lines = ["# Instructions filled in", ""]
    for filling, ids, (_, position) in zip(fillings, functions, masked, strict=True):
        truth = tokenizer.decode(ids, skip_special_tokens=False).split(" [NEXT] ")
        lines.append("```")
        for number, (original, filled) in enumerate(zip(truth, filling.text.split(" [NEXT] "), strict=True)):
            note = f"    ← filled in; original: {original}" if number == position else ""
            lines.append(filled + note)
            show(f"  {filled}{note}", style="bold" if note else "dim")
        lines += ["```", ""]
        show("")
    return "\n".join(lines)


def mask_an_instruction(ids: list[int], next_id: int, mask_id: int) -> tuple[list[int], int]:
    """Return a function with all tokens of its middle instruction masked, and the number of that instruction."""
    ends = [i for i, id in enumerate(ids) if id == next_id]
    starts = [0, *(end + 1 for end in ends)]
    middle = len(starts) // 2
    stop = [*ends, len(ids)][middle]
    return [mask_id if starts[middle] <= i < stop else id for i, id in enumerate(ids)], middle


def plot_classes(report: dict[str, Any], picture: Path) -> None:
    """Draw the accuracy of every model by class of token."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from unmask.storage import atomic_file

    kinds, models = list(report["classes"]), list(report["models"])
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = ("#c2410c", "#bbbbbb", "#7aa6c2")
    for number, (model, colour) in enumerate(zip(models, colours, strict=False)):
        positions = [i + (number - (len(models) - 1) / 2) * 0.27 for i in range(len(kinds))]
        heights = [100 * report["classes"][kind]["models"][model]["accuracy"] for kind in kinds]
        axes.bar(positions, heights, 0.25, label=model, color=colour)
    axes.set_xticks(range(len(kinds)), kinds, rotation=20, ha="right")
    axes.set_ylabel("accuracy, %")
    axes.set_title("Masked tokens of unseen binaries, by class", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with atomic_file(picture) as temporary:
        figure.savefig(temporary, format="png")
