"""Preparation: a split independent of order, a tokenizer trained without held-out text, and no repeated work."""

import json
import random
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest

from unmask.data import preparation_steps as prepare_module
from unmask.data.corpus.held_out import HeldOut
from unmask.data.corpus.sources import Source
from unmask.data.preparation import Prepared, prepare
from unmask.data.store import writer as store_writer
from unmask.data.store.token_store import TokenStore
from unmask.data.tokenizing.tokenizers import Tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:.* of the bytes of .* are held out")  # corpora of a few lines


def write_jsonl(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture
def corpus(tmp_path, documents):
    return write_jsonl(tmp_path / "corpus.jsonl", [document.text for document in documents])


def build(source, out, **options):
    return prepare(source, out, **{"vocab_size": 300, "valid_fraction": 0.2, "workers": 1, **options})


def texts(folder, prepared):
    store, tokenizer = TokenStore.open(folder), Tokenizer.load(prepared.tokenizer)
    return [tokenizer.decode(store.document(i)[:-1], skip_special_tokens=False) for i in range(len(store))]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_two_stores_partition_the_corpus(corpus, tmp_path, documents):
    prepared = build(corpus, tmp_path / "out")
    train, valid = texts(prepared.train, prepared), texts(prepared.valid, prepared)
    everything = [document.text for document in documents]
    assert sorted(train + valid) == sorted(everything)
    assert train == [text for text in everything if text in set(train)]
    assert (prepared.train_documents, prepared.valid_documents) == (len(train), len(valid))
    assert prepared.train_bytes + prepared.valid_bytes == sum(len(text.encode()) for text in everything)
    assert 10 <= len(valid) <= 40
    assert Prepared.open(tmp_path / "out") == prepared
    assert "[MASK]" in " ".join(train)


def test_the_split_depends_on_seed_and_text_alone(corpus, tmp_path, documents):
    def held(path, seed=0):
        return {document.text for document in HeldOut.find(Source.parse(path), 0.2, seed).validation()}

    shuffled = [document.text for document in documents] * 2
    random.Random(1).shuffle(shuffled)
    other = write_jsonl(tmp_path / "other.jsonl", shuffled)
    assert held(corpus) == held(other)
    assert held(corpus) != held(corpus, seed=1)


@pytest.mark.parametrize("fraction", [1e-9, 0.5, 1 - 1e-9])
@pytest.mark.parametrize("count", [2, 3, 10])
def test_neither_side_is_empty_however_few_documents(tmp_path, count, fraction):
    path = write_jsonl(tmp_path / "few.jsonl", [f"document {i}" for i in range(count)])
    split = HeldOut.find(Source.parse(path), fraction, seed=0)
    train, valid = list(split.training()), list(split.validation())
    assert train and valid and len(train) + len(valid) == count


def test_the_tokenizer_is_trained_on_training_documents_only(tmp_path, documents):
    source = Source.parse(write_jsonl(tmp_path / "a.jsonl", [document.text for document in documents]))
    training = [document.text for document in HeldOut.find(source, 0.2, 0).training()]
    prepared = build(source, tmp_path / "out")
    assert Tokenizer.load(prepared.tokenizer).fingerprint == Tokenizer.train(training, 300).fingerprint


def test_a_separate_validation_corpus_is_used_whole(corpus, tmp_path):
    valid = write_jsonl(tmp_path / "valid.jsonl", ["held out one", "held out two"])
    prepared = build(corpus, tmp_path / "out", valid_source=valid)
    assert texts(prepared.valid, prepared) == ["held out one", "held out two"]
    assert prepared.train_documents == 120


def test_a_given_tokenizer_is_used_and_kept(corpus, tmp_path, tokenizer):
    tokenizer.save(tmp_path / "mine")
    for given in (tokenizer, tmp_path / "mine"):
        prepared = build(corpus, tmp_path / "out", tokenizer=given)
        assert Tokenizer.load(prepared.tokenizer).fingerprint == tokenizer.fingerprint
        TokenStore.open(prepared.train).check_tokenizer(tokenizer)


def test_workers_and_kills_change_no_byte(corpus, tmp_path, monkeypatch):
    build(corpus, tmp_path / "whole", shard_tokens=500)
    written = []
    original = store_writer.write_json

    def killed(path, value):
        if len(written) in (2, 5, 9):
            written.append("killed")
            raise KeyboardInterrupt
        written.append(path)
        return original(path, value)

    monkeypatch.setattr(store_writer, "write_json", killed)
    attempts = 0
    while not (tmp_path / "out" / "prepared.json").exists():
        attempts += 1
        try:
            build(corpus, tmp_path / "out", shard_tokens=500)
        except KeyboardInterrupt:
            with pytest.raises(ValueError, match="interrupted"):
                Prepared.open(tmp_path / "out")
    assert attempts == 4
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_running_again_does_nothing_and_other_arguments_are_refused(corpus, tmp_path, monkeypatch):
    first = build(corpus, tmp_path / "out")
    monkeypatch.setattr(Source, "documents", lambda self: pytest.fail("the corpus was read again"))
    assert build(corpus, tmp_path / "out", workers=2) == first
    with pytest.raises(ValueError, match=r"vocab_size \(was 300, now 310\), seed \(was 0, now 5\)"):
        build(corpus, tmp_path / "out", vocab_size=310, seed=5)
    corpus.write_text(corpus.read_text() + '{"text": "more"}\n')
    with pytest.raises(ValueError, match=r"different: source \(was"):
        build(corpus, tmp_path / "out")


def test_progress_reports_the_stages_and_the_total(corpus, tmp_path):
    seen = []
    prepared = build(corpus, tmp_path / "out", progress=lambda *event: seen.append(event))
    assert [stage for i, (_, _, stage) in enumerate(seen) if not i or seen[i - 1][2] != stage] == [
        "tokenizer",
        "train",
        "valid",
    ]
    count = prepared.train_documents
    assert (count, None, "tokenizer") in seen and (count, count, "train") in seen
    assert seen[-1] == (prepared.valid_documents, None, "valid")


def test_the_tokenizer_of_a_large_corpus_is_trained_on_its_start(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "TOKENIZER_TRAINING_CHARACTERS", 100)
    seen = []
    build(corpus, tmp_path / "out", progress=lambda *event: seen.append(event))
    assert 1 <= sum(stage == "tokenizer" for _, _, stage in seen) < 20
    assert all(total is None for _, total, _ in seen)


@pytest.mark.parametrize("texts, options, message", [
    (["the same", "the same"], {}, "one single document"),
    ([" ", ""], {}, "is empty"),
    (["a", "b"], {"valid_fraction": 0}, "between 0 and 1"),
    (["a", "b"], {"valid_fraction": 1.0}, "between 0 and 1"),
    (["a", "b"], {"vocab_size": 10}, "at least 261"),
    (["a", "b"], {"workers": 0}, "at least 1"),
    (["a", "b"], {"tokenizer": "missing.json"}, "no tokenizer at"),
])  # fmt: skip
def test_bad_arguments_are_explained_and_leave_no_readable_folder(tmp_path, texts, options, message):
    path = write_jsonl(tmp_path / "a.jsonl", texts)
    with pytest.raises(ValueError, match=message):
        build(path, tmp_path / "out", **options)
    with pytest.raises(ValueError, match="no prepared corpus"):
        Prepared.open(tmp_path / "out")
    (tmp_path / "good.txt").write_text("one\n\ntwo\n\nthree")
    assert build(Source.parse(tmp_path / "good.txt", unit="paragraph"), tmp_path / "out").train_documents in (1, 2)


def test_a_folder_with_a_foreign_tokenizer_is_not_overwritten(corpus, tmp_path, tokenizer):
    tokenizer.save(tmp_path / "model")
    before = contents(tmp_path / "model")
    with pytest.raises(ValueError, match="new or empty folder"):
        build(corpus, tmp_path / "model")
    assert contents(tmp_path / "model") == before


def test_processes_that_prepare_the_same_folder_share_one_result(corpus, tmp_path):
    """Like the ranks of a run: one process prepares, the others wait for its result."""
    build(corpus, tmp_path / "alone")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: build(corpus, tmp_path / "out"), range(4)))
    assert len({each.train_tokens for each in found}) == 1
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["text", "supervised"])
def test_memory_does_not_grow_with_the_input(tmp_path, documents, tokenizer, kind):
    """Peak Python and NumPy memory of the preparation of 1 MB and of 8 MB of JSON lines, with shards smaller than both."""
    peaks = {}
    for megabytes in (1, 8):
        path = tmp_path / f"{megabytes}.jsonl"
        with open(path, "w") as file:
            number = 0
            while file.tell() < megabytes * 2**20:
                text = f"{number} {documents[number % len(documents)].text}" * 8
                row = {"text": text} if kind == "text" else {"prompt": text, "answer": f"{number}"}
                file.write(json.dumps(row) + "\n")
                number += 1
        source = Source.parse(path, supervised=kind == "supervised")
        tracemalloc.start()
        prepare(source, tmp_path / f"{megabytes}", tokenizer=tokenizer, workers=1, shard_tokens=100_000)
        peaks[megabytes] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[8] < peaks[1] + 2**20, peaks
