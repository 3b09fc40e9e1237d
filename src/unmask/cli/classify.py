"""``unmask classify``: labels of texts or words, from a head on any encoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from unmask.cli.model_options import TrustRemoteCode
from unmask.cli.options import DEMO_RUN, Device, Json, Model, Seed, Which

if TYPE_CHECKING:
    from unmask.data.labelled_rows import LabelledRow
    from unmask.evaluate.classification import ClassScores

classify: typer.Typer = typer.Typer(
    no_args_is_help=True, help="Classify texts or words: train a head on an encoder, and predict labels with it."
)
Text = Annotated[str, typer.Option("--text", help="Field or column of the text, or of the words.")]
Truncate = Annotated[
    bool, typer.Option("--truncate", help="Cut texts longer than the encoder takes; by default they are an error.")
]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Texts per step, or per forward pass.")]


@classify.command()
def train(
    source: Annotated[Path, typer.Option("--input", help="Rows with labels: .csv, .tsv, .jsonl or .parquet.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write: a new one.")],
    model: Model = DEMO_RUN,
    text: Text = "text",
    label: Annotated[str, typer.Option("--label", help="Field or column of the label, or of the labels.")] = "label",
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Every word has a label: both fields hold lists, or texts with spaces.")
    ] = False,
    valid: Annotated[
        Path | None, typer.Option("--valid", help="Validation rows; by default a share of the input is held out.")
    ] = None,
    valid_fraction: Annotated[
        float, typer.Option("--valid-fraction", help="Share of the input to hold out; 0 = none.")
    ] = 0.1,
    freeze: Annotated[
        bool, typer.Option("--freeze/--no-freeze", help="Train the head alone, or the encoder with it.")
    ] = False,
    class_weights: Annotated[
        Literal["none", "balanced"],
        typer.Option(
            "--class-weights", help="Weights of labels in the loss; balanced = n / (classes × n of the class)."
        ),
    ] = "none",
    epochs: Annotated[float, typer.Option("--epochs", help="Passes over the rows.")] = 3.0,
    steps: Annotated[int | None, typer.Option("--steps", help="Optimiser steps, in place of --epochs.")] = None,
    lr: Annotated[
        float | None,
        typer.Option("--lr", help="Peak learning rate; by default 0.04 / width, and 20 times that with --freeze."),
    ] = None,
    batch_size: BatchSize = 32,
    truncate: Truncate = False,
    seed: Seed = 0,
    which: Which = "last",
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
    as_json: Json = False,
) -> None:
    """Train a classifier on rows with labels, and write it as a folder for transformers."""
    from unmask.cli.screen import NOTES, note, print_json, show
    from unmask.data.labelled_rows import hold_out
    from unmask.text.classifier_training import ClassifierOptions, train_classifier
    from unmask.text.loading import load
    from unmask.training.callbacks import ProgressLine

    options = ClassifierOptions(
        tokens, freeze, class_weights == "balanced", steps, epochs, lr, batch_size, seed, truncate
    )
    if output.exists():
        raise ValueError(f"{output} exists already. Give --output the name of a new folder, or move the old one away.")
    rows = _rows(source, text, label, tokens)
    if valid is None:
        rows, held = hold_out(rows, valid_fraction, seed)
    else:
        held = _rows(valid, text, label, tokens)
    encoder = load(model, which, "cpu", "float32", trust_remote_code)  # the trainer moves the network
    unit = "word" if tokens else "text"
    done = train_classifier(
        encoder,
        rows,
        held,
        options,
        device=device,
        callbacks=lambda total, labels: [ProgressLine(NOTES, max(1, total // 10), labels, unit)],
    )
    done.classifier.save(output, {"text": text, "label": label, **done.facts})
    if as_json:
        print_json({"output": str(output), **done.facts})
        return
    show(
        f"{output}: {', '.join(done.classifier.labels)} ({len(rows):,} rows, {done.facts['options']['steps']:,} steps)"
    )
    if done.scores is None:
        note("No row was held out, so there is no F1: give --valid FILE or --valid-fraction.")
        return
    _show_scores(done.scores, f"{len(held):,} validation rows")
    if repeated := done.facts["valid"]["rows_also_in_training"]:
        note(f"{repeated:,} texts are in training and in validation: the scores are too high. Remove the copies.")


@classify.command()
def predict(
    model: Annotated[Path, typer.Option("--model", "-m", help="Folder of unmask classify train.")],
    source: Annotated[Path, typer.Option("--input", help="Rows, or one text per line: any format of --input.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File to write: .jsonl, .csv or .parquet; by default JSON lines are printed."
        ),
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", help="Field or column of the text, or of the words; by default as trained.")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", help="Field or column of true labels: F1 of the predictions is shown.")
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", help="Further field to carry to the output; id and source are carried where present."),
    ] = None,
    batch_size: BatchSize = 32,
    truncate: Truncate = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Predict the label of every text or word, with its probability."""
    from unmask.cli.row_files import check_suffix, write_rows
    from unmask.cli.screen import counting, print_json, print_json_line, show
    from unmask.data.labelled_rows import label_ids
    from unmask.text.classifier import Classifier
    from unmask.text.classifier_training import score_rows

    if output is not None:
        check_suffix(output)
    classifier, trained = Classifier.load(model, device)
    rows = _rows(source, text or trained["text"], label, classifier.per_word, keep or ())
    names = classifier.labels
    truth = None if label is None else label_ids(rows, names)
    encoded = classifier.encode(rows, truncate)
    with counting("classifying") as progress:
        logits = classifier.logits(encoded, batch_size, progress)
    found = [_predicted(row, each.softmax(-1), names) for row, each in zip(rows, logits, strict=True)]
    scores = None if truth is None else score_rows(encoded, logits, truth, names)
    if output is not None:
        write_rows(output, found)
    if as_json:
        facts = {"output": str(output), "rows": len(found)} if output is not None else {"rows": found}
        print_json(facts | ({} if scores is None else {"scores": scores.as_dict()}))
        return
    if output is None:
        for each in found:
            print_json_line(each)
    else:
        show(f"{output}: {len(found):,} rows")
    if scores is not None:
        _show_scores(scores, f"{len(found):,} rows")


def _rows(
    path: Path, text: str, label: str | None, per_word: bool, keep: list[str] | tuple[()] = ()
) -> list[LabelledRow]:
    """Read the rows of a file, or the lines of plain text, with the fields to carry.

    Raises:
        ValueError: no rows, a missing field, or an unusable row.
    """
    from dataclasses import replace

    from unmask.cli.records import CARRIED, read_records, read_rows
    from unmask.data.corpus.formats import format_of_file
    from unmask.data.corpus.readers import unknown_field
    from unmask.data.corpus.row_shapes import ROW_KINDS
    from unmask.data.labelled_rows import LabelledRow

    found = []
    if label is None and not per_word and path.is_file() and format_of_file(path) not in ROW_KINDS:
        records, _ = read_records(path, text, list(keep), "line")
        found = [LabelledRow.of_text(each.place, {text: each.text}, text, None) for each in records]
    else:
        make = LabelledRow.of_words if per_word else LabelledRow.of_text
        for place, fields in read_rows(path):
            row = make(place, fields, text, label)
            for name in keep:
                if name not in fields:
                    raise ValueError(unknown_field(f"{place}:", name, fields, "Carry other fields with --keep."))
            carried = dict.fromkeys([*(name for name in CARRIED if name in fields), *keep])
            found.append(replace(row, fields={name: fields[name] for name in carried}))
    if not found:
        raise ValueError(f"{path} holds no rows. Give a file with one row or more.")
    return found


def _predicted(row: LabelledRow, probabilities: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the output of one row: its label and all probabilities, or words, labels and their probabilities."""
    carried = {"place": row.place, **(row.fields or {})}
    best, index = probabilities.max(-1)
    if row.words is not None:
        labels = [names[number] for number in index.tolist()]
        return carried | {"words": list(row.words), "labels": labels, "probabilities": best.tolist()}
    every = dict(zip(names, probabilities[0].tolist(), strict=True))
    return carried | {"label": names[int(index[0])], "probability": float(best[0]), "probabilities": every}


def _show_scores(scores: ClassScores, over: str) -> None:
    """Print F1 of every label, macro F1 and accuracy as a table."""
    from unmask.cli.screen import table

    def figure(value: float) -> str:
        return "-" if value != value else f"{value:.3f}"

    def interval(low: float, high: float) -> str:
        return "-" if low != low else f"{low:.3f} to {high:.3f}"

    lines = []
    for number, name in enumerate(scores.names):
        f1, true = scores.f1[number], int(scores.confusion[number].sum())
        shares = (figure(scores.precision[number]), figure(scores.recall[number]))
        lines.append([name, figure(f1.value), interval(f1.low, f1.high), *shares, f"{true:,}"])
    for name, mean in (("macro F1", scores.macro_f1), ("accuracy", scores.accuracy)):
        cases = f"{int(scores.confusion.sum()):,}"
        lines.append([name, figure(mean.value), interval(mean.low, mean.high), "", "", cases])
    table(f"F1 of {over}", ["label", "F1", "95% interval", "precision", "recall", "cases"], lines)
