"""Rows of documents: every token once, no document cut that fits, the same row for any batch."""

import numpy as np
import pytest
from safetensors.torch import load_file

from tests.training.conftest import config_of
from unmask.build.run import train
from unmask.collate.packing import best_fit
from unmask.data.corpus.sources import Source
from unmask.data.preparation import prepare
from unmask.data.store.token_store import TokenStore
from unmask.training.document_rows import DocumentRows, usual_rows


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    draw = np.random.default_rng(0)
    lines = ["".join(draw.choice(list("ACDEFG"), draw.integers(1, 60))) for _ in range(300)]
    (folder / "sequences.txt").write_text("\n".join(lines))
    source = Source.parse(folder / "sequences.txt", unit="line")
    prepared = prepare(source, folder / "data", tokenizer="characters", vocab_size=40, workers=1)
    return TokenStore.open(prepared.train)


def index(rows):
    return np.stack([np.zeros_like(rows), rows, rows], 1)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("block_size", [16, 64, 100])
def test_rows_hold_every_document_and_cut_only_what_does_not_fit(store, packed, block_size):
    rows = DocumentRows(store, block_size, "packed" if packed else "document")
    batch = rows.__getitems__(index(np.arange(len(rows))))
    pieces = []
    for ids, segments in zip(batch["input_ids"], batch["segment_ids"], strict=True):
        parts = [ids[segments == segment].tolist() for segment in range(segments.max() + 1)]
        pieces += [part for part in parts if set(part) != {store.manifest["pad"]}]
        assert packed or len([p for p in parts if set(p) != {store.manifest["pad"]}]) == 1
    whole = [store.document(i).tolist() for i in range(len(store))]
    expected = [d[i : i + block_size] for d in whole for i in range(0, len(d), block_size)]
    assert sorted(pieces) == sorted(expected)
    assert rows.cut == sum(len(d) > block_size for d in whole)
    assert rows.efficiency == pytest.approx(store.n_tokens / (len(rows) * block_size))
    assert not packed or block_size < 64 or rows.efficiency > 0.9


def test_a_row_is_the_same_in_any_batch(store):
    rows = DocumentRows(store, 64, samples=100)
    together = rows.__getitems__(index(np.array([5, 0, 7])))
    for line, number in enumerate([5, 0, 7]):
        alone = rows.__getitems__(index(np.array([number])))
        assert all(np.array_equal(alone[name][0], together[name][line]) for name in alone)
    assert together["progress"].tolist() == [0.05, 0.0, 0.07]


def test_short_documents_are_packed_by_default(store):
    assert usual_rows(store, 512) == "packed" and usual_rows(store, 32) == "stream"


def test_best_fit_takes_the_least_free_row_that_holds_an_item():
    assert list(best_fit([6, 8, 3, 2], 10)) == [[1, 3], [0, 2]]
    assert list(best_fit([10, 10], 10, open_rows=1)) == [[0], [1]]
    draw = np.random.default_rng(1)
    lengths = draw.integers(1, 65, 2000).tolist()
    rows = list(best_fit(lengths, 64))
    assert sorted(i for row in rows for i in row) == list(range(2000))
    assert all(sum(lengths[i] for i in row) <= 64 for row in rows) and sum(lengths) / (64 * len(rows)) > 0.97


def test_a_run_trains_on_every_kind_of_rows_and_null_chooses(tiny):
    """Short lines are packed by default, long documents are not."""

    def weights(name, *options):
        run = config_of(tiny, f"run={tiny['run']}/{name}", "train.steps=2", *options)
        return load_file(train(run) / "model.safetensors")["embedding.weight"]

    lines = {
        kind: weights(kind, f"data.rows={kind}", "data.unit=line") for kind in ("packed", "document", "stream", "null")
    }
    assert np.array_equal(lines["null"], lines["packed"])
    assert all(not np.array_equal(lines["packed"], lines[kind]) for kind in ("document", "stream"))
    assert np.array_equal(weights("files"), weights("files-stream", "data.rows=stream"))
