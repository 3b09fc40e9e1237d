"""``unmask evaluate``: how well a model knows text it has not seen."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unmask.cli.options import DEMO_RUN, Device, Dtype, Field, Json, Model, Seed, Split, Unit, Which

if TYPE_CHECKING:
    from unmask.runs import LoadedRun


def evaluate(
    model: Model = DEMO_RUN,
    data: Annotated[
        str | None, typer.Option(help="Text to evaluate on (as for prepare); by default the run's held-out documents.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Passes over the documents, each with other tokens hidden.")] = 4,
    documents: Annotated[int | None, typer.Option(help="Only the first so many documents.")] = None,
    baselines: Annotated[bool, typer.Option(help="Also counting models of the run's training text.")] = True,
    field: Field = "text",
    unit: Unit = None,
    split: Split = "train",
    seed: Seed = 0,
    which: Which = "last",
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> None:
    """Bound the negative log-likelihood of held-out text: bits per byte, per word and per token, with 95% intervals."""
    from unmask.cli.screen import print_json
    from unmask.data.corpus.sources import Source
    from unmask.runs import load_run
    from unmask.storage import write_json

    if documents is not None and documents < 1:
        raise ValueError(f"--documents {documents} leaves nothing to evaluate on: give 1 or more.")
    loaded = load_run(model, which, device, dtype)
    source = None if data is None else Source.parse(data, field=field, unit=unit, split=split)
    report = evaluate_model(
        loaded, model, source=source, samples=samples, documents=documents, baselines=baselines, seed=seed
    )
    run = loaded.folder.parent.parent
    whole = (
        data is None and documents is None and baselines and dtype == "auto"
    )  # what `unmask demo` would report, and may find again
    if whole and (run / "config.yaml").is_file():
        write_json(run / "evaluation.json", report)
    if as_json:
        print_json(report)
    else:
        print_report(report)


def evaluate_model(
    loaded: LoadedRun,
    path: Path,
    *,
    source: Any = None,
    samples: int = 4,
    documents: int | None = None,
    baselines: bool = True,
    seed: int = 0,
) -> dict[str, Any]:
    """The report as a mapping: ``models`` by name, each with its bound; ``accuracy`` of the trained one; what was read."""
    import torch

    from unmask.cli.screen import counting
    from unmask.contracts import SpecialIds
    from unmask.data.store.token_store import TokenStore
    from unmask.devices import device_of
    from unmask.evaluate.baselines import NeighbourModel, UnigramModel
    from unmask.evaluate.by_class import accuracy_by_class
    from unmask.evaluate.likelihood import nelbo
    from unmask.evaluate.metrics import masked_accuracy
    from unmask.evaluate.trace_classes import TRACE_CLASSES, TraceClasses
    from unmask.evaluate.windows import Windows
    from unmask.training.trainer import choose_precision

    special = SpecialIds.of(loaded.tokenizer)
    block = loaded.config.data.block_size
    stores = _stores(loaded, path)
    if source is not None:
        found = list(islice(source.documents(), documents))
        texts = [d.text for d in found]
        windows = Windows.of_rows(loaded.tokenizer.encode_batch(texts), block, texts, loaded.tokenizer.decode)
    elif stores is not None:
        store = TokenStore.open(stores / "valid")
        store.check_tokenizer(loaded.tokenizer)
        windows = Windows.of_store(
            store, block, None if documents is None else range(min(documents, store.n_documents))
        )
    else:
        raise ValueError(
            f"{path} has no held-out text beside it (the run's data folder is gone). Say what to evaluate on: --data FILE."
        )
    models: dict[str, Any] = {"trained": loaded.model}
    if baselines and stores is not None:
        train = TokenStore.open(stores / "train")
        train.check_tokenizer(loaded.tokenizer)
        models |= {
            "unigram": UnigramModel.of_store(train, special),
            "two neighbours": NeighbourModel.of_store(train, special),
        }
    at = device_of(loaded.model)
    bf16 = loaded.dtype == "auto" and choose_precision(loaded.config.train.precision, at) == "bf16-mixed"
    bounds = {}
    for name, each in models.items():
        with (
            counting(f"evaluating {name}") as progress,
            torch.autocast(at.type, torch.bfloat16, enabled=bf16 and name == "trained"),
        ):
            bounds[name] = nelbo(each, windows, special, samples=samples, seed=seed, progress=progress)
    with counting("guessing hidden tokens") as progress, torch.autocast(at.type, torch.bfloat16, enabled=bf16):
        accuracy = masked_accuracy(loaded.model, windows, special, seed=seed, progress=progress)
    report: dict[str, Any] = {
        "model": str(loaded.folder),
        "step": loaded.step,
        "data": "held-out documents of the run" if source is None else source.path,
        "models": {name: b.as_dict() for name, b in bounds.items()},
        "accuracy": accuracy.as_dict(),
    }
    if loaded.tokenizer.next_token_id is not None:  # instruction traces
        with counting("guessing by class") as progress, torch.autocast(at.type, torch.bfloat16, enabled=bf16):
            report["classes"] = accuracy_by_class(
                models, windows, special, TraceClasses(loaded.tokenizer), TRACE_CLASSES, seed=seed, progress=progress
            )
    if len(bounds) > 1 and "bits_per_byte" in report["models"]["trained"]:
        report["bits_per_byte_saved"] = {
            name: bounds["trained"].bits_saved_per_byte(b).as_dict() for name, b in bounds.items() if name != "trained"
        }
    return report


def _stores(loaded: LoadedRun, path: Path) -> Path | None:
    """The folder of the run's token stores, wherever the run was moved to."""
    store = loaded.config.data.store
    places = [loaded.folder.parent.parent / "data", Path(path) / "data", Path(loaded.config.run) / "data"]
    for folder in ([Path(store)] if store is not None else []) + places:
        if (folder / "prepared.json").is_file():
            return folder
    return None


def print_report(report: dict[str, Any]) -> None:
    """The report as a table."""
    from unmask.cli.screen import show, table

    trained = report["models"]["trained"]
    units = [u for u in ("bits_per_byte", "bits_per_word", "bits_per_token") if u in trained]

    def cell(estimate: dict[str, float]) -> str:
        if estimate["low"] is None:  # too few documents for an interval
            return f"{estimate['value']:.3f}"
        return f"{estimate['value']:.3f} ± {(estimate['high'] - estimate['low']) / 2:.3f}"

    rows = [[name, *(cell(nelbo[u]) for u in units)] for name, nelbo in report["models"].items()]
    rows.append(
        [
            "perplexity (trained)",
            *(
                "" if u == "bits_per_byte" else f"{trained['perplexity_per_' + u.split('_')[-1]]['value']:,.1f}"
                for u in units
            ),
        ]
    )
    title = f"Upper bound on -log likelihood, {trained['documents']:,} documents, {trained['tokens']:,} tokens, {trained['unscored_tokens']:,} unscored (± = 95% interval over documents)"
    table(title, ["model", *(u.replace("_", " ") for u in units)], rows)
    if remark := what_is_left_out(trained):
        show(remark)
    top = report["accuracy"]
    show(
        f"With {top['rate']:.0%} hidden, the first guess is right {top['top_1']['value']:.1%} of the time, one of the first five "
        f"{top['top_5']['value']:.1%} ({trained['unscored_tokens']:,} unscored tokens are never hidden)."
    )
    if "classes" in report:
        print_classes(report)
    for name, saved in report.get("bits_per_byte_saved", {}).items():
        show(f"Bits per byte saved against {name}: {cell(saved)} (paired).")


def what_is_left_out(nelbo: dict[str, Any]) -> str:
    """What a bound's figures are not of, in a sentence or two; nothing where they are of the very text."""
    said = []
    if nelbo["unscored_tokens"]:
        said.append(
            f"{nelbo['unscored_tokens']:,} tokens (unknown words, separators) are special: they cost nothing and are in no figure."
        )
    altered = nelbo.get("altered_documents")  # a report of an earlier version has none
    if altered is None and nelbo["bytes"]:
        said.append(
            "Whether the tokens spell the very text is not known: this store was prepared before that was noted."
        )
    elif altered:
        of = "no document has" if altered == nelbo["documents"] else "the others alone have"
        said.append(
            f"The tokens of {altered:,} of {nelbo['documents']:,} documents spell another text (unknown words, lower case or "
            f"lost spaces): {of} bits per byte and per word."
        )
    return " ".join(said)


def print_classes(report: dict[str, Any]) -> None:
    """First guesses and bits per token by class of token, every model beside the others."""
    from unmask.cli.screen import table

    names = [name for name in report["models"] if name != "unigram"]  # the weaker floor is in the JSON
    rows = []
    for kind, found in report["classes"].items():
        values = [found["models"][name] for name in names]
        rows.append(
            [kind, f"{found['tokens']:,}", *(f"{v['accuracy']:.1%}, {v['bits_per_token']:.2f}" for v in values)]
        )
    title = f"Hidden tokens by class, {report['accuracy']['rate']:.0%} hidden, {report['models']['trained']['unscored_tokens']:,} unscored: first guess right, bits per token"
    table(title, ["token", "asked", *names], rows)
