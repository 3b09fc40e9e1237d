"""A corpus in parts: the same documents, and stores of the same bytes for any number of workers, shards, parts and kills."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.test_preparation import contents, write_jsonl
from unmask.data import engines
from unmask.data.corpus import byte_fraction, corpus_parts
from unmask.data.corpus.byte_fraction import ByteSketch
from unmask.data.corpus.corpus_parts import Corpus
from unmask.data.corpus.sources import Source
from unmask.data.preparation import Prepared, prepare, prepare_shard
from unmask.data.store import writer as store_writer
from unmask.data.store.token_store import TokenStore

pytestmark = pytest.mark.filterwarnings("ignore:.* of the bytes of .* are held out")
OPTIONS = {"vocab_size": 300, "valid_fraction": 0.2, "shard_tokens": 1500}


@pytest.fixture
def corpus(tmp_path, documents):
    folder = tmp_path / "corpus"
    folder.mkdir()
    texts = [document.text for document in documents]
    for name, some in (("a", texts[:70]), ("b", texts[70:73]), ("c", texts[73:75]), ("d", texts[75:])):
        write_jsonl(folder / f"{name}.jsonl", some)
    return folder


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(corpus_parts, "PART_BYTES", 4000)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(st.lists(st.text("ab é☃\r\t", max_size=30), min_size=1, max_size=30), st.integers(1, 200))
def test_the_documents_of_all_parts_are_those_of_the_source(tmp_path, texts, size):
    """Lines, JSON lines and row groups, cut at any size; a document is in one part."""
    texts = ["first", *texts]
    path = write_jsonl(tmp_path / "a.jsonl", texts)
    (tmp_path / "a.txt").write_bytes("\n".join(texts).replace("\r", "\r\n").encode())
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=3)
    for source in (
        Source.parse(path),
        Source.parse(tmp_path / "a.txt", unit="line"),
        Source.parse(tmp_path / "a.parquet"),
    ):
        parts = [[d.text for d in part.documents()] for part in Corpus.of(source, size).parts]
        assert [text for part in parts for text in part] == [d.text for d in source.documents()]


def test_parts_follow_files_and_ranges_and_small_files_share_one(corpus):
    whole = [d.text for d in Source.parse(corpus).documents()]
    parts = Corpus.of(Source.parse(corpus), 4000).parts
    inputs = [[each.name for each in part.inputs] for part in parts]
    assert ["b.jsonl", "c.jsonl"] in inputs and inputs[0] == ["a.jsonl@0"]
    assert [d.text for part in parts for d in part.documents()] == whole
    assert len({part.fingerprint for part in parts}) == len(parts) > 4
    assert Corpus.of(Source.parse(corpus)).parts[0].inputs is None  # small: the source itself
    names = {d.name.split("@")[0].split(":")[0] for part in parts for d in part.documents()}
    assert names == {"a.jsonl", "b.jsonl", "c.jsonl", "d.jsonl"}
    compressed = Source.parse(write_gzip(corpus.parent / "x.jsonl.gz", whole))
    assert len(Corpus.of(compressed, 100).parts) == 1


def write_gzip(path, texts):
    import gzip

    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    return path


def test_an_error_inside_a_range_says_where_the_range_begins(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", ["some text"] * 30)
    path.write_text(path.read_text() + "{broken\n")
    with pytest.raises(ValueError, match=r"a\.jsonl \(from byte 6\d\d\), line \d, is not valid JSON"):
        list(Corpus.of(Source.parse(path), 100).documents())


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(1, 99)), max_size=60), st.integers(0, 60))
def test_sketches_add_up(documents, cut):
    """The sum of two sketches is the sketch of all documents, however few sums are kept."""

    def sketch(some):
        made = ByteSketch(0.3)
        for document in some:
            made.add(*document)
        return made

    before, byte_fraction.MOST = byte_fraction.MOST, 16
    try:
        whole, first, second = sketch(documents), sketch(documents[:cut]), sketch(documents[cut:])
        first.include(ByteSketch.from_dict(json.loads(json.dumps(second.as_dict()))))
        assert first.as_dict() == whole.as_dict()
    finally:
        byte_fraction.MOST = before


@pytest.mark.parametrize("duplicates", [None, "exact"])
def test_parts_change_no_byte(corpus, tmp_path, monkeypatch, duplicates):
    """One process, parts, shards of an array job in any order and a mixture of these write the same folder."""
    options = {**OPTIONS, "drop_duplicates": duplicates, "workers": 1}
    prepare(corpus, tmp_path / "whole", **options)
    monkeypatch.setattr(corpus_parts, "PART_BYTES", 8000)
    prepare(corpus, tmp_path / "parts", **options)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    for count in (2, 40) if duplicates else (3,):
        out, order = tmp_path / f"shards-{count}", list(range(1, count + 1))
        random.Random(count).shuffle(order)
        shards = [prepare_shard(corpus, out, (number, count), **options) for number in order]
        assert [each.missing for each in shards[1:]] <= [each.missing for each in shards[:-1]]
        assert shards[-1].missing == 0 and shards[-1].prepared == Prepared.open(out)
        assert all(each.prepared is None for each in shards[:-1] if each.missing)
        assert contents(out) == contents(tmp_path / "whole")
    half = prepare_shard(corpus, tmp_path / "half", (2, 3), **options)
    assert half.prepared is None and half.missing > 0 and half.parts > 0
    with pytest.raises(ValueError, match="interrupted"):
        Prepared.open(tmp_path / "half")
    prepare(corpus, tmp_path / "half", **options)  # the same command without a shard writes the rest
    assert contents(tmp_path / "half") == contents(tmp_path / "whole")


def test_rows_with_answers_are_merged_with_their_flags(tmp_path, monkeypatch):
    rows = [{"prompt": f"what is {n} plus one?", "answer": f" it is {n + 1}"} for n in range(80)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = Source.parse(path, supervised=True)
    prepare(source, tmp_path / "whole", **OPTIONS, workers=1)
    monkeypatch.setattr(corpus_parts, "PART_BYTES", 1000)
    prepare(source, tmp_path / "parts", **OPTIONS, workers=1)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert TokenStore.open(tmp_path / "parts" / "train").supervised


@pytest.mark.slow
def test_processes_change_no_byte(corpus, tmp_path, monkeypatch):
    prepare(corpus, tmp_path / "whole", **OPTIONS, workers=1, valid_source=corpus / "b.jsonl")
    monkeypatch.setattr(corpus_parts, "PART_BYTES", 4000)
    seen = []
    prepare(
        corpus, tmp_path / "parts", **OPTIONS, workers=2, valid_source=corpus / "b.jsonl",
        progress=lambda *event: seen.append(event),
    )  # fmt: skip
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert {stage for _, _, stage in seen} == {"tokenizer", "train", "valid", "merge"}


def test_kills_between_any_two_writes_change_no_byte(corpus, tmp_path, monkeypatch):
    """Every step continues where it stopped: the work of a finished part is not repeated."""
    options = {**OPTIONS, "workers": 1, "drop_duplicates": "exact"}
    prepare(corpus, tmp_path / "whole", **options)
    monkeypatch.setattr(corpus_parts, "PART_BYTES", 4000)
    draw, original, written = random.Random(0), store_writer._write_file, []

    def killed(path, data):
        if draw.random() < 0.2:
            raise KeyboardInterrupt
        written.append(path)
        return original(path, data)

    monkeypatch.setattr(store_writer, "_write_file", killed)
    attempts = 0
    while not (tmp_path / "out" / "prepared.json").exists():
        attempts += 1
        try:
            prepare(corpus, tmp_path / "out", **options)
        except KeyboardInterrupt:
            continue
    assert attempts > 3 and contents(tmp_path / "out") == contents(tmp_path / "whole")
    tables = [path for path in written if path.name.startswith("docs")]
    assert len(tables) == len(set(tables))


def test_a_damaged_part_is_refused_by_name(corpus, tmp_path, small_parts):
    prepare_shard(corpus, tmp_path / "out", (1, 2), **OPTIONS, workers=1)
    file = next((tmp_path / "out" / "parts" / "00000" / "train").glob("tokens-*.bin"))
    data = bytearray(file.read_bytes())
    data[3] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"parts/00000/train is damaged: the contents of tokens-00000.bin changed"):
        prepare_shard(corpus, tmp_path / "out", (2, 2), **OPTIONS, workers=1)


def test_shards_and_engines_that_do_not_exist_are_refused(corpus, tmp_path):
    for shard in ((0, 4), (5, 4), (1, 0)):
        with pytest.raises(ValueError, match=r"the first is 1/.*--array=1-"):
            prepare_shard(corpus, tmp_path / "out", shard, **OPTIONS)
    with pytest.raises(ValueError, match=r"no engine 'rey'\. Choose one of processes, ray"):
        prepare(corpus, tmp_path / "out", **OPTIONS, engine="rey")
    assert list(engines.in_processes(abs, [-1, -2], 1)) == [1, 2]


@pytest.mark.slow
def test_a_preparation_killed_at_random_moments_ends_with_the_same_bytes(corpus, tmp_path, monkeypatch):
    """SIGKILL of the command with two workers, at six random moments."""
    program = (
        "import sys; from unmask.data.corpus import corpus_parts; corpus_parts.PART_BYTES = 4000\n"
        "from unmask.data.preparation import prepare\n"
        "if __name__ == '__main__':\n"
        "    prepare(sys.argv[1], sys.argv[2], vocab_size=300, valid_fraction=0.2, shard_tokens=1500, workers=2, drop_duplicates='exact')\n"
    )
    script = tmp_path / "run.py"
    script.write_text(program)
    prepare(corpus, tmp_path / "whole", **OPTIONS, workers=1, drop_duplicates="exact")
    draw = random.Random(0)
    environment = {**os.environ, "PYTHONPATH": str(Path(corpus_parts.__file__).parents[3])}
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, str(script), str(corpus), str(tmp_path / "out")], env=environment, start_new_session=True
        )
        time.sleep(draw.uniform(0.5, 3))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if (tmp_path / "out" / "prepared.json").exists():
            break
    subprocess.run([sys.executable, str(script), str(corpus), str(tmp_path / "out")], env=environment, check=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
