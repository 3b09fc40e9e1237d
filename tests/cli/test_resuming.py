"""``unmask train run=FOLDER`` alone resumes any run with all it was told; a further key is accepted or refused with both values."""

import gzip
import shutil
from pathlib import Path

import pytest

from tests.cli.test_supervised import answers
from tests.data.supervised_rows import write_rows
from unmask.models.files import resolve_checkpoint
from unmask.storage import digest

SIZES = [
    "data.vocab_size=300", "data.block_size=32", "data.valid_fraction=0.2", "model.preset=null", "model.d_model=16",
    "model.num_layers=1", "model.nhead=2",
]  # fmt: skip
STEPS = ["train.batch_size=4", "train.evaluate_every=2", "train.checkpoint_every=2", "train.evaluate_rows=4"]


def supervised(corpus, folder, unmask):
    rows = write_rows(folder / "source.jsonl", answers())
    return rows, [f"data.source={rows}", "data.kind=supervised", "objective.normaliser=answer", *SIZES]


def compressed_folder(corpus, folder, unmask):
    source = folder / "source"
    source.mkdir()
    for number, file in enumerate(sorted(corpus.iterdir())[:30]):
        text = file.read_bytes()
        (source / f"{number}.txt{'.gz' * (number % 2)}").write_bytes(gzip.compress(text) if number % 2 else text)
    return source, [f"data.source={source}", *SIZES]


def json_lines(corpus, folder, unmask):
    rows = [{"note": number, "body": file.read_text()} for number, file in enumerate(sorted(corpus.iterdir())[:30])]
    source = write_rows(folder / "source.jsonl", rows)
    return source, [f"data.source={source}", "data.field=body", "data.tokenizer=characters", *SIZES]


def proteins(corpus, folder, unmask):
    source = folder / "source.fasta"
    source.write_text("".join(f">p{n}\n{'MKTAYIAKQR' * (n % 4 + 1)}{'ACDEFGHIKL'[n % 10]}\n" for n in range(60)))
    return source, [f"data.source={source}", "data.tokenizer=characters", *SIZES]


def started(corpus, folder, unmask, *keys):
    source = folder / "source"
    begun = unmask("train", f"run={source}", f"data.source={corpus}", *SIZES, *STEPS, "train.steps=2")
    assert begun.code == 0, begun.err
    return source, [f"model.init={source}", f"data.source={corpus}", *SIZES[1:3], "objective.name=bert", *keys]


def with_adapters(corpus, folder, unmask):
    return started(corpus, folder, unmask, "train.lora_rank=2", "train.lora_alpha=3", "train.lora_targets=[*.qkv]")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [supervised, compressed_folder, json_lines, proteins, started, with_adapters])
def test_the_folder_alone_resumes_the_run_without_its_source(kind, unmask, corpus, tmp_path):
    source, keys = kind(corpus, tmp_path, unmask)
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    constant = ["optim.decay=constant", "optim.warmup=0"]  # the schedule of 2 steps is then that of 4
    for run, steps in ((whole, 4), (halved, 2)):
        answer = unmask("train", f"run={run}", *keys, *STEPS, *constant, f"train.steps={steps}")
        assert answer.code == 0, answer.err
    shutil.rmtree(source) if source.is_dir() else Path(source).unlink()
    done = unmask("train", f"run={halved}")
    assert done.code == 0 and "step-00000002" in done.out, done.err
    more = unmask("train", f"run={halved}", "train.steps=4", "train.log_every=1")
    assert more.code == 0, more.err
    assert "train.log_every=1 (was 10), train.steps=4 (was 2)" in more.err
    weights = [digest(resolve_checkpoint(run) / "model.safetensors") for run in (whole, halved)]
    assert weights[0] == weights[1]
    for given, before in {
        "seed=3": "0, now: 3",
        "optim.lr=0.5": "0.001, now: 0.5",
        "data.block_size=16": "32, now: 16",
    }.items():
        refused = unmask("train", f"run={halved}", "train.steps=6", given)
        assert refused.code == 1 and f"{given.split('=')[0]} (saved: {before})" in refused.err
