"""``unmask demo text``: the main job, end to end, on text that every Python installation carries."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from unmask.cli.options import DEMO_RUN

SENTENCES = (
    "The [MASK] statement is used to [MASK] a name.",
    "If the file does not exist, an [MASK] is raised.",
    "Return a new [MASK] with the items in reverse [MASK].",
    "The default value of the [MASK] argument is [MASK].",
)
PROMPT = "The for statement is used to iterate over"

# Chosen by measurement on two cores (docs/log.md): small rows and many steps; Muon; heads that start at their neighbours.
FULL: dict[str, Any] = {
    "data": {"source": "python-docs", "vocab_size": 2048, "valid_fraction": 0.08, "block_size": 128},
    "model": {"preset": "tiny"},
    "optim": {"name": "muon", "lr": 0.008},
    "train": {"steps": 1500, "batch_size": 16, "evaluate_every": 150, "checkpoint_every": 50, "evaluate_rows": 160},
}
QUICK: dict[str, Any] = {
    "data": {**FULL["data"], "vocab_size": 1024, "block_size": 64},
    "model": {"preset": None, "d_model": 128, "num_layers": 2, "nhead": 4, "max_length": 256},
    "optim": FULL["optim"],
    "train": {"steps": 150, "batch_size": 16, "evaluate_every": 50, "checkpoint_every": 25, "evaluate_rows": 64},
}


def demo(quick: bool, run: Path, watch: bool | None, device: str = "auto", dtype: str = "auto") -> None:
    """Train, evaluate, fill, generate and plot; ``watch`` None draws the unmasking on a terminal."""
    from unmask.build.run import train as run_training
    from unmask.cli.demos.placing import demo_config
    from unmask.cli.evaluate import evaluate_model, print_report
    from unmask.cli.sample_text import sample_text
    from unmask.cli.screen import NOTES, heading, preparing, show
    from unmask.runs import load_run
    from unmask.storage import read_json, write_json
    from unmask.training.plots import plot_loss

    config = demo_config(QUICK if quick else FULL, run, device, dtype)
    heading("1 · train a masked diffusion language model on Python's own documentation")
    show(f"Everything goes to {run}/. Interrupt at any time; the same command continues.", style="dim")
    with preparing() as progress:
        run_training(config, console=NOTES, sampler=sample_text, progress=progress)
    loaded = load_run(run, device=device)

    heading("2 · evaluate on documents it has never seen")
    report_file = run / "evaluation.json"
    report = read_json(report_file) if report_file.is_file() else {}
    if report.get("step") != loaded.step:
        report = evaluate_model(loaded, run, samples=1 if quick else 4)
        write_json(report_file, report)
    print_report(report)
    trained = report["models"]["trained"]["bits_per_token"]["value"]
    levels = {name: bound["bits_per_token"]["value"] for name, bound in report["models"].items() if name != "trained"}
    plot_loss(
        run / "metrics.csv", run / "loss.png", f"{run}: {trained:.2f} bits per token on held-out documents", levels
    )

    heading("3 · fill blanks")
    if quick:
        show(
            "A minute of training teaches little: what follows is mostly noise. Leave --quick out to see text.",
            style="dim",
        )
    samples = _fill(loaded, run) + _write(loaded, run, NOTES.is_terminal if watch is None else watch)
    (run / "samples.md").write_text(samples, encoding="utf-8")
    _where(run)


def _fill(loaded: Any, run: Path) -> str:
    """Fill the sentences, show the alternatives; the same as text."""
    from unmask.cli.decoding import Decoding
    from unmask.cli.sample_text import watched_predict
    from unmask.cli.screen import show
    from unmask.text.filling import fill_texts

    greedy = Decoding(order="top_prob", temperature=0.0)
    drawn = partial(watched_predict, watch=False, page=run / "fill.html", title="unmask fill")
    rules_for = partial(greedy.rules, loaded.model, loaded.tokenizer)
    lines = ["# Blanks filled", ""]
    for filling in fill_texts(loaded.model, loaded.tokenizer, SENTENCES, rules_for, top=4, predict=drawn):
        show(filling.prompt.replace("[MASK]", "▁▁▁"))
        show(f"  → {filling.text}", style="bold")
        lines += [f"- {filling.prompt}", f"  → {filling.text}"]
        for number, blank in enumerate(filling.blanks, start=1):
            show(f"    blank {number}: {blank}", style="dim")
            lines.append(f"  - blank {number}: {blank}")
    return "\n".join(lines) + "\n"


def _write(loaded: Any, run: Path, watch: bool) -> str:
    """A continuation and an unconditional sample, watched and traced; the same as text."""
    from unmask.cli.decoding import Decoding
    from unmask.cli.sample_text import watched_predict
    from unmask.cli.screen import heading, show
    from unmask.text.generating import generate_texts

    heading("4 · write: a continuation, and a text from nothing")
    tokens = 48
    decoding = Decoding(order="random", temperature=0.7, top_p=0.9, block=8)
    labels = ["continuation", "from nothing"]
    drawn = partial(watched_predict, watch=watch, page=run / "unmasking.html", title="A masked diffusion model writes")
    rules_for = partial(decoding.rules, loaded.model, loaded.tokenizer)
    found = generate_texts(
        loaded.model,
        loaded.tokenizer,
        [PROMPT, ""],
        rules_for,
        new_tokens=tokens,
        predict=drawn,
        labels=labels,
        with_probabilities=False,
    )
    lines = ["", "# Written", ""]
    for label, written in zip(labels, found, strict=True):
        if not watch:
            show(label, style="bold")
            show(written.text)
        lines += [f"## {label}", "", "```", written.text, "```", ""]
    return "\n".join(lines)


def _where(run: Path) -> None:
    from unmask.cli.demos.closing import where_it_all_is

    model = () if run == DEMO_RUN else ("--model", str(run))
    where_it_all_is(
        run,
        (
            ("unmasking.html", "the unmasking, step by step: open it in a browser"),
            ("fill.html", "the blanks being filled"),
            ("loss.png", "loss curve beside the baselines"),
            ("evaluation.json", "the figures above"),
            ("samples.md", "what it filled and wrote; samples.txt has samples from during training"),
            ("config.yaml", "every setting, explained"),
            ("metrics.csv", "loss, step by step (also under tensorboard/)"),
            ("checkpoints/", "weights (safetensors) and training state"),
        ),
        (
            ("unmask", "fill", SENTENCES[0], *model),
            ("unmask", "generate", "--prompt", PROMPT, "--steps", "16", "--watch", *model),
            ("unmask", "train", "--preset", "small", "data.source=YOUR_TEXT.txt", "run=runs/mine"),
        ),
    )
