"""``unmask demo text``: masked diffusion on the documentation inside every Python installation, from text to samples; then sudoku."""

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
PROMPTS = (
    "The for statement is used to iterate over",
    "If the file does not exist,",
    "Return a list of",
)
NEW_TOKENS = 20
# Patterns of the filled and of the continued text: words, not the symbols of grammars and examples in the documentation.
WORD = " [A-Za-z]+"
WORDS = r"( [a-z]{2,}| a)+(,( [a-z]{2,}| a)+)*\."

# Chosen by measurement on two cores (docs/log.md): short rows and many steps, Muon, local attention initialisation.
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
    """Train, evaluate, fill, generate and plot; ``watch`` None draws the decoding on a terminal."""
    from unmask.build.run import train as run_training
    from unmask.cli.demos.placing import demo_config
    from unmask.cli.demos.sudoku_demo import solve_sudoku
    from unmask.cli.evaluate import print_report
    from unmask.cli.sample_text import sample_text
    from unmask.cli.screen import NOTES, counting, heading, preparing, show
    from unmask.report import evaluate_model
    from unmask.runs import load_run
    from unmask.storage import read_json, write_json
    from unmask.training.plots import plot_loss

    config = demo_config(QUICK if quick else FULL, run, device, dtype)
    heading("1 · train a masked diffusion language model on Python's documentation")
    show(f"Everything goes to {run}/. Interrupt at any time; the same command resumes.", style="dim")
    with preparing() as progress:
        run_training(config, console=NOTES, sampler=sample_text, progress=progress)
    loaded = load_run(run, device=device)

    heading("2 · evaluate on the validation split")
    report_file = run / "evaluation.json"
    report = read_json(report_file) if report_file.is_file() else {}
    if report.get("step") != loaded.step:
        report = evaluate_model(loaded, samples=1 if quick else 4, stages=counting)
        write_json(report_file, report)
    print_report(report)
    trained = report["models"]["trained"]["bits_per_token"]["value"]
    levels = {name: bound["bits_per_token"]["value"] for name, bound in report["models"].items() if name != "trained"}
    plot_loss(
        run / "metrics.csv", run / "loss.png", f"{run}: {trained:.2f} bits per token on the validation split", levels
    )

    heading("3 · fill blanks")
    if quick:
        show(
            "After one minute of training the samples are mostly noise. Leave --quick out to see text.",
            style="dim",
        )
    samples = _fill(loaded, run) + _write(loaded, run, NOTES.is_terminal if watch is None else watch)
    (run / "samples.md").write_text(samples, encoding="utf-8")
    solve_sudoku(quick, run / "sudoku", watch, device, dtype, first=5)
    _list_results(run)


def _fill(loaded: Any, run: Path) -> str:
    """Fill the sentences and show the candidates; return them as Markdown."""
    from unmask.cli.decoding import Decoding
    from unmask.cli.sample_text import watched_predict
    from unmask.cli.screen import show
    from unmask.text.filling import fill_texts

    greedy = Decoding(order="top_prob", temperature=0.0, regex=WORD)
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
    """Continue the prompts by the likeliest tokens, the most probable first; return the texts as Markdown."""
    from unmask.cli.decoding import Decoding
    from unmask.cli.sample_text import watched_predict
    from unmask.cli.screen import heading, show
    from unmask.text.generating import generate_texts

    heading("4 · generate")
    decoding = Decoding(order="top_prob", temperature=0.0, repetition_penalty=1.3, regex=WORDS)
    drawn = partial(watched_predict, watch=watch, page=run / "unmasking.html", title="A masked diffusion model writes")
    samples = generate_texts(
        loaded.model,
        loaded.tokenizer,
        list(PROMPTS),
        partial(decoding.rules, loaded.model, loaded.tokenizer),
        new_tokens=NEW_TOKENS,
        predict=drawn,
        labels=[prompt.rsplit(" ", 1)[0] + " …" for prompt in PROMPTS],
        with_probabilities=False,
    )
    show("the likeliest token at the position of highest probability, words only:", style="dim")
    lines = ["", "# Generated", ""]
    for sample in samples:
        show(f"  {sample.text}", style="bold")
        lines.append(f"- {sample.text}")
    return "\n".join([*lines, ""])


def _list_results(run: Path) -> None:
    from unmask.cli.demos.closing import list_results

    model = () if run == DEMO_RUN else ("--model", str(run))
    list_results(
        run,
        (
            ("unmasking.html", "the decoding, step by step: open it in a browser"),
            ("fill.html", "the blanks being filled"),
            ("sudoku/solving.html", "a sudoku in two orders; sudoku/ is a run of its own"),
            ("loss.png", "loss curve beside the baselines"),
            ("evaluation.json", "the figures above"),
            ("samples.md", "filled and generated texts; samples.txt holds samples from training"),
            ("config.yaml", "every setting, with its meaning"),
            ("metrics.csv", "loss by step (also under tensorboard/)"),
            ("checkpoints/", "weights (safetensors) and training state"),
        ),
        (
            ("unmask", "fill", SENTENCES[0], *model),
            ("unmask", "generate", "--prompt", PROMPTS[0], "--steps", "16", "--watch", *model),
            ("unmask", "train", "--preset", "small", "data.source=YOUR_TEXT.txt", "run=runs/mine"),
        ),
    )
