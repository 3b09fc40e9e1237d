"""Token stores: the same tokens as one naive array, atomic writing, and detection of any damage."""

import errno
import itertools
import json
import pickle
import sys
from collections.abc import Sequence

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.data.corpus import encoding
from unmask.data.corpus.encoding import TokenizedDocuments
from unmask.data.document import Document
from unmask.data.preparation import prepare
from unmask.data.store import writer as store_writer
from unmask.data.store.token_store import TokenStore
from unmask.data.store.writer import write_store
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.evaluate.windows import Windows


def write(folder, documents, tokenizer, **options):
    return write_store(folder, iter(documents), tokenizer, **{"source": "s", "shard_tokens": 700, **options})


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def store(tmp_path_factory, documents, tokenizer):
    return write(tmp_path_factory.mktemp("stores") / "store", documents, tokenizer)


@pytest.fixture(scope="module")
def stream(documents, tokenizer):
    return np.concatenate([[*tokenizer.encode(document.text), tokenizer.eos_token_id] for document in documents])


def test_the_store_is_the_naive_concatenation(store, stream, documents, tokenizer):
    assert len(store.manifest["shards"]) > 3
    assert store.n_tokens == len(stream) and store.n_documents == len(store) == len(documents)
    assert np.array_equal(store.read(0, store.n_tokens), stream)
    for i, document in enumerate(documents):
        assert tokenizer.decode(store.document(i)[:-1]) == document.text
        assert store.document(i)[-1] == tokenizer.eos_token_id
    assert store.document_bytes.tolist() == [len(document.text.encode()) for document in documents]
    assert store.document_words.tolist() == [len(document.text.split()) for document in documents]
    assert store.document_tokens.sum() == store.n_tokens
    assert np.array_equal(store.unigram_counts, np.bincount(stream, minlength=len(tokenizer)))


def test_shards_hold_the_fewest_whole_documents_that_reach_the_size(store):
    for number, shard in enumerate(store.manifest["shards"][:-1]):
        table = np.load(store.path / f"docs-{number:05d}.npy")
        assert shard["token_count"] == table[:, 0].sum() >= 700 > table[:-1, 0].sum()


@given(st.data())
@settings(max_examples=60)
def test_reads_and_windows_equal_slices_of_the_stream(store, stream, data):
    start = data.draw(st.integers(0, len(stream)))
    stop = data.draw(st.integers(start, len(stream)))
    assert np.array_equal(store.read(start, stop), stream[start:stop])
    block = data.draw(st.integers(1, 2 * len(stream)))
    count = -(-len(stream) // block)
    assert len(store.windows(block)) == count
    padded = np.concatenate([stream, np.full(count * block - len(stream), store.manifest["pad"])]).reshape(count, block)
    indices = data.draw(st.lists(st.integers(0, count - 1), max_size=6))
    rows = store.gather_windows(indices, block)
    assert rows.dtype == np.int64 and rows.shape == (len(indices), block)
    assert np.array_equal(rows, padded[indices])


def test_documents_are_views_and_copies_in_other_processes_read_the_same(store):
    assert isinstance(store.document(0), np.memmap) and not store.document(0).flags.writeable
    copy = pickle.loads(pickle.dumps(store))
    assert np.array_equal(copy.read(0, copy.n_tokens), store.read(0, store.n_tokens))
    assert len(pickle.dumps(store)) < 10_000


def test_indices_outside_the_store_are_refused(store):
    for call in (
        lambda: store.document(-1),
        lambda: store.document(store.n_documents),
        lambda: store.read(-1, 2),
        lambda: store.read(0, store.n_tokens + 1),
        lambda: store.gather_windows([-1], 8),
        lambda: store.gather_windows([len(store.windows(8))], 8),
    ):
        with pytest.raises(IndexError, match="hold"):
            call()
    with pytest.raises(ValueError, match="block_size is 0"):
        store.windows(0)


def test_workers_change_no_byte(tmp_path, documents, tokenizer, monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK_DOCUMENTS", 7)
    write(tmp_path / "serial", documents, tokenizer)
    monkeypatch.setattr(encoding, "POOL_AFTER_CHUNKS", 1)
    write(tmp_path / "parallel", documents, tokenizer, workers=2)
    assert contents(tmp_path / "serial") == contents(tmp_path / "parallel")


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(1, 30), st.integers(1, 12))
def test_shards_do_not_depend_on_how_documents_were_chunked(lengths, shard_tokens, chunk):
    def shards(size):
        table = np.array([[length, i, 0] for i, length in enumerate(lengths)])
        pieces = [table[i : i + size] for i in range(0, len(table), size)]
        made = [TokenizedDocuments(np.repeat(piece[:, 1], piece[:, 0]), piece) for piece in pieces]
        return [(tokens.tolist(), table.tolist()) for tokens, table, _ in store_writer._in_shards(made, shard_tokens)]

    assert shards(chunk) == shards(1) == shards(len(lengths))
    assert [token for tokens, _ in shards(chunk) for token in tokens] == [
        i for i, length in enumerate(lengths) for _ in range(length)
    ]


@pytest.mark.parametrize("whole_shards", [0, 1, 3])
@pytest.mark.parametrize("half_way", [False, True])
def test_an_interrupted_build_continues_to_the_same_bytes(
    tmp_path, documents, tokenizer, monkeypatch, whole_shards, half_way
):
    write(tmp_path / "whole", documents, tokenizer)
    original = store_writer._write_file

    def killed(path, data):
        if int(path.stem.split("-")[1]) == whole_shards and path.name.startswith("docs" if half_way else "tokens"):
            raise KeyboardInterrupt
        return original(path, data)

    monkeypatch.setattr(store_writer, "_write_file", killed)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "killed", documents, tokenizer)
    with pytest.raises(ValueError, match=r"does not exist|is not finished|holds no token store"):
        TokenStore.open(tmp_path / "killed")

    encoded = []
    monkeypatch.setattr(
        store_writer, "_write_file", lambda path, data: (encoded.append(path.name), original(path, data))[1]
    )
    write(tmp_path / "killed", documents, tokenizer)
    assert not any(int(name.split("-")[1][:5]) < whole_shards for name in encoded)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_full_disk_leaves_no_partial_store(tmp_path, documents, tokenizer, monkeypatch):
    real, left = open, [3]

    class Full:
        def __init__(self, *args):
            self.file = real(*args)

        def write(self, data):
            left[0] -= 1
            if left[0] < 0:
                self.file.write(bytes(data)[: len(data) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

    monkeypatch.setattr(store_writer, "open", Full, raising=False)
    with pytest.raises(OSError, match="disk is full"):
        write(tmp_path / "store", documents, tokenizer)
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [
        "docs-00000.npy", "shard-00000.json", "tokens-00000.bin", "tokens-00001.bin",
    ]  # fmt: skip
    monkeypatch.undo()
    write(tmp_path / "store", documents, tokenizer)
    write(tmp_path / "whole", documents, tokenizer)
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")


def test_writing_again_opens_the_store_and_another_source_is_refused(tmp_path, documents, tokenizer):
    write(tmp_path, documents, tokenizer)
    before = contents(tmp_path)
    write(tmp_path, [], tokenizer)
    assert contents(tmp_path) == before
    with pytest.raises(ValueError, match="another source and another shard_tokens"):
        write(tmp_path, documents, tokenizer, source="t", shard_tokens=9)


def damage_manifest(folder, change):
    manifest = json.loads((folder / "store.json").read_text())
    change(manifest)
    (folder / "store.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("damage, message", [
    (lambda f: (f / "store.json").unlink(), "no store.json in it"),
    (lambda f: (f / "store.json").write_text('{"format": '), "not valid JSON"),
    (lambda f: (f / "store.json").write_text('[1]'), "does not describe a token store"),
    (lambda f: damage_manifest(f, lambda m: m.pop("shards")), "lacks 'shards'"),
    (lambda f: damage_manifest(f, lambda m: m.update(version=99)), "version 99"),
    (lambda f: damage_manifest(f, lambda m: m.update(format="other")), "does not describe"),
    (lambda f: (f / "tokens-00001.bin").unlink(), "tokens-00001.bin is missing"),
    (lambda f: (f / "docs-00000.npy").write_bytes(b""), "docs-00000.npy has 0 bytes"),
    (lambda f: (f / "tokens-00000.bin").write_bytes((f / "tokens-00000.bin").read_bytes()[:-2]), "bytes where"),
])  # fmt: skip
def test_a_damaged_store_is_never_opened(tmp_path, documents, tokenizer, damage, message):
    write(tmp_path, documents, tokenizer)
    damage(tmp_path)
    with pytest.raises(ValueError, match=message):
        TokenStore.open(tmp_path)


def test_verify_notices_one_changed_bit(tmp_path, documents, tokenizer):
    write(tmp_path, documents, tokenizer)
    TokenStore.open(tmp_path, verify=True)
    data = bytearray((tmp_path / "tokens-00000.bin").read_bytes())
    data[10] ^= 1
    (tmp_path / "tokens-00000.bin").write_bytes(data)
    TokenStore.open(tmp_path)
    with pytest.raises(ValueError, match="SHA-256"):
        TokenStore.open(tmp_path, verify=True)


def test_a_missing_folder_and_a_foreign_tokenizer_are_explained(tmp_path, store, tokenizer):
    with pytest.raises(ValueError, match="does not exist"):
        TokenStore.open(tmp_path / "nothing")
    store.check_tokenizer(tokenizer)
    with pytest.raises(ValueError, match="another tokenizer"):
        store.check_tokenizer(Tokenizer.train(["x"], 300))


def test_a_corpus_with_mask_tokens_is_refused(tmp_path):
    words = {"[MASK]": 0, "[PAD]": 1, "[EOS]": 2, "word": 3}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="word"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = Tokenizer(backend, {"mask": "[MASK]", "pad": "[PAD]", "eos": "[EOS]"})
    with pytest.raises(ValueError, match=r"document 'b' contains the special token '\[MASK\]'"):
        write(tmp_path, [Document("a", "word"), Document("b", "word [MASK]"), Document("c", "word")], tokenizer)


def test_a_vocabulary_beyond_16_bits_is_stored_in_32(tmp_path):
    words = {"[MASK]": 0, "[PAD]": 1, "[EOS]": 2, "small": 3, "large": 70_000}
    tokenizer = Tokenizer(tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="small")), {"mask": "[MASK]", "pad": "[PAD]", "eos": "[EOS]"})  # fmt: skip
    store = write(tmp_path, [Document("a", "large")], tokenizer)
    assert store.document(0).tolist() == [70_000, 2] and store.vocab_size == 70_001


def test_progress_counts_every_document_once(tmp_path, documents, tokenizer, monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK_DOCUMENTS", 50)
    seen = []
    write(tmp_path, documents, tokenizer, progress=seen.append)
    assert seen == [50, 100, 120]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_validation_store_records_which_documents_round_trip(tmp_path, documents, tokenizer, workers):
    lower = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    lower.normalizer = tokenizers.normalizers.Lowercase()
    given = Tokenizer(lower, tokenizer.special_tokens)
    some = [Document(f"d{i}", text) for i, text in enumerate(["all lower", "Not All", "none", "X"])]
    store = write_store(tmp_path / "noted", some, given, source="s", shard_tokens=8, workers=workers, round_trip=True)
    assert store.document_exact.tolist() == [True, False, True, False] and TokenStore.open(
        store.path
    ).document_bytes.tolist() == [9, 7, 4, 1]
    assert Windows.of_store(store, 8, documents=[1, 2]).document_exact.tolist() == [False, True]
    plain = write_store(tmp_path / "plain", some, given, source="s", shard_tokens=8)
    assert plain.document_exact is None and Windows.of_store(plain, 8).document_exact is None
    assert plain.manifest["bytes"] == store.manifest["bytes"] and (plain.read(0, 9) == store.read(0, 9)).all()


def test_a_store_reads_like_a_list_of_documents_and_of_windows(store, stream, documents):
    assert isinstance(store, Sequence) and isinstance(store.windows(8), Sequence)
    listed = [each.tolist() for each in store]
    assert len(listed) == len(store) == len(documents) and list(itertools.chain(*listed)) == stream.tolist()
    for index in (0, 5, -1, -len(documents)):
        assert store[index].tolist() == listed[index]
    for part in (slice(2, 5), slice(None, None, -7), slice(-3, None), slice(5, 2)):
        assert [each.tolist() for each in store[part]] == listed[part]
    windows = store.windows(50)
    rows = windows[:]
    assert rows.shape == (len(windows), 50) and [each.tolist() for each in windows] == rows.tolist()
    assert np.array_equal(rows.ravel()[: len(stream)], stream) and windows[-1].tolist() == rows[-1].tolist()
    assert np.array_equal(windows[3:-1:2], rows[3:-1:2])
    for outside in (store, windows):
        for index in (len(outside), -len(outside) - 1):
            with pytest.raises(IndexError, match=r"documents 0 to|windows are 0 to"):
                outside[index]
    assert store[3] in store and np.array([1, 2, 3]) not in store


def test_a_store_says_of_what_it_was_made(store, tmp_path, documents):
    assert store.made_from is None and repr(store).endswith("ids)")
    (tmp_path / "lines.txt").write_text("\n".join(document.text for document in documents))
    folder = prepare(f"{tmp_path}/lines.txt", tmp_path / "data", vocab_size=300, valid_fraction=0.1, workers=1).train
    (tmp_path / "lines.txt").unlink()
    made = TokenStore.open(folder)
    assert made.made_from["vocab_size"] == 300 and f"made from {tmp_path}/lines.txt" in repr(made)


def test_a_store_is_a_dataset_of_hugging_face(store, documents, tokenizer, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    made = store.to_hf(cache_dir=str(tmp_path))
    assert isinstance(made, datasets.Dataset) and made.column_names == ["input_ids"] and made.cache_files
    assert made["input_ids"][:] == [each.tolist() for each in store]
    with_text = store.to_hf(tokenizer, cache_dir=str(tmp_path))
    assert with_text["text"][:] == [document.text for document in documents]
    with pytest.raises(ValueError, match="another tokenizer"):
        store.to_hf(Tokenizer.train(["other"], 300), cache_dir=str(tmp_path))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"unmask\[hub\]"):
        store.to_hf()
