"""A prepared store opens without its source, records its settings, and is refused for other settings."""

import json
import shutil

import pytest

from unmask.build import stores
from unmask.build.stores import prepare_data, with_store
from unmask.config.tree import load_config
from unmask.data.corpus.sources import Source
from unmask.data.preparation import Prepared, prepare
from unmask.data.recipe import Recipe


@pytest.fixture
def corpus(tmp_path, documents):
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"body": document.text}) + "\n" for document in documents))
    return path


@pytest.fixture
def store(corpus, tmp_path):
    prepare(
        Source.parse(corpus, field="body"), tmp_path / "store", vocab_size=300, valid_fraction=0.2, workers=1, seed=3
    )
    return tmp_path / "store"


def opened(*overrides):
    config = load_config(overrides=overrides)
    return prepare_data(with_store(config), None, 1, given=config.data.model_fields_set)


def test_a_store_opens_without_its_source(store, corpus, monkeypatch):
    monkeypatch.setattr(stores, "prepare", lambda *a, **k: pytest.fail("it was prepared again"))
    before = Prepared.open(store)
    for change in (lambda: corpus.write_text("another text"), lambda: corpus.rename(corpus.with_name("moved.jsonl"))):
        change()
        assert opened(f"data.store={store}") == before
    assert opened(f"data.store={store}", f"data.source={corpus}", "data.vocab_size=300", "data.field=body") == before


def test_a_moved_source_is_recognised(store, corpus):
    moved = corpus.with_name("elsewhere")
    moved.mkdir()
    shutil.move(corpus, moved / corpus.name)
    assert opened(f"data.store={store}", f"data.source={moved / corpus.name}") == Prepared.open(store)


@pytest.mark.parametrize("override, words", [
    ("data.vocab_size=301", r"data\.vocab_size \(made with 300, now 301\)"), ("data.seed=4", r"data\.seed \(made with 3, now 4\)"),
    ("data.valid_fraction=0.1", r"data\.valid_fraction"), ("data.source=other.jsonl", r"data\.source \(made with '.*corpus\.jsonl', now 'other\.jsonl'\)"),
    ("data.source=python-docs", r"data\.source"), ("data.tokenizer=gone.json", r"data\.tokenizer"), ("data.field=text", r"data\.field \(made with 'body'"),
    ("data.valid_source=python-docs", r"data\.valid_source"),
])  # fmt: skip
@pytest.mark.parametrize("gone", [False, True])
def test_a_store_made_with_other_settings_is_refused(store, corpus, override, words, gone):
    if gone:
        corpus.unlink()
    with pytest.raises(ValueError, match=rf"prepared with other settings; different: .*{words}.*data\.store alone"):
        opened(f"data.store={store}", override)


def test_a_changed_source_is_refused_if_it_is_given(store, corpus):
    corpus.write_text(corpus.read_text() + '{"body": "more"}\n')
    with pytest.raises(ValueError, match="A source differs when its files were changed"):
        opened(f"data.store={store}", f"data.source={corpus}")


def test_a_config_takes_missing_settings_from_its_store(store, corpus):
    data = with_store(load_config(overrides=[f"data.store={store}", "data.block_size=16"])).data
    assert (data.source, data.field, data.vocab_size, data.valid_fraction, data.seed) == (
        str(corpus),
        "body",
        300,
        0.2,
        3,
    )
    assert data.block_size == 16 and data.unit is None
    assert Recipe.read(store).source == str(corpus)
    assert with_store(load_config(overrides=["data.store=nowhere"])).data.source == "python-docs"


def test_a_given_tokenizer_may_be_deleted(corpus, tmp_path, tokenizer):
    tokenizer.save(tmp_path / "mine")
    made = prepare(Source.parse(corpus, field="body"), tmp_path / "store", tokenizer=tmp_path / "mine", workers=1)
    shutil.rmtree(tmp_path / "mine")
    assert opened(f"data.store={tmp_path / 'store'}", f"data.tokenizer={tmp_path / 'mine'}") == made
    made = prepare(Source.parse(corpus, field="body"), tmp_path / "object", tokenizer=tokenizer, workers=1)
    assert with_store(load_config(overrides=[f"data.store={tmp_path / 'object'}"])).data.tokenizer is None
    assert opened(f"data.store={tmp_path / 'object'}") == made


def test_two_seeds_share_one_store_and_one_held_out_set(corpus, tmp_path):
    words = (f"data.source={corpus}", "data.field=body", "data.vocab_size=300", f"data.store={tmp_path / 'store'}")
    first = opened(*words, "seed=1")
    assert opened(*words, "seed=2") == first
    with pytest.raises(ValueError, match=r"data\.seed \(made with 0, now 2\)"):
        opened(*words, "data.seed=2")
